"""J and K: many channels with one subscriber each, like the notifications of users."""

from dataclasses import dataclass

import load
import peers
import servers
from subject import Measured, Subject

NAME = "users"


@dataclass
class Shape:
    """Number of channels, each with one subscriber, and events per second of all channels together."""

    channels: int
    rate: float
    seconds: float


def measure(place, server, shape, creates=False):
    """Publishes to all channels in turn; with `creates` first one event to each, which creates it."""
    root = server.streams[0]
    server.streams = [f"{root}?channel={NAME}.{number}" for number in range(shape.channels)]
    figures, found, reports = {}, [], {}
    phases = [("creating_", shape.channels / shape.rate)] if creates else []
    for prefix, seconds in [*phases, ("", shape.seconds)]:
        measured = _measure(place, server, shape, seconds)
        figures |= {prefix + name: value for name, value in measured.figures.items()}
        found += measured.problems
        reports[prefix or "steady"] = measured.reports
    return Measured(figures, found, reports)


def _measure(place, server, shape, seconds):
    with (
        place.directory("tools") as directory,
        load.Subscribers(place, server, directory, shape.channels) as subscribers,
    ):
        subscribers.wait_open()
        before = server.cpu()
        published = load.publish(
            place, server, directory, rate=shape.rate, seconds=seconds, channels=(NAME, shape.channels)
        )
        subscribers.wait_events(published["acknowledged"])
        cpu = server.cpu() - before
        subscribed = subscribers.finish()
    latency = subscribed["latency"]
    figures = {
        "cpu_us": 1e6 * cpu.total / published["acknowledged"],
        "user_us": 1e6 * cpu.user / published["acknowledged"],
        "rate": published["rate_achieved"],
        **{f"delivery_{name}_ms": latency[f"{name}_us"] / 1e3 for name in ("p50", "p99", "p99_9", "max")},
        "publish_p99_ms": published["latency_us"]["p99"] / 1e3,
    }
    return Measured(figures, problems(subscribed, published, subscribers), {"published": published})


def problems(subscribed, published, subscribers):
    """Returns the errors of a run. No channel has all events of a publisher, so only the totals are compared."""
    found = []
    streaming, streams = subscribed["connections"]["streaming_at_the_end"], subscribers.count
    if streaming != streams:
        found.append(f"{streaming} of {streams} streams at the end")
    if subscribed["gaps"]:
        found.append(f"gaps were reported: {subscribed['gaps']}")
    came, acknowledged = subscribed["events"]["total"] - subscribers.before, published["acknowledged"]
    if not acknowledged <= came <= acknowledged + published["unknown"]:
        found.append(f"{acknowledged} deliveries were due, {came} were made")
    return found


def _of(start, shape, creates=False):
    def run(place):
        with start(place) as server:
            return measure(place, server, shape, creates)

    return run


def _all(options, shape, creates=False):
    ours = [
        Subject(
            "ours" if broker == "memory" else f"ours {broker}",
            _of(lambda place, b=broker: servers.ours(place, broker=b), shape, creates),
        )
        for broker in options.brokers
    ]
    return [*ours, Subject("floor", _of(servers.floor, shape, creates))] + options.peers(
        Subject("nchan", _of(peers.nchan, shape, creates))
    )


def j(options):
    """1 000 channels with one subscriber each, 10 000 events/s together: what an event to one socket costs."""
    return _all(options, Shape(options.few(1000), options.few(10_000), options.seconds))


def k(options):
    """9 000 channels with one subscriber each, one event per second to each; before that, the channels are created."""
    channels = options.few(9000)
    return _all(options, Shape(channels, channels, options.seconds), creates=True)
