"""`scripts/characterise`: describes what the three programs do, and compares two builds of them."""

import difflib
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import cross
import options as command_line
import processes
import redis_server
import renames
import run
import transcript


def report(text):
    print(text, file=sys.stderr, flush=True)


class Description:
    """What a build does, scene by scene; or what an earlier run wrote to a file."""

    def __init__(self, source, work, options):
        self.source = source
        self._work = work
        self._options = options
        self._runs = 0
        if source.is_file():
            self.scenes = self._read(source.read_text())
        else:
            self.scenes = self._run(None)

    def text(self):
        return "".join(self.scenes.values())

    def run_again(self, titles):
        """Describes some scenes once more. What was read from a file stays as it is."""
        if not self.source.is_file():
            self.scenes.update(self._run(titles))

    def _run(self, titles):
        started = time.monotonic()
        self._runs += 1
        text = run.describe(self.source, self._work / f"run-{self._runs}", self._options, titles)
        seconds = time.monotonic() - started
        report(f"{self.source}: {text.count('### ')} cases in {seconds:.0f} s")
        return self._read(text)

    def _read(self, text):
        return transcript.scenes(renames.apply(text) if self._options.normalise else text)


def differing(old, new, options):
    """Returns the texts, old and new, of the scenes in which two descriptions differ."""
    found = {}
    # Scene by scene, because the time for a difference grows with the square of the length.
    for title in dict.fromkeys([*old.scenes, *new.scenes]):
        texts = [description.scenes.get(title, "") for description in (old, new)]
        if options.ignore_wording:
            texts = [transcript.without_wording(text) for text in texts]
        if texts[0] != texts[1]:
            found[title] = texts
    return found


def compare(old, new, options):
    """Prints the differences between two descriptions; returns whether they are equal.

    On a busy machine a timeout may change a scene. So scenes that differ are run again, and only
    what differs each time is a difference.
    """
    found = differing(old, new, options)
    for _ in range(options.again if found else 0):
        report(f"running again what differs: {'; '.join(found)}")
        for description in (old, new):
            description.run_again(list(found))
        found = differing(old, new, options)
        if not found:
            break
    for title, texts in found.items():
        lines = [text.splitlines(keepends=True) for text in texts]
        names = [f"{description.source}: {title}" for description in (old, new)]
        sys.stdout.writelines(difflib.unified_diff(*lines, *names, n=5))
    return not found


def carry_out(options, work):
    """Does what the command line asks for; returns the exit code."""
    redis_server.check_version()
    if options.cross:
        return cross.run(options, work)
    new = Description(options.bin, work / "new", options)
    if options.output:
        options.output.write_text(new.text())
    if options.compare_with is None:
        return 0
    is_equal = compare(Description(options.compare_with, work / "old", options), new, options)
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
