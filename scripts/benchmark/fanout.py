"""A, B, C, N and R: many subscribers at a steady rate; measures the cost and latency of a delivery."""

from dataclasses import dataclass

import load
import peers
import servers
from subject import Measured, Subject


@dataclass
class Shape:
    """Number of subscribers, and events per second."""

    subscribers: int
    rate: float
    seconds: float


def measure(place, server, shape, patience=load.TIMEOUT_S, flags=()):
    """Publishes at a steady rate to open streams; `flags` are for the subscribers."""
    with (
        place.directory("tools") as directory,
        load.Subscribers(place, server, directory, shape.subscribers, list(flags), patience) as subscribers,
    ):
        subscribers.wait_open()
        before = server.cpu()
        published = load.publish(place, server, directory, rate=shape.rate, seconds=shape.seconds)
        deliveries = published["acknowledged"] * shape.subscribers
        subscribers.wait_events(deliveries)
        cpu = server.cpu() - before
        subscribed = subscribers.finish()
    latency = subscribed["latency"]
    return Measured(
        {
            "cpu_us": 1e6 * cpu.total / deliveries,
            "user_us": 1e6 * cpu.user / deliveries,
            "deliveries": deliveries,
            "rate": published["rate_achieved"],
            **{f"delivery_{name}_ms": latency[f"{name}_us"] / 1e3 for name in ("p50", "p99", "p99_9", "max")},
            "publish_p50_ms": published["latency_us"]["p50"] / 1e3,
            "publish_p99_ms": published["latency_us"]["p99"] / 1e3,
            "subscribers": shape.subscribers,
            "connect_s": subscribed["open"]["max_us"] / 1e6,
        },
        load.problems(subscribed, published, subscribers),
        {"published": published, "subscribed": subscribed},
    )


def _of(start, shape, **how):
    def run(place):
        with start(place) as server:
            if how.get("filters"):
                # Half of the streams filter by type, with all published types, so they use a separate view.
                server.streams.append(f"{server.streams[0]}?event=view&event=click&event=close")
            return measure(place, server, shape, flags=how.get("flags", ()))

    return run


def _own(shape, *flags, filters=False):
    """sse-server in memory and with the durable log, and the floor, all with the same coalescing."""
    return [
        Subject("ours", _of(lambda place: servers.ours(place, *flags), shape, filters=filters)),
        Subject("floor", _of(lambda place: servers.floor(place, *flags), shape)),
        Subject(
            "ours durable", _of(lambda place: servers.ours(place, *flags, broker="durable"), shape, filters=filters)
        ),
    ]


def a(options):
    """1 000 subscribers × 50 events/s, a write for each: what a delivery costs.

    Flask-SSE cannot serve 1 000 subscribers. For Flask-SSE, and for sse-server and the floor in the same comparison,
    there are 100 subscribers × 30 events/s.
    """
    shape = Shape(options.few(1000), 50, options.seconds)
    small = Shape(100, 30, options.seconds)
    return _own(shape, "--coalesce", "0") + options.peers(
        Subject("nchan", _of(peers.nchan, shape)),
        Subject("actix-web-lab", _of(peers.actix_lab, shape)),
        Subject("flask-sse", _of(peers.flask_sse, small)),
        Subject("ours for flask-sse", _of(lambda place: servers.ours(place, "--coalesce", "0"), small)),
        Subject("floor for flask-sse", _of(lambda place: servers.floor(place, "--coalesce", "0"), small)),
    )


def b(options):
    """10 000 subscribers × 10 events/s: how long a delivery and a publish take on a server with much to do."""
    shape = Shape(options.few(10_000), 10, options.seconds)
    return _own(shape, filters=True) + options.peers(
        Subject("nchan", _of(peers.nchan, shape)), Subject("actix-web-lab", _of(peers.actix_lab, shape))
    )


def c(options):
    """20 subscribers × 3 000 events/s: many events for few."""
    shape = Shape(20, options.few(3000), options.seconds)
    return _own(shape) + options.peers(
        Subject("nchan", _of(peers.nchan, shape)), Subject("actix-web-lab", _of(peers.actix_lab, shape))
    )


def n(options):
    """A over TLS: 1 000 subscribers × 50 events/s, a write for each."""
    shape = Shape(options.few(1000), 50, options.seconds)
    nchan = Subject("nchan", _of(lambda place: peers.nchan(place, tls=True), shape))
    return _tls_and_plain(shape) + options.peers(nchan)


def r(options):
    """1 000 subscribers × 50 events/s over HTTP/2, with 10 streams on each of 100 connections."""
    return _tls_and_plain(Shape(options.few(1000), 50, options.seconds), flags=("--http2-streams", 10))


def _tls_and_plain(shape, flags=()):
    own = ("--coalesce", "0")
    return [
        Subject("ours", _of(lambda place: servers.ours(place, *own, tls=True), shape, flags=flags)),
        Subject("ours plain", _of(lambda place: servers.ours(place, *own), shape)),
    ]
