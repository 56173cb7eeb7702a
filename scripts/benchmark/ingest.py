"""F: events per second that are accepted, without subscribers."""

import re
import urllib.request

import load
import peers
import servers
from subject import Measured, Subject

PUBLISHERS = 64
MANY = 512
BATCH = 100
# Events that a channel keeps by default. This many are read back and checked.
KEPT = 100_000


def measure(place, server, seconds, single=PUBLISHERS, batch=None, check=None):
    """Measures publishers that each send when they have the previous response: single events, then batches."""
    figures, found, reports = {}, [], {}
    with place.directory("tools") as directory:
        for name, size, publishers in (("single", 1, single), ("batch", BATCH, batch)):
            if publishers:
                taken = load.publish(
                    place, server, directory, rate="max", seconds=seconds, batch=size, concurrency=publishers
                )
                figures[f"{name}_per_s"] = taken["acknowledged"] / taken["duration_s"]
                figures[f"{name}_p99_ms"] = taken["latency_us"]["p99"] / 1e3
                reports[name] = taken
                if taken["acknowledged"] != taken["sent"] or not taken["acknowledged"]:
                    found.append(f"{name}: of {taken['sent']} events {taken['acknowledged']} were acknowledged")
        if check:
            found += check(place, server, directory, sum(taken["acknowledged"] for taken in reports.values()))
    return Measured(figures, found, reports)


def read_back(place, server, directory, acknowledged):
    """Returns the errors of the log: a wrong count, or missing numbers among the events that it still has."""
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=10) as answer:
        metrics = answer.read().decode()
    counted = int(re.search(r"^sse_events_published_total (\d+)", metrics, re.MULTILINE)[1])
    found = (
        [] if counted == acknowledged else [f"{acknowledged} events were acknowledged, the server counted {counted}"]
    )
    kept = min(acknowledged, KEPT)
    server.streams = [f"{server.url}/stream?from=oldest"]
    with load.Subscribers(place, server, directory, 1) as reader:
        reader.before = 0
        if not reader.wait_events(kept):
            found.append(f"of {kept} events in the log not all could be read")
        subscribed = reader.finish()
    published = {"acknowledged": kept, "unknown": acknowledged - kept}
    return found + load.problems(subscribed, published, reader)


def _of(start, seconds, **how):
    def run(place):
        with start(place) as server:
            return measure(place, server, seconds, **how)

    return run


def f(options):
    """64 publishers as fast as they can: single events, and batches of 100; without subscribers.

    The floor does the minimum for a response to a POST. The durable log also has 512 publishers.
    """
    seconds = options.seconds
    ours = [
        Subject(
            f"ours {broker}",
            _of(lambda place, b=broker: servers.ours(place, broker=b), seconds, batch=PUBLISHERS, check=read_back),
        )
        for broker in options.brokers
    ]
    many = _of(lambda place: servers.ours(place, broker="durable"), seconds, single=MANY, check=read_back)
    return [
        *ours,
        Subject("floor", _of(lambda place: servers.floor(place, threads=0), seconds, batch=PUBLISHERS)),
        Subject("ours durable 512 publishers", many),
    ] + options.peers(
        Subject("nchan", _of(peers.nchan, seconds)),
        Subject("actix-web-lab", _of(peers.actix_lab, seconds)),
        Subject("flask-sse", _of(peers.flask_sse, seconds)),
    )
