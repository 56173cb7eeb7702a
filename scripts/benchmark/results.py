"""The result files: one JSON file per scenario, with the unchanged data of every run."""

import json
import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import procfs

ROOT = Path(__file__).resolve().parents[2]


def now():
    """Returns the current time, readable for people and programs."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def machine():
    """Returns a description of the machine."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * procfs.PAGE_BYTES / 2**30, 1),
        "kernel": platform.release(),
        "open_files": os.sysconf("SC_OPEN_MAX"),
    }


def versions(options):
    """Returns the versions of everything that is measured."""
    commands = {
        "commit": ["git", "-C", ROOT, "describe", "--always", "--dirty", "--abbrev=12"],
        "rustc": ["rustc", "--version"],
        "redis-server": [os.environ.get("REDIS_SERVER", "redis-server"), "--version"],
    }
    if options.has_peers:
        peers = "import importlib.metadata as m; print(*(f'{p} {m.version(p)}' for p in "
        peers += "('flask', 'flask-sse', 'gunicorn', 'gevent', 'redis')), sep=', ')"
        commands["nginx"] = [os.environ["NGINX"], "-v"]
        commands["nchan"] = ["dpkg-query", "-W", "libnginx-mod-nchan"]
        commands["python"] = [os.environ["PYTHON"], "-c", peers]
        commands["actix-web-lab"] = ["cargo", "pkgid", "actix-web-lab"]
    texts = {name: _first_output(command) for name, command in commands.items()}
    plain = ("commit", "python")
    return {name: text if name in plain else _version(text) for name, text in texts.items() if text}


def _version(text):
    found = re.search(r"\d+(\.\d+)+[^\s,]*", text)
    return found[0] if found else text


def _first_output(command):
    try:
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return (done.stdout + done.stderr).strip().splitlines()[0]


class Results:
    """The runs of a scenario."""

    def __init__(self, options, letter, title, about):
        self.path = options.out / f"{letter}.json"
        self.data = {"scenario": letter, "title": title, **about, "seconds": options.seconds, "quick": options.is_quick}
        self.data["runs"] = []
        if options.adds and self.path.exists():
            self.data["runs"] = json.loads(self.path.read_text())["runs"]
        self.first_run = 1 + max((run["run"] for run in self.data["runs"]), default=0)

    def add(self, run, subject, measured, others_cores):
        """Adds a measurement and writes the file, so that an interrupted series keeps its results."""
        self.data["runs"].append(
            {
                "run": run,
                "subject": subject,
                "at": now(),
                "figures": measured.figures,
                "problems": measured.problems,
                "others_cores": round(others_cores, 3),
                "reports": measured.reports,
            }
        )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(self.data, indent=1) + "\n")
        partial.replace(self.path)


def read_all(out):
    """Returns all scenarios that have results, by letter."""
    files = sorted(out.glob("*.json"))
    return {data["scenario"]: data for data in (json.loads(path.read_text()) for path in files)}
