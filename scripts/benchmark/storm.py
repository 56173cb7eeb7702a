"""G and P: all connections break at once, and all clients reconnect with their last event id."""

import time

import load
import peers
import servers
from subject import Measured, Subject

# A low rate, so that the storm dominates the load.
RATE = 2
# Publishes to another channel, whose latency during the storm is measured.
BESIDE_RATE = 100
BESIDE_S = 6.0


def measure(place, server, count, seconds, has_history=True, beside=False):
    """Cuts all streams once while events are published; with `beside`, also to a channel without streams."""
    # Cut after all streams have been open for a while, with enough time to reconnect before the end.
    every = 3.0 + count / 1250
    other = None
    with place.directory("tools") as directory:
        flags = ["--cut-every", f"{every:.1f}s", "--cut-share", "100%"]
        with load.Subscribers(place, server, directory, count, flags) as subscribers:
            cut_at = time.monotonic() + every
            subscribers.wait_open(every - 0.5)
            if beside:
                time.sleep(max(0.0, cut_at - 0.5 - time.monotonic()))
                other = load.Publishers(
                    place,
                    server,
                    directory,
                    name="beside",
                    rate=BESIDE_RATE,
                    seconds=BESIDE_S,
                    channels=("beside", 1),
                )
            published = load.publish(place, server, directory, rate=RATE, seconds=max(seconds, every))
            subscribers.program.until(lambda: subscribers.progress()[0] == count, "all to be back", 60.0)
            if has_history:
                subscribers.wait_events(published["acknowledged"] * count)
            subscribed = subscribers.finish()
            meanwhile = other.report() if other else None
    back = subscribed["back_after_cut"]
    found = load.problems(subscribed, published, subscribers, lost_while_away=not has_history)
    if back["count"] < count:
        found.append(f"{back['count']} of {count} came back")
    figures = {f"back_{name}_s": back[f"{name}_us"] / 1e6 for name in ("p50", "p99", "max")}
    figures |= {"resumed": subscribed["connects"]["resumed_with_id"], "subscribers": count}
    reports = {"published": published, "subscribed": subscribed}
    if meanwhile:
        figures["meanwhile_publish_p99_ms"] = meanwhile["latency_us"]["p99"] / 1e3
        reports["beside"] = meanwhile
    return Measured(figures, found, reports)


def _of(start, count, options, **how):
    def run(place):
        with start(place) as server:
            return measure(place, server, count, options.seconds, **how)

    return run


def g(options):
    """10 000 subscribers are cut at once and resume: how long until all are streaming again.

    The floor has no history. It shows how long reconnecting takes, and missed events do not count against it.
    """
    count = options.few(10_000)
    return [
        Subject("ours", _of(servers.ours, count, options)),
        Subject("floor", _of(servers.floor, count, options, has_history=False)),
        Subject("ours durable", _of(lambda place: servers.ours(place, broker="durable"), count, options)),
    ] + options.peers(Subject("nchan", _of(peers.nchan, count, options)))


def p(options):
    """G over TLS, with a full handshake for each stream; beside it, 100 events/s to a channel without streams."""
    count = options.few(10_000)

    def over_tls(place):
        return servers.ours(place, tls=True)

    return [
        Subject("ours", _of(over_tls, count, options, beside=True)),
        Subject("ours plain", _of(servers.ours, count, options, beside=True)),
    ] + options.peers(Subject("nchan", _of(lambda place: peers.nchan(place, tls=True), count, options, beside=True)))
