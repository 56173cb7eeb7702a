"""The command line of `scripts/characterise`."""

import argparse
from pathlib import Path

PROGRAMS = ("sse-server", "listener", "event-generator")
_EPILOG = """\
Every line of the text begins with a sign: > a request, < a response, | a stream, = another fact,
~ wording for people. Ids, times, ports and paths are placeholders, so that two runs of one build
give the same text.

Exit codes: 0 done and no difference, 1 a difference or a failure, 2 misused.
"""


def parse(arguments):
    """Returns the options; ends the program if they are misused."""
    parser = argparse.ArgumentParser(
        prog="scripts/characterise",
        description="Describes what the three programs do as one text, and compares two builds.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--bin",
        type=_programs,
        required=True,
        metavar="DIRECTORY",
        help="where the three programs are",
    )
    add("--output", type=Path, metavar="FILE", help="write the text to this file")
    add(
        "--compare-with",
        type=_programs_or_file,
        metavar="DIRECTORY|FILE",
        help="print how --bin differs from another build, or from what --output wrote before",
    )
    add(
        "--normalise",
        action="store_true",
        help="write the new names of renames.py in place of old ones",
    )
    add("--ignore-wording", action="store_true", help="compare without the lines that begin with ~")
    add("--cross", action="store_true", help="let --bin and --other go on with each other's data")
    add("--other", type=_programs, metavar="DIRECTORY", help="the other build for --cross")
    add("--only", metavar="PATTERN", help="only scenes whose title matches this regular expression")
    add(
        "--jobs",
        type=int,
        default=4,
        metavar="N",
        help="run this many scenes at a time (default 4)",
    )
    add(
        "--again",
        type=int,
        default=2,
        metavar="N",
        help="run scenes that differ this many times more before they count (default 2)",
    )
    add("--keep", action="store_true", help="keep the working directory, with the programs' logs")
    options = parser.parse_args(arguments)
    if options.cross != (options.other is not None):
        parser.error("--cross and --other go together")
    if not (options.cross or options.output or options.compare_with):
        parser.error("give --output, --compare-with or --cross")
    return options


def _programs(text):
    directory = Path(text).resolve()
    for name in PROGRAMS:
        if not (directory / name).is_file():
            raise argparse.ArgumentTypeError(f"there is no {name} in {text}")
    return directory


def _programs_or_file(text):
    return Path(text) if Path(text).is_file() else _programs(text)
