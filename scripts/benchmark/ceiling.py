"""E and O: the highest sustainable rate."""

import fanout
import load
import peers
import processes
import servers
from subject import Measured, Subject

SUBSCRIBERS = 1000
P99_MS_MAX = 1000.0
# A rate is sustained if at least this share of it was achieved.
ACHIEVED_MIN = 0.98
# The search ends when the lowest failed rate is at most this many times the highest sustained rate.
CLOSE_ENOUGH = 1.15
RATE_MAX = 60_000
PEERS_TIMEOUT_S = 5.0


def climb(holds, start, rate_max=RATE_MAX):
    """Returns the highest sustained rate. Doubles or halves the rate until it is bracketed, then bisects."""
    good, bad, rate = 0.0, float(rate_max), float(start)
    while rate >= max(1, start / 64):
        good, bad = (rate, bad) if holds(rate) else (good, rate)
        if good and bad / good <= CLOSE_ENOUGH:
            break
        rate = (good * 2 if good * 2 < bad else (good * bad) ** 0.5) if good else rate / 2
    return good


class Climb:
    """The rates that were tried, each on a new server, and their results."""

    def __init__(self, place, start, subscribers, seconds, patience):
        self.place, self.start = place, start
        self.subscribers, self.seconds, self.patience = subscribers, seconds, patience
        self.steps = []

    def holds(self, rate):
        """Returns True if the server sustains the rate."""
        shape = fanout.Shape(self.subscribers, round(rate), self.seconds)
        try:
            with self.start(self.place) as server:
                measured = fanout.measure(self.place, server, shape, self.patience)
        except processes.Failed as error:
            self.steps.append({"asked": shape.rate, "held": False, "problems": [str(error).splitlines()[0]]})
            return False
        figures = measured.figures
        is_held = (figures["rate"] or 0) >= rate * ACHIEVED_MIN and figures["delivery_p99_ms"] < P99_MS_MAX
        is_held = is_held and not measured.problems
        self.steps.append({**figures, "asked": shape.rate, "held": is_held, "problems": measured.problems})
        return is_held


def _of(start, rate, options, subscribers=SUBSCRIBERS, is_peer=False):
    def run(place):
        # A peer that falls behind has not sustained the rate. sse-server must deliver everything, however late.
        patience = PEERS_TIMEOUT_S if is_peer else load.TIMEOUT_S
        climb_of = Climb(place, start, options.few(subscribers), min(options.seconds, 5.0), patience)
        highest = climb(climb_of.holds, 50, 100) if options.is_quick else climb(climb_of.holds, rate)
        best = next((step for step in climb_of.steps if step["held"] and step["asked"] == round(highest)), {})
        figures = {"deliveries_per_s": highest * climb_of.subscribers, "subscribers": climb_of.subscribers}
        figures |= {name: best[name] for name in ("delivery_p99_ms", "cpu_us", "publish_p99_ms") if best}
        # sse-server must not lose events even above its highest rate. A peer may; its highest rate is then lower.
        problems = [] if is_peer else [problem for step in climb_of.steps for problem in step["problems"]]
        return Measured(figures, problems, {"steps": climb_of.steps})

    return run


def e(options):
    """The highest rate held at 1 000 subscribers: 98 % of it achieved, with the p99 of a delivery below 1 s.

    For Flask-SSE there are 100 subscribers.
    """
    slow = ("--coalesce", "20ms")
    return [
        Subject("ours", _of(servers.ours, 1600, options)),
        Subject("floor", _of(servers.floor, 1600, options)),
        Subject("ours 20 ms", _of(lambda place: servers.ours(place, *slow), 4000, options)),
        Subject("floor 20 ms", _of(lambda place: servers.floor(place, *slow), 4000, options)),
        Subject("ours durable", _of(lambda place: servers.ours(place, broker="durable"), 1600, options)),
        Subject("ours durable 20 ms", _of(lambda place: servers.ours(place, *slow, broker="durable"), 4000, options)),
    ] + options.peers(
        Subject("nchan", _of(peers.nchan, 75, options, is_peer=True)),
        Subject("actix-web-lab", _of(peers.actix_lab, 340, options, is_peer=True)),
        Subject("flask-sse", _of(peers.flask_sse, 40, options, subscribers=100, is_peer=True)),
    )


def o(options):
    """E over TLS: the highest rate held at 1 000 subscribers, with the default of 5 ms."""
    return [
        Subject("ours", _of(lambda place: servers.ours(place, tls=True), 800, options)),
        Subject("ours plain", _of(servers.ours, 1600, options)),
    ]
