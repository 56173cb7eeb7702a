"""Programs that the benchmark starts: their output goes to files, and none outlives the benchmark."""

import subprocess
import time

_running = []


class Failed(Exception):
    """A program failed; the text includes its output."""


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

    def output(self):
        """Returns the end of the program's output."""
        return "".join(tail(path, 4096) for path in (self.out, self.err))

    def until(self, condition, what, seconds=30.0, every=0.02):
        """Waits while the program runs until `condition` returns a true value, and returns that value."""
        end = time.monotonic() + seconds
        while not (value := condition()):
            if self.process.poll() is not None:
                raise Failed(f"{self.name} ended with {self.process.returncode} before {what}:\n{self.output()}")
            if time.monotonic() > end:
                raise Failed(f"{self.name}: waited {seconds:.0f} s for {what}:\n{self.output()}")
            time.sleep(every)
        return value

    def finish(self, seconds):
        """Waits until the program ends by itself; returns its exit code."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} did not end within {seconds:.0f} s:\n{self.output()}") from None
        _running.remove(self)
        return code

    def stop(self, seconds=20.0):
        """Sends SIGTERM, and SIGKILL if the program does not end; returns its exit code."""
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
    """Returns the last bytes of a file, as text."""
    with open(path, "rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - size))
        return file.read().decode("utf-8", "replace")


def run(name, command, directory, seconds):
    """Runs a program to its end, and fails unless it succeeds."""
    program = Program(name, command, directory)
    if (code := program.finish(seconds)) != 0:
        raise Failed(f"{name} ended with {code}:\n{program.output()}")


def stop_all():
    """Stops all running programs, the newest first."""
    for program in reversed(_running[:]):
        program.stop()
