"""`scripts/characterise`: describes what the three programs do, and compares two builds of them."""

import difflib
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import options as command_line
import processes
import redis_server
import renames
import run
import transcript


def report(text):
    print(text, file=sys.stderr, flush=True)


def described(source, work, options):
    """Returns the description of some programs, or what an earlier run wrote to a file."""
    if source.is_file():
        text = source.read_text()
    else:
        started = time.monotonic()
        text = run.describe(source, work, options)
        report(f"{source}: {text.count('### ')} cases in {time.monotonic() - started:.0f} s")
    return renames.apply(text) if options.normalise else text


def compare(old, new, options):
    """Prints the differences between two texts; returns whether they are equal."""
    if options.ignore_wording:
        old, new = (transcript.without_wording(text) for text in (old, new))
    scenes = [transcript.scenes(text) for text in (old, new)]
    # Scene by scene, because the time for a difference grows with the square of the length.
    for title in dict.fromkeys([*scenes[0], *scenes[1]]):
        lines = [texts.get(title, "").splitlines(keepends=True) for texts in scenes]
        names = [f"{source}: {title}" for source in (options.compare_with, options.bin)]
        sys.stdout.writelines(difflib.unified_diff(*lines, *names, n=5))
    return old == new


def carry_out(options, work):
    """Does what the command line asks for; returns the exit code."""
    redis_server.check_version()
    if options.cross:
        import cross

        return cross.run(options, work)
    text = described(options.bin, work / "new", options)
    if options.output:
        options.output.write_text(text)
    if options.compare_with is None:
        return 0
    is_equal = compare(described(options.compare_with, work / "old", options), text, options)
    report("no difference" if is_equal else "the two differ")
    return 0 if is_equal else 1


def main():
    options = command_line.parse(sys.argv[1:])
    # A stop from outside ends what was started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    work = Path(tempfile.mkdtemp(prefix="characterise-"))
    try:
        return carry_out(options, work)
    except processes.Failed as error:
        report(f"characterise: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        processes.stop_all()
        if options.keep:
            report(f"kept {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
