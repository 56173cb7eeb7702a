"""L and M: the lives of channels, and a million of them."""

import json
import os
import signal
import time
import urllib.request

import servers
from processes import Failed, Program
from subject import Measured, Subject

PUBLISHERS = 64
MILLION = 1_000_000
# Allocators return temporary memory only after a while (jemalloc: ten seconds).
SETTLING_S = 25.0
OPENING_MAX_S = 120.0
# From one address a client may create seven eighths of what is free, and all publishers have one.
LIMIT_FACTOR = 2


def _load(place, server, directory, mode, seconds, *flags):
    """Runs the publishers of `examples/lifecycles.rs` to their end, and returns their report."""
    command = [place.bin / "examples" / "lifecycles", mode, server.url.removeprefix("http://")]
    command += ["--publishers", PUBLISHERS, *flags]
    program = Program("lifecycles", command, directory, servers.plain_environment())
    if (code := program.finish(seconds)) != 0:
        raise Failed(f"lifecycles ended with {code}:\n{program.output()}")
    return json.loads(program.out.read_text())


def _metric(server, name):
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=30) as response:
        for line in response.read().decode().splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
    raise Failed(f"no metric {name}")


def _lives(place, broker, seconds):
    with servers.ours(place, broker=broker) as server, place.directory("tools") as directory:
        data = place.work / "server" / "data"
        figures, found, reports = {}, [], []
        # Memory and file after a third of the time, and at the end.
        for third in range(3):
            taken = _load(
                place, server, directory, "live", seconds + 60, "--duration", f"{max(1, round(seconds / 3))}s"
            )
            reports.append(taken | {"resident_b": server.resident_bytes(), "file_b": _size(data)})
            if not taken["done"]:
                found.append(f"no channel lived in part {third}")
        done, spent = (sum(report[name] for report in reports) for name in ("done", "seconds"))
        figures |= {
            "lives_per_s": done / spent,
            "resident_growth_b": (reports[-1]["resident_b"] - reports[0]["resident_b"]) / done,
            "file_growth_b": (reports[-1]["file_b"] - reports[0]["file_b"]) / done,
            "cpu_us": 1e6 * server.cpu().total / done,
        }
        until = time.monotonic() + 30
        while (left := _metric(server, "sse_channels")) and time.monotonic() < until:
            time.sleep(0.2)
        if left:
            found.append(f"{left:.0f} closed channels did not expire")
    return Measured(figures, found, {"parts": reports})


def _size(directory):
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file()) if directory.exists() else 0


def _create(place, server, directory, channels):
    empty = server.resident_bytes()
    taken = _load(place, server, directory, "create", 3600, "--channels", channels)
    part, spent = taken["part"], taken["seconds"]
    first = part / (taken["first_us"] / 1e6)
    last = part / (spent - taken["last_us"] / 1e6)
    time.sleep(min(SETTLING_S, channels / 1000))
    figures = {
        "created_per_s": taken["done"] / spent if taken["done"] <= channels else 0,
        "last_to_first": last / first,
        "resident_b": (server.resident_bytes() - empty) / channels,
        "cpu_us": 1e6 * server.cpu().total / channels,
    }
    found = []
    if (stored := _metric(server, "sse_channels")) != channels:
        found.append(f"{stored:.0f} of {channels} channels were created")
    return figures, found, taken


def _million(place, broker, channels):
    flags = ["--channels-max", LIMIT_FACTOR * channels]
    with servers.ours(place, *flags, broker=broker) as server, place.directory("tools") as directory:
        figures, found, taken = _create(place, server, directory, channels)
        if broker == "durable":
            command = _command(place, flags)
            server.program.stop()
            figures["file_b"] = _size(place.work / "server" / "data") / channels
            for name, end in (("clean", signal.SIGTERM), ("killed", signal.SIGKILL)):
                seconds, problem = _open(place, command, end, directory, channels)
                figures[f"opening_{name}_s"] = seconds
                found += problem
    return Measured(figures, found, {"created": taken})


def _command(place, flags):
    return [
        *(place.bin / "sse-server", "--bind", "127.0.0.1:0", "--log", "warn"),
        *("--data-dir", place.work / "server" / "data"),
        *flags,
    ]


def _open(place, command, end, directory, channels):
    """Opens the log after its server ended with a signal. Returns the seconds, and errors."""
    if end == signal.SIGKILL:
        with _opened(command, directory) as (server, _):
            # A commit in between, so that there is something to repair.
            _load(place, server, directory, "create", 60, "--channels", 1)
            channels += 1
            os.kill(server.program.pid, signal.SIGKILL)
            server.program.process.wait()
    with _opened(command, directory) as (server, seconds):
        stored = _metric(server, "sse_channels")
    return seconds, [] if stored == channels else [f"{stored:.0f} of {channels} channels after {end.name}"]


class _opened:
    """A server that is started, and how long it took until it listened."""

    def __init__(self, command, directory):
        self.command, self.directory = command, directory

    def __enter__(self):
        since = time.monotonic()
        program = Program("reopened", self.command, self.directory, servers.plain_environment())
        url = program.until(lambda: program.out.read_text().strip(), "it said its URL", OPENING_MAX_S)
        self.server = servers.Server(program, url, [])
        return self.server, time.monotonic() - since

    def __exit__(self, *_):
        self.server.program.stop(60.0)


def l(options):  # noqa: E743
    """The life of a channel, again and again: 50 events in 5 batches, the end, read once from the start, expiry."""
    return [
        Subject(f"ours {broker}", lambda place, b=broker: _lives(place, b, 3 * options.seconds))
        for broker in ("memory", "durable")
    ]


def m(options):
    """A million channels with random names and one event each, created by 64 publishers."""
    channels = options.few(MILLION)
    return [
        Subject(f"ours {broker}", lambda place, b=broker: _million(place, b, channels))
        for broker in ("memory", "durable")
    ]
