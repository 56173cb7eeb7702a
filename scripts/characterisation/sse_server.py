"""The server under description: started on a free port, and stopped or killed by its process id."""

import functools
import itertools
import json
import subprocess
import time

from processes import Failed, Process, plain_environment
from redis_server import DURABLE, RedisServer
from wire import exchange, request_bytes

BROKERS = ("embedded", "memory", "redis")
# The limit of open streams has this flag in newer builds, and that one in older ones.
_STREAMS_MAX = ("--streams-max", "--max-subscribers")
# The same for the flag that lets pages of an origin publish.
_PUBLISH_ORIGIN = ("--publish-origin", "--cors-origin")


@functools.cache
def _flag_of(program, names):
    """Returns the first of the flags that the program has."""
    command = [program, "--help"]
    text = subprocess.run(command, capture_output=True, text=True, env=plain_environment()).stdout
    flag = next((flag for flag in names if flag in text), None)
    if flag is None:
        raise Failed(f"{program} --help names none of {names}")
    return flag


def streams_max_flag(program):
    """Returns the name of the flag that limits open streams."""
    return _flag_of(program, _STREAMS_MAX)


def publish_origin_flag(program):
    """Returns the name of the flag that lets pages of an origin publish."""
    return _flag_of(program, _PUBLISH_ORIGIN)


def streams_max_variable(program):
    """Returns the name of the variable of `streams_max_flag`."""
    return "SSE_" + streams_max_flag(program).removeprefix("--").upper().replace("-", "_")


class Server:
    """An sse-server process. Its address stays the same when it is started again."""

    _numbers = itertools.count(1)

    def __init__(self, program, directory, broker_flags, flags=(), environment=None):
        self._program = program
        self.directory = directory
        self._flags = [*broker_flags, *flags]
        self._environment = environment
        self._name = f"sse-server-{next(self._numbers)}"
        self._last_ms = 0
        self.redis = None
        self._launch("127.0.0.1:0")
        self.url = self.process.wait_until(self._printed_url, "the URL on stdout")
        self.address = self.url.removeprefix("http://")

    def _launch(self, bind):
        command = [self._program, *self._flags, "--bind", bind]
        self.process = Process(self._name, command, self.directory, self._environment)

    def _printed_url(self):
        text = self.process.output()
        return text.strip() if text.endswith("\n") else None

    def restart(self, program=None):
        """Starts the server again on its port and broker, or another build of it."""
        self._program = program or self._program
        self._launch(self.address)
        self.wait_until_live()

    def wait_until_live(self):
        self.process.wait_until(lambda: self.status("/health/live") == 200, "/health/live")

    def wait_until_ready(self):
        self.process.wait_until(lambda: self.status("/health/ready") == 200, "/health/ready")

    def kill(self):
        self.process.kill()

    def stop(self):
        return self.process.stop()

    def close(self):
        """Kills the server and the Redis that it brought, unless they have ended."""
        for process in (self.process, self.redis):
            if process and not process.has_ended():
                process.kill()

    def send(self, method, path, headers=(), body=None):
        """Sends a request that is not described, and returns its response."""
        request = request_bytes(method, path, headers, body, host=self.address)
        response = exchange(self.address, request, method)
        if response is None:
            raise Failed(f"no response to {method} {path}")
        return response

    def status(self, path):
        """Returns the status of a GET, or 0 if the server cannot be reached."""
        try:
            return self.send("GET", path).head.status
        except (OSError, Failed):
            return 0

    def json(self, path):
        """Returns the JSON that a GET is answered with; the status must be 200."""
        response = self.send("GET", path)
        if response.head.status != 200:
            raise Failed(f"GET {path}: {response.head.status_line} {response.body.decode()}")
        return json.loads(response.body)

    def publish(self, channel, kind, data, key=None):
        """Publishes text in a millisecond of its own, and returns its id."""
        self._await_next_ms()
        headers = [("content-type", "text/plain")]
        headers += [("idempotency-key", key)] if key else []
        response = self.send("POST", f"/event/{kind}?channel={channel}", headers, data.encode())
        if response.head.status != 200:
            raise Failed(
                f"publishing {data!r}: {response.head.status_line} {response.body.decode()}"
            )
        return json.loads(response.body)["id"]

    def history(self, channel):
        """Returns all events of a channel that are kept."""
        return self.json(f"/events?channel={channel}&limit=10000")["events"]

    def metric(self, *names):
        """Returns the sum of a metric's samples over all labels. A renamed one has two names."""
        lines = self.send("GET", "/metrics").body.decode().splitlines()
        samples = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
        return sum(float(value) for sample, value in samples if sample.split("{")[0] in names)

    def _await_next_ms(self):
        """Waits for another millisecond, so that ids differ in their time."""
        while int(time.time() * 1000) <= self._last_ms + 1:
            time.sleep(0.001)
        self._last_ms = int(time.time() * 1000)


def start(program, directory, broker, flags=(), environment=None, redis_flags=DURABLE):
    """Starts a server on a new and empty broker."""
    if broker == "redis":
        redis = RedisServer(directory, redis_flags)
        server = node(program, directory, redis, flags, environment)
        server.redis = redis
        return server
    broker_flags = ["--memory"] if broker == "memory" else ["--data-dir", directory / "data"]
    return Server(program, directory, broker_flags, flags, environment)


def node(program, directory, redis, flags=(), environment=None):
    """Starts one more server on a Redis."""
    # Longer than the default, because a busy disk may hold up an answer; a flag beats it.
    environment = {"SSE_REDIS_TIMEOUT": "30s", **(environment or {})}
    return Server(program, directory, ["--redis-url", redis.url], flags, environment)
