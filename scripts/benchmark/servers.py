"""The servers that are measured: ours and the floor. The peers are in `peers`."""

import contextlib
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import procfs
from processes import Program

# No variable of ours may change what is measured.
OURS = ("SSE_", "LISTENER_", "GENERATOR_", "REDIS_URL")


def plain_environment(**more):
    """This environment without the settings of our programs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return {**kept, **more}


@dataclass
class Server:
    """A server that runs, and how it is spoken to."""

    program: Program
    url: str
    # Where streams are: `listener bench` opens them in turn.
    streams: list
    # Flags of `event-generator` for a server that is not ours.
    publishing: list = field(default_factory=list)
    # It sends no response head before the first event.
    opens_with_event: bool = False

    def cpu(self):
        """CPU of all its processes."""
        return sum((procfs.cpu(pid) for pid in procfs.tree(self.program.pid)), procfs.Cpu())

    def resident_bytes(self):
        """Memory of all its processes."""
        return sum(procfs.resident_bytes(pid) for pid in procfs.tree(self.program.pid))

    def open_files(self):
        """Files and sockets of all its processes."""
        return sum(procfs.open_files(pid) for pid in procfs.tree(self.program.pid))


@dataclass
class Place:
    """Where the programs are, where a run may write, and how many threads fan out."""

    bin: Path
    work: Path
    fanout_threads: int

    @contextlib.contextmanager
    def directory(self, name):
        """A new directory, on the disk that the results are on; removed afterwards."""
        directory = self.work / name
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def saying_its_url(name, command, directory, **how):
    """A program that says its URL on stdout."""
    program = Program(name, command, directory, plain_environment())
    try:
        url = program.until(lambda: program.out.read_text().strip(), "it said its URL")
        yield Server(program, url, [f"{url}/stream"], **how)
    finally:
        program.stop()


@contextlib.contextmanager
def ours(place, *flags, broker="memory"):
    """sse-server with its default settings but for `flags`; the broker is `memory`, `durable` or `redis`."""
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(place.directory("server"))
        if broker == "redis":
            where = ["--redis-url", f"redis+unix://{stack.enter_context(redis(directory))}"]
        else:
            where = {"memory": ["--memory"], "durable": ["--data-dir", directory / "data"]}[broker]
        command = [place.bin / "sse-server", "--bind", "127.0.0.1:0", "--log", "warn", *where, *flags]
        yield stack.enter_context(saying_its_url("sse-server", command, directory))


@contextlib.contextmanager
def floor(place, *flags, threads=None):
    """The cheapest server there could be, with as many fan-out threads as ours."""
    with place.directory("server") as directory:
        threads = place.fanout_threads if threads is None else threads
        command = [place.bin / "examples" / "floor", "--threads", threads, *flags]
        with saying_its_url("floor", command, directory) as server:
            yield server


@contextlib.contextmanager
def redis(directory, *flags):
    """A redis-server; by default its data is in an append-only file, synced each second, as Redis advises."""
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
