"""`examples/bytewax`: its counts are those of the generator's record, whatever is killed."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import case
import packages
from packages import EXAMPLES
from processes import Process

CHANNEL = "visits"
KILLS = 10
EVENTS = 40_000
# The longest time that the last run may take for what is left.
FINISH_S = 120


class Bytewax(case.Case):
    def setUp(self):
        self.packages = packages.bytewax_packages()
        self.folder = Path(tempfile.mkdtemp(prefix="interop-bytewax-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.addCleanup(self.stop_processes)
        for file in (EXAMPLES / "bytewax").iterdir():
            shutil.copy(file, self.folder)
        self.hub = self.start_hub(self.folder, broker="embedded")

    def environment(self, more=None):
        programs = Path(os.environ[case.BIN_VARIABLE])
        path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
        hub = {"HUB": self.hub.url, "PATH": path, "PYTHONPATH": str(self.packages)}
        return {**hub, "CHANNEL": CHANNEL, **(more or {})}

    def generate(self):
        """Starts a generator that records what was acknowledged."""
        program = Path(os.environ[case.BIN_VARIABLE]) / "event-generator"
        events = ("--payload", "session", "--rate", "2000", "--count", str(EVENTS))
        record = ("--record", "sent.ndjson", "--retry", "20")
        command = [program, "--url", self.hub.url, "--channel", CHANNEL, *events, *record]
        return Process("generator", command, self.folder)

    def start_flow(self, number, until=None):
        command = [sys.executable, "-m", "bytewax.run", "flow", "-r", "recovery", "-s", "1", "-b", "0"]
        environment = self.environment({"UNTIL": until} if until else None)
        return Process(f"flow-{number}", command, self.folder, environment)

    def rows(self, table):
        """Returns the table of the results; empty if the dataflow has not made it yet."""
        file = self.folder / "results.sqlite"
        if not file.exists():
            return {}
        connection = sqlite3.connect(file, timeout=30)
        try:
            return dict(connection.execute(f"SELECT key, count FROM {table}"))
        except sqlite3.OperationalError:
            return {}
        finally:
            connection.close()

    def history(self):
        """Returns all events, page by page."""
        events, more, start = [], True, "from=oldest"
        while more:
            page = self.hub.json(f"/events?channel={CHANNEL}&limit=10000&{start}")
            events += page["events"]
            more, start = page["more"], f"last_event_id={page['next']}"
        return events

    def expected(self):
        """Counts what the record names, with the data that the hub has under these ids."""
        lines = (self.folder / "sent.ndjson").read_text().splitlines()
        acknowledged = [json.loads(line) for line in lines]
        self.assertEqual({line["outcome"] for line in acknowledged}, {"acknowledged"})
        stored = {event["id"]: json.loads(event["data"]) for event in self.history()}
        self.assertEqual(len(acknowledged), EVENTS)
        clicks, sessions = Counter(), defaultdict(set)
        for line in acknowledged:
            visit = stored[line["id"]]
            sessions[visit["user_id"]].add(visit["session_id"])
            if visit["action"] == "click":
                clicks[f"{visit['page']} {visit['timestamp'][:16]}"] += 1
        return dict(clicks), {user: len(ids) for user, ids in sessions.items()}

    def test_the_commands_of_the_page(self):
        page = (EXAMPLES / "bytewax" / "README.md").read_text()
        commands = page.split("```sh\n")[1].split("```")[0]
        environment = {**os.environ, **self.environment()}
        done = subprocess.run(
            ["sh", "-e", "-c", commands],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=FINISH_S,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        clicks = sum(event["event"] == "click" for event in self.history())
        self.assertGreater(clicks, 0)
        self.assertEqual(sum(self.rows("clicks").values()), clicks)

    def test_ten_kills_cost_no_count(self):
        recovery = [sys.executable, "-m", "bytewax.recovery", "recovery", "1"]
        (self.folder / "recovery").mkdir()
        self.assertEqual(Process("recovery", recovery, self.folder, self.environment()).finish(), 0)
        generator = self.generate()
        for number in range(KILLS):
            before = sum(self.rows("clicks").values())
            flow = self.start_flow(number)
            flow.wait_until(lambda: sum(self.rows("clicks").values()) > before, "more clicks")
            flow.kill()
            if number == KILLS // 2:
                self.hub.kill()
                self.hub.restart()
        self.assertEqual(generator.finish(FINISH_S), 0)
        last = self.history()[-1]["id"]
        code = self.start_flow("last", until=last).finish(FINISH_S)
        self.assertEqual(code, 0)
        clicks, sessions = self.expected()
        self.assertEqual(self.rows("clicks"), clicks)
        self.assertEqual(self.rows("sessions"), sessions)
