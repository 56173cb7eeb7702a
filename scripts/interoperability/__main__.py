"""Runs the server with real proxies and real clients."""

import argparse
import os
import signal
import sys
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
# The processes, the server and HTTP over plain sockets are those of the characterisation.
sys.path[:0] = [str(HERE), str(HERE.parent / "characterisation")]

import case  # noqa: E402
import packages  # noqa: E402
import processes  # noqa: E402

# `scripts/test` prints the lines of this file at its end.
SKIPPED_VARIABLE = "TEST_SKIPPED_LOG"


def parse(arguments):
    parser = argparse.ArgumentParser(prog="scripts/interop", description=__doc__)
    parser.add_argument("--bin", type=Path, required=True, help="folder with the sse-server")
    parser.add_argument("--packages", type=Path, required=True, help="folder for clients' packages")
    parser.add_argument("-k", dest="patterns", action="append", help="run cases that match")
    return parser.parse_args(arguments)


def report_skipped(skipped):
    """Prints each case that could not run, and appends it to the file that the environment names."""
    lines = [f"skipped: {test.id()}: {reason}\n" for test, reason in skipped]
    sys.stderr.writelines(lines)
    if path := os.environ.get(SKIPPED_VARIABLE):
        with open(path, "a", encoding="utf-8") as file:
            file.writelines(lines)


def main():
    options = parse(sys.argv[1:])
    # A stop from outside ends what was started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.environ[case.BIN_VARIABLE] = str(options.bin.resolve())
    os.environ[packages.FOLDER_VARIABLE] = str(options.packages.resolve())
    loader = unittest.TestLoader()
    if options.patterns:
        loader.testNamePatterns = [f"*{pattern}*" for pattern in options.patterns]
    suite = loader.discover(str(HERE), top_level_dir=str(HERE))
    try:
        result = unittest.TextTestRunner(verbosity=2).run(suite)
    finally:
        processes.stop_all()
    report_skipped(result.skipped)
    return 0 if result.wasSuccessful() and result.testsRun else 1


if __name__ == "__main__":
    sys.exit(main())
