"""D, M and Q: the cost of an idle subscriber."""

import time

import load
import peers
import procfs
import servers
from subject import Measured, Subject

# Allocators return temporary memory only after a while (jemalloc: ten seconds).
SETTLING_S = 30.0
# Connect slowly. In a burst, temporary memory of the server would count as the subscribers' own.
CONNECTS_A_SECOND = 2000


def measure(place, server, count, seconds, flags=()):
    """Compares memory before and after opening streams, then publishes to check that all streams are alive."""
    with place.directory("tools") as directory:
        # Allocate everything that the server allocates only once.
        load.publish(place, server, directory, rate=50, count=5)
        time.sleep(min(SETTLING_S / 6, seconds))
        before = _memory(server)
        ramp = ["--ramp", f"{count / CONNECTS_A_SECOND:.1f}s", *flags]
        with load.Subscribers(place, server, directory, count, ramp) as subscribers:
            subscribers.wait_open(300.0)
            time.sleep(min(SETTLING_S, 3 * seconds))
            resident, buffers, slab = (now - then for now, then in zip(_memory(server), before, strict=True))
            cpu, since = server.cpu(), time.monotonic()
            time.sleep(seconds)
            idle_cores = (server.cpu() - cpu).total / (time.monotonic() - since)
            published = load.publish(place, server, directory, rate=5, count=3)
            subscribers.wait_events(published["acknowledged"] * count)
            subscribed = subscribers.finish()
    return Measured(
        {
            "resident_b": resident / count,
            "socket_buffers_b": buffers / count,
            "kernel_objects_b": slab / count,
            "idle_cpu_percent": 100 * idle_cores,
            "subscribers": count,
        },
        load.problems(subscribed, published, subscribers),
        {"published": published, "subscribed": subscribed},
    )


def _memory(server):
    return server.resident_bytes(), procfs.socket_buffer_bytes(), procfs.slab_bytes()


def _of(start, count, seconds, flags=()):
    def run(place):
        with start(place) as server:
            return measure(place, server, count, seconds, flags)

    return run


def d(options):
    """Resident memory for each of 19 000 idle subscribers (a process may open 20 000 files).

    For Flask-SSE there are 1 000: with more subscribers, even the few events of the check are too many.
    """
    count, seconds = options.few(19_000), options.seconds
    limit = _limit(count)
    return [
        Subject("ours", _of(lambda place: servers.ours(place, *limit), count, seconds)),
        Subject("floor", _of(servers.floor, count, seconds)),
        Subject("ours durable", _of(lambda place: servers.ours(place, *limit, broker="durable"), count, seconds)),
    ] + options.peers(
        Subject("nchan", _of(peers.nchan, count, seconds)),
        Subject("actix-web-lab", _of(peers.actix_lab, count, seconds)),
        Subject("flask-sse", _of(peers.flask_sse, min(count, 1000), seconds)),
    )


def u(options):
    """Resident memory for each of 10 000 idle subscribers over TLS."""
    count, seconds = options.few(10_000), options.seconds
    limit = _limit(count)
    return [
        Subject("ours", _of(lambda place: servers.ours(place, *limit, tls=True), count, seconds)),
        Subject("ours plain", _of(lambda place: servers.ours(place, *limit), count, seconds)),
    ] + options.peers(Subject("nchan", _of(lambda place: peers.nchan(place, tls=True), count, seconds)))


def q(options):
    """Resident memory for each idle subscriber over HTTP/2: 5 000 connections with one, and 100 with 100 each."""
    alone, many, seconds = options.few(5000), options.few(10_000), options.seconds

    # A client may have nine tenths of the streams, and over HTTP/2 each of its connections counts as one more.
    limit = ("--streams-max", 3 * many, "--client-connections-max", many)

    def over_tls(place):
        return servers.ours(place, *limit, tls=True)

    def nchan(place):
        return peers.nchan(place, tls=True)

    return [
        Subject("ours", _of(over_tls, alone, seconds, ("--http2-streams", 1))),
        Subject("ours 100 per connection", _of(over_tls, many, seconds, ("--http2-streams", 100))),
    ] + options.peers(
        Subject("nchan", _of(nchan, alone, seconds, ("--http2-streams", 1))),
        Subject("nchan 100 per connection", _of(nchan, many, seconds, ("--http2-streams", 100))),
    )


def _limit(count):
    # By default the server reserves a tenth of the files for publishers, and another one for other clients.
    return ("--streams-max", count, "--client-connections-max", count)
