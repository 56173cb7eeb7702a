"""The command line."""

import argparse
import os
import re
from dataclasses import dataclass
from pathlib import Path

QUICK_SECONDS = 0.5
EPILOG = """\
examples:
  scripts/bench --scenario A,D --peers       two scenarios, with the other servers beside ours
  scripts/bench --scenario E --runs 1 --add  one more run of a long one
  scripts/bench --soak 10m                   5 000 subscribers that come and go
  scripts/bench --quick                      does it work? The figures mean nothing

Every run checks that each subscriber got each event once and in order. Exit code 1 if ours or the floor lost anything,
or if something could not be run, or if the soak leaks. Results: target/bench/*.json and target/bench/table.md;
docs/benchmarks.md explains them.
"""


@dataclass
class Options:
    """The options of a benchmark: what to measure, and for how long."""

    scenarios: list
    runs: int
    seconds: float
    is_quick: bool
    has_peers: bool
    adds: bool
    only: list
    soak_s: float
    bin: Path
    out: Path

    def few(self, number):
        """Returns `number`, or far fewer in a quick run."""
        return max(20, number // 200) if self.is_quick else number

    def peers(self, *subjects):
        """Returns the subjects if peers are to be measured, or an empty list."""
        return list(subjects) if self.has_peers else []

    @property
    def brokers(self):
        """The brokers for the ingest scenario."""
        return ["memory", "durable", "redis"]


def parse(arguments, known):
    """Parses the command line; `known` are the letters of the scenarios."""
    parser = argparse.ArgumentParser(
        "scripts/bench",
        description="Measures sse-server beside a floor and beside other servers.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=EPILOG,
    )
    letters = "".join(known)
    parser.add_argument("--scenario", default=",".join(known), help=f"which of {letters}, like A,B (default: all)")
    parser.add_argument("--runs", type=int, default=None, help="runs of each; the table has medians (default: 3)")
    parser.add_argument("--seconds", type=float, default=None, help="how long each measurement lasts (default: 10)")
    parser.add_argument(
        "--peers", action="store_true", help="measure Nchan, actix-web-lab and Flask-SSE too; installs them"
    )
    parser.add_argument("--only", default="", help="only these servers, like 'ours,floor'")
    parser.add_argument("--add", action="store_true", help="add the runs to those of before, instead of beginning anew")
    parser.add_argument("--quick", action="store_true", help="few connections, half a second each, one run")
    parser.add_argument("--soak", metavar="TIME", help="nothing but the soak, so long: 10m, 90s")
    parser.add_argument("--debug", action="store_true", help="with debug builds")
    parser.add_argument("--bin", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument(
        "--out", type=Path, default=Path("target/bench"), help="where results go (default: target/bench)"
    )
    given = parser.parse_args(arguments)
    scenarios = [letter.strip().upper() for letter in given.scenario.split(",")]
    if unknown := [letter for letter in scenarios if letter not in known]:
        parser.error(f"there is no scenario {', '.join(unknown)}; there are {letters}")
    if given.runs is not None and given.runs < 1:
        parser.error("--runs must be at least 1")
    if given.seconds is not None and not 0.5 <= given.seconds <= 600:
        parser.error("--seconds must be from 0.5 to 600")
    return Options(
        scenarios=["soak"] if given.soak else scenarios,
        runs=given.runs or (1 if given.quick or given.soak else 3),
        seconds=given.seconds or (QUICK_SECONDS if given.quick else 10.0),
        is_quick=given.quick,
        has_peers=given.peers,
        adds=given.add,
        only=[name.strip() for name in given.only.split(",") if name.strip()],
        soak_s=_duration(given.soak, parser) if given.soak else 0.0,
        bin=given.bin.resolve(),
        out=given.out,
    )


def fanout_threads():
    """Returns sse-server's default number of fan-out threads: half the cores, at least one."""
    return max(1, len(os.sched_getaffinity(0)) // 2)


def _duration(text, parser):
    found = re.fullmatch(r"(\d+)(s|m|h)", text)
    if not found or (seconds := int(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]) < 1:
        parser.error("--soak must be a time, like 10m or 90s")
    return float(seconds)
