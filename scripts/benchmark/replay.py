"""H: one subscriber reads a long history."""

import load
import servers
from subject import Measured, Subject

EVENTS = 1_000_000
BATCH = 1000
DATA_BYTES = 200


def measure(place, server, count):
    """Publishes events, and then opens one stream that reads them all."""
    server.streams = [f"{server.url}/stream?from=oldest"]
    with place.directory("tools") as directory:
        published = load.publish(
            place, server, directory, rate="max", count=count, batch=BATCH, concurrency=16, data=DATA_BYTES
        )
        before = server.cpu()
        with load.Subscribers(place, server, directory, 1, ["--count", count]) as reader:
            reader.before = 0
            reader.program.finish(180.0)
            cpu = server.cpu() - before
            subscribed = reader.read()
    # The reader closes a stream that has received everything.
    subscribed["connections"]["streaming_at_the_end"] += subscribed["ended_by"] == "count"
    figures = {
        "replayed_per_s": subscribed["events"]["per_second"],
        "cpu_us": 1e6 * cpu.total / subscribed["events"]["total"],
        "first_byte_ms": subscribed["first_byte"]["max_us"] / 1e3,
        "events": count,
    }
    found = load.problems(subscribed, published, reader)
    return Measured(figures, found, {"published": published, "subscribed": subscribed})


def _of(start, count):
    def run(place):
        with start(place) as server:
            return measure(place, server, count)

    return run


def h(options):
    """One subscriber reads 1 000 000 events of 200 bytes from history.

    The floor has all events in memory, ready to send.
    """
    count = EVENTS if not options.is_quick else 20 * BATCH
    keep = ("--history-events", count + 1000, "--history-bytes", "8GiB")
    ours = [
        Subject(f"ours {broker}", _of(lambda place, b=broker: servers.ours(place, *keep, broker=b), count))
        for broker in options.brokers
    ]
    return [*ours, Subject("floor", _of(servers.floor, count))]
