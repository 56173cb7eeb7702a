"""Programs that the benchmark starts: their output goes to files, and none of them outlives it."""

import subprocess
import time

_running = []


class Failed(Exception):
    """A program did not do what it was started for; the text says what it said."""


class Program:
    """A running program. Its stdout is `NAME.out` and its stderr `NAME.err` in the directory."""

    def __init__(self, name, command, directory, env=None):
        self.name = name
        self.out = directory / f"{name}.out"
        self.err = directory / f"{name}.err"
        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            self.process = subprocess.Popen(
                [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=env
            )
        _running.append(self)

    @property
    def pid(self):
        return self.process.pid

    def said(self):
        """What it has written, the end of it."""
        return "".join(tail(path, 4096) for path in (self.out, self.err))

    def until(self, condition, what, seconds=30.0, every=0.02):
        """Waits for a condition that is not nothing, as long as the program runs."""
        end = time.monotonic() + seconds
        while not (value := condition()):
            if self.process.poll() is not None:
                raise Failed(f"{self.name} ended with {self.process.returncode} before {what}:\n{self.said()}")
            if time.monotonic() > end:
                raise Failed(f"{self.name}: waited {seconds:.0f} s for {what}:\n{self.said()}")
            time.sleep(every)
        return value

    def finish(self, seconds):
        """Waits until it ends by itself; its exit code."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} did not end within {seconds:.0f} s:\n{self.said()}") from None
        _running.remove(self)
        return code

    def stop(self, seconds=20.0):
        """Asks it to end, insists if need be; its exit code."""
        if self not in _running:
            return self.process.returncode
        self.process.terminate()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        _running.remove(self)
        return self.process.returncode


def tail(path, size):
    """The last bytes of a file, as text."""
    with open(path, "rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - size))
        return file.read().decode("utf-8", "replace")


def run(name, command, directory, seconds):
    """Runs a program to its end; it has to succeed."""
    program = Program(name, command, directory)
    if (code := program.finish(seconds)) != 0:
        raise Failed(f"{name} ended with {code}:\n{program.said()}")


def stop_all():
    """Ends what is still running, the newest first."""
    for program in reversed(_running[:]):
        program.stop()
