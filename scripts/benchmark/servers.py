"""The project's own servers: sse-server and the floor. The peers are in `peers`."""

import contextlib
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import certificates
import procfs
from processes import Program

# The project's environment variables must not change what is measured.
OURS = ("SSE_", "LISTENER_", "GENERATOR_", "REDIS_URL")


def plain_environment(**more):
    """Returns this environment without the settings of the project's programs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return {**kept, **more}


@dataclass
class Server:
    """A running server, and how clients connect to it."""

    program: Program
    url: str
    # URLs of the streams, which `listener bench` opens in turn.
    streams: list
    # Flags of `event-generator` for servers other than sse-server.
    publishing: list = field(default_factory=list)
    # Flags of `listener bench`.
    subscribing: list = field(default_factory=list)
    # The server sends no response head before the first event.
    opens_with_event: bool = False

    def publish_over_tls(self):
        """Publishes to the address over TLS, too."""
        self.url = self.streams[0].removesuffix("/stream")
        self.publishing = [*self.publishing, "--insecure"]

    def cpu(self):
        """Returns the CPU time of all processes of the server."""
        return sum((procfs.cpu(pid) for pid in procfs.tree(self.program.pid)), procfs.Cpu())

    def resident_bytes(self):
        """Returns the memory of all processes of the server."""
        return sum(procfs.resident_bytes(pid) for pid in procfs.tree(self.program.pid))

    def open_files(self):
        """Returns the number of files and sockets of all processes of the server."""
        return sum(procfs.open_files(pid) for pid in procfs.tree(self.program.pid))


@dataclass
class Place:
    """Paths of the programs and of a work directory, and the number of fan-out threads."""

    bin: Path
    work: Path
    fanout_threads: int

    @contextlib.contextmanager
    def directory(self, name):
        """Creates a directory on the disk of the results, and removes it afterwards."""
        directory = self.work / name
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def saying_its_url(name, command, directory, **how):
    """Starts a program that prints its URL on stdout. With a second one, streams are opened there."""
    program = Program(name, command, directory, plain_environment())
    try:
        urls = program.until(lambda: program.out.read_text().split(), "it said its URL")
        yield Server(program, urls[0], [f"{urls[-1]}/stream"], **how)
    finally:
        program.stop()


@contextlib.contextmanager
def ours(place, *flags, broker="memory", tls=False):
    """Starts sse-server with default settings except for `flags`; the broker is `memory`, `durable` or `redis`.

    With `tls`, streams are opened over TLS, at a second address. Publishers always use plain HTTP.
    """
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(place.directory("server"))
        if broker == "redis":
            where = ["--redis-url", f"redis+unix://{stack.enter_context(redis(directory))}"]
        else:
            where = {"memory": ["--memory"], "durable": ["--data-dir", directory / "data"]}[broker]
        command = [place.bin / "sse-server", "--bind", "127.0.0.1:0", "--log", "warn", *where, *flags]
        how = {}
        if tls:
            certificate, key = certificates.create(directory)
            command += ["--bind", "https://127.0.0.1:0", "--tls-cert", certificate, "--tls-key", key]
            how["subscribing"] = ["--insecure"]
        yield stack.enter_context(saying_its_url("sse-server", command, directory, **how))


@contextlib.contextmanager
def floor(place, *flags, threads=None):
    """Starts the cheapest possible server, with as many fan-out threads as sse-server."""
    with place.directory("server") as directory:
        threads = place.fanout_threads if threads is None else threads
        command = [place.bin / "examples" / "floor", "--threads", threads, *flags]
        with saying_its_url("floor", command, directory) as server:
            yield server


@contextlib.contextmanager
def redis(directory, *flags):
    """Starts a redis-server; by default with an append-only file that is synced each second, as Redis advises."""
    program = os.environ.get("REDIS_SERVER", "redis-server")
    socket = directory / "redis.sock"
    command = [
        program,
        "--port",
        "0",
        "--unixsocket",
        socket,
        "--dir",
        directory,
        "--save",
        "",
        "--maxclients",
        "50000",
    ]
    server = Program("redis", [*command, *(flags or ("--appendonly", "yes"))], directory)
    try:
        server.until(socket.exists, "it listened")
        yield socket
    finally:
        server.stop()
