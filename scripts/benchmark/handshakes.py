"""S: TLS handshakes that their clients do not continue; measures the effect on publishers."""

import sys
from pathlib import Path

import load
import servers
from processes import Program
from subject import Measured, Subject

STALLED = 1000
RATE = 500
PUBLISHERS = 64
CLIENTS = Path(__file__).with_name("stalled_handshakes.py")


def measure(place, server, options, directory, stalled):
    """Measures publishers beside this many handshakes that do not continue."""
    command = [sys.executable, CLIENTS, server.streams[0], "--count", stalled]
    clients = Program("stalled-handshakes", command, directory)
    try:
        clients.until(lambda: "open" in clients.out.read_text(), "all handshakes have begun", 60.0)
        rate = RATE if not options.is_quick else 50
        taken = load.publish(place, server, directory, rate=rate, seconds=options.seconds, concurrency=PUBLISHERS)
        found = []
        if taken["acknowledged"] != taken["sent"] or not taken["acknowledged"]:
            found.append(f"of {taken['sent']} events {taken['acknowledged']} were acknowledged")
        if clients.process.poll() is not None:
            found.append(f"the clients ended: {clients.output()}")
        return taken, found
    finally:
        clients.stop()


def _of(options, over_tls):
    def run(place):
        figures, problems, reports = {}, [], {}
        with place.directory("handshakes") as directory:
            for name, stalled in (("without", 0), ("with", options.few(STALLED))):
                # Both have all their connections from one address.
                limit = ("--client-connections-max", 4 * STALLED)
                with servers.ours(place, *limit, tls=True) as server:
                    if over_tls:
                        server.publish_over_tls()
                    taken, found = measure(place, server, options, directory, stalled)
                figures[f"publish_p99_ms_{name}"] = taken["latency_us"]["p99"] / 1e3
                figures[f"publish_p50_ms_{name}"] = taken["latency_us"]["p50"] / 1e3
                problems += [f"{name} stalled handshakes: {problem}" for problem in found]
                reports[name] = taken
        figures["publish_p99_ms_ratio"] = figures["publish_p99_ms_with"] / figures["publish_p99_ms_without"]
        return Measured(figures, problems, reports)

    return run


def s(options):
    """64 publishers × 500 events/s, with and without 1 000 TLS handshakes that their clients do not continue."""
    return [Subject("ours", _of(options, over_tls=True)), Subject("ours plain", _of(options, over_tls=False))]
