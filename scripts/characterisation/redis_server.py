"""A real redis-server on a free port, and just enough of its protocol (RESP2) to drive it."""

import os
import re
import socket
import subprocess

from processes import Failed, Process, wait_until
from wire import connect

# An append-only file that is written before each answer: no acknowledged event is lost.
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
# No file but the one that SAVE writes: a kill loses what came after it.
SNAPSHOTS = ("--appendonly", "no")
_STARTS_MAX = 20


class RedisError(Exception):
    """An error that Redis answered."""


def program():
    return os.environ.get("REDIS_SERVER", "redis-server")


def check_version():
    """Fails unless there is a redis-server that will do."""
    try:
        text = subprocess.run([program(), "--version"], capture_output=True, text=True).stdout
    except OSError as error:
        raise Failed(
            f"redis-server 7.0 or later is needed ($REDIS_SERVER, or from PATH): {error}"
        ) from None
    version = re.search(r"v=(\d+)", text)
    if not version or int(version[1]) < 7:
        raise Failed(f"redis-server 7.0 or later is needed, and this is {text.strip()}")


def free_port():
    """Returns a port that no program uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class RedisServer:
    """A redis-server of this run, which can be killed and started again on its port and files."""

    def __init__(self, directory, flags=DURABLE):
        self._directory = directory
        self._flags = flags
        for _ in range(_STARTS_MAX):
            self.port = free_port()
            if self._start():
                return
        raise Failed("redis-server does not start:\n" + self._process.output())

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @property
    def url(self):
        return f"redis://{self.address}"

    def _start(self):
        """Starts the process; returns whether it answers on its port."""
        command = [program(), "--port", self.port, "--bind", "127.0.0.1", "--save", ""]
        # One event a node, so that `MAXLEN ~` trims exactly.
        command += ["--dir", self._directory, "--stream-node-max-entries", "1", *self._flags]
        self._process = Process("redis", command, self._directory)
        return wait_until(lambda: self._process.has_ended() or self._answers(), "Redis") == "ours"

    def _answers(self):
        """Returns "ours" once this very process has loaded its files and answers."""
        try:
            is_ours = f"process_id:{self._process.pid}\r" in self.command("INFO", "server")
            return "ours" if is_ours and self.command("PING") == "PONG" else None
        except (OSError, RedisError, Failed):
            return None

    def command(self, *words):
        """Sends one command and returns the answer: `str`, `int`, `list` or `None`."""
        parts = [str(word).encode() for word in words]
        request = b"*%d\r\n" % len(parts)
        request += b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
        with connect(self.address) as connection, connection.makefile("rb") as answers:
            connection.sendall(request)
            return _read_answer(answers)

    def entries(self, stream):
        """Returns all entries of a stream: ids, and fields with their values."""
        return self.command("XRANGE", stream, "-", "+")

    def freeze(self):
        self._process.freeze()

    def thaw(self):
        self._process.thaw()

    def has_ended(self):
        return self._process.has_ended()

    def kill(self):
        self._process.kill()

    def restart(self):
        """Starts it again; a connection of the last run may hold the port for a moment."""
        wait_until(self._start, "Redis to start again")


def _read_answer(answers):
    line = answers.readline()
    if not line.endswith(b"\r\n"):
        raise Failed(f"Redis ended the connection after {line!r}")
    kind, rest = line[:1], line[1:-2]
    if kind == b"-":
        raise RedisError(rest.decode())
    if kind == b"+":
        return rest.decode()
    if kind == b":":
        return int(rest)
    if kind == b"*":
        return [_read_answer(answers) for _ in range(int(rest))]
    length = int(rest)
    return None if length < 0 else answers.read(length + 2)[:-2].decode("utf-8", "backslashreplace")
