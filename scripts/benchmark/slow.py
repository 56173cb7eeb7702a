"""I: some subscribers read slowly or not at all; measures the effect on the others."""

import sys
from pathlib import Path

import fanout
import peers
import servers
from processes import Program
from subject import Measured, Subject

HEALTHY, SLOW, STOPPED = 100, 50, 50
RATE = 500
READERS = Path(__file__).with_name("slow_readers.py")


def measure(place, server, shape, directory, slow, stopped):
    """Measures healthy subscribers and publishers next to `slow` slow and `stopped` stopped readers."""
    flags = ["--slow", slow, "--stopped", stopped]
    readers = Program("slow-readers", [sys.executable, READERS, server.streams[0], *flags], directory)
    try:
        readers.until(lambda: "open" in readers.out.read_text(), "its streams to be open", 60.0)
        measured = fanout.measure(place, server, shape)
        if readers.process.poll() is not None:
            measured.problems.append(f"the slow readers ended: {readers.output()}")
        return measured
    finally:
        readers.stop()


def _of(start, options):
    shape = fanout.Shape(options.few(HEALTHY), RATE if not options.is_quick else 50, options.seconds)

    def run(place):
        figures, problems, reports = {}, [], {}
        with place.directory("readers") as directory:
            for name, slow, stopped in (("without", 0, 0), ("with", SLOW, STOPPED)):
                with start(place) as server:
                    measured = measure(place, server, shape, directory, slow, stopped)
                for figure in ("publish_p99_ms", "delivery_p99_ms", "delivery_p50_ms", "cpu_us", "rate"):
                    figures[f"{figure}_{name}"] = measured.figures[figure]
                problems += [f"{name} slow readers: {problem}" for problem in measured.problems]
                reports[name] = measured.reports
        for figure in ("publish_p99_ms", "delivery_p99_ms"):
            figures[f"{figure}_ratio"] = figures[f"{figure}_with"] / figures[f"{figure}_without"]
        return Measured(figures, problems, reports)

    return run


def i(options):
    """100 healthy subscribers × 500 events/s, with and without 50 that read 1 KB/s and 50 that have stopped reading."""
    return [
        Subject("ours", _of(servers.ours, options)),
        Subject("floor", _of(servers.floor, options)),
        Subject("ours durable", _of(lambda place: servers.ours(place, broker="durable"), options)),
    ] + options.peers(
        Subject("nchan", _of(peers.nchan, options)), Subject("actix-web-lab", _of(peers.actix_lab, options))
    )
