"""Child processes: output goes to files, waits have limits, and no process outlives the run."""

import os
import signal
import subprocess
import threading
import time

# Longer than anything takes on a slow machine; only a broken run waits for it.
TIMEOUT_S = 30.0
_POLL_S = 0.005
# Variables that the programs read; none of the caller's may change what is described.
_SETTINGS = ("SSE_", "LISTENER_", "GENERATOR_", "REDIS_URL")

_running = []
_lock = threading.Lock()


class Failed(Exception):
    """The run cannot continue; the text has what was expected and what happened instead."""


def wait_until(condition, what, seconds=TIMEOUT_S):
    """Returns the first true value of `condition`; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise Failed(f"waited {seconds:.0f} s for {what}")
        time.sleep(_POLL_S)
    return value


def plain_environment(more=None):
    """Returns this environment without the programs' settings and proxies, plus `more`."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_SETTINGS) and not name.lower().endswith("_proxy")
    }
    return {**kept, "NO_COLOR": "1", **(more or {})}


class Process:
    """A running program. `NAME.out` and `NAME.err` in `directory` have its output."""

    def __init__(self, name, command, directory, environment=None, stdin=subprocess.DEVNULL):
        self.name = name
        self.out = directory / f"{name}.out"
        self.err = directory / f"{name}.err"
        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            self._child = subprocess.Popen(
                [str(word) for word in command],
                stdin=stdin,
                stdout=out,
                stderr=err,
                cwd=directory,
                env=plain_environment(environment),
            )
        with _lock:
            _running.append(self)

    @property
    def pid(self):
        return self._child.pid

    def has_ended(self):
        return self._child.poll() is not None

    def errors(self):
        """Returns what the program has written to stderr."""
        return self.err.read_bytes().decode("utf-8", "backslashreplace")

    def output(self):
        """Returns what the program has written to stdout."""
        return self.out.read_bytes().decode("utf-8", "backslashreplace")

    def wait_until(self, condition, what):
        """Waits for a condition as long as the program runs."""

        def checked():
            # The condition comes first: a program may do its work and end.
            if value := condition():
                return value
            if self.has_ended():
                code = self._child.returncode
                raise Failed(f"{self.name} ended with {code} before {what}:\n{self.errors()}")
            return None

        return wait_until(checked, f"{self.name}: {what}")

    def finish(self, seconds=TIMEOUT_S):
        """Waits until the program ends by itself; returns its exit code."""
        try:
            code = self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failed(f"{self.name} did not end within {seconds:.0f} s") from None
        self._forget()
        return code

    def signal(self, number):
        self._child.send_signal(number)

    def freeze(self):
        """Stops the process until `thaw`; the kernel keeps its connections."""
        self.signal(signal.SIGSTOP)

    def thaw(self):
        self.signal(signal.SIGCONT)

    def kill(self):
        """Ends the process as `kill -9` does."""
        self._child.kill()
        self._child.wait()
        self._forget()

    def stop(self):
        """Asks the process to end; returns its exit code."""
        if self.has_ended():
            self._forget()
            return self._child.returncode
        self.thaw()
        self.signal(signal.SIGTERM)
        return self.finish()

    def _forget(self):
        with _lock:
            if self in _running:
                _running.remove(self)


def stop_all():
    """Kills the processes that are still running, the newest first."""
    with _lock:
        left = _running[::-1]
    for process in left:
        process.kill()
