"""One client against a hub whose stream is silent, moves its position, ends, and is cut."""

import json
import re
import shutil
import sys
import urllib.parse

import browser
import packages
from processes import Process, wait_until
from relay import Relay

# What the recipes of `examples/` subscribe to; the filter makes positions without events possible.
CHANNEL = "example"
STREAM = f"/stream?channel={CHANNEL}&event=step"
_ID_LINE = re.compile(rb"(?m)^id: (.*)$")


class NodeClient:
    """A program that Node runs, and the lines that it prints."""

    def __init__(self, program, directory, url):
        folder = directory / "node"
        shutil.copytree(packages.CLIENTS, folder)
        # Node looks for packages beside the program.
        (folder / "node_modules").symlink_to(packages.node_modules())
        shutil.copytree(packages.EXAMPLES, folder / "examples")
        self.process = Process("client", ["node", folder / program, url], directory)

    def lines(self):
        return self.process.output().splitlines()

    def close(self):
        if not self.process.has_ended():
            self.process.kill()


class PythonClient(NodeClient):
    """A program that Python runs, with the packages of the clients."""

    @staticmethod
    def environment():
        return {"PYTHONPATH": str(packages.python_packages())}

    def __init__(self, program, directory, url):
        folder = directory / "python"
        shutil.copytree(packages.CLIENTS, folder)
        shutil.copytree(packages.EXAMPLES, folder / "examples")
        command = [sys.executable, folder / program, url]
        self.process = Process("client", command, directory, self.environment())


class TutorialPythonClient(PythonClient):
    """A program that Python runs, with the packages of `scripts/requirements.txt`."""

    @staticmethod
    def environment():
        return {}


class PageClient:
    """A page in Chromium, and what it reports."""

    def __init__(self, program, directory, url):
        self._server = browser.PageServer(packages.node_modules())
        query = urllib.parse.urlencode({"client": program, "url": url})
        page = f"{self._server.url}/page.html?{query}"
        self.process = browser.start(directory, page)

    def lines(self):
        return list(self._server.reports)

    def close(self):
        self.process.kill()
        self._server.close()


class Trial:
    """A hub, a relay and a client. The steps follow each other; `observed` has what the client shows."""

    def __init__(self, hub, client_class, program, directory, url):
        self.hub = hub
        self.relay = Relay(hub.address)
        try:
            self.client = client_class(program, directory, self.relay.url + url)
        except BaseException:
            self.relay.close()
            raise
        self._connections = 0

    def close(self):
        self.client.close()
        self.relay.close()

    def observed(self):
        """Returns the events that the client has shown so far; programs may print other lines, too."""
        return [json.loads(line) for line in self.client.lines() if line.startswith("{")]

    def data(self):
        """Returns the data of all events that are not empty, from either form of output."""
        lines = self.client.lines()
        shown = [json.loads(line)["data"] if line[:1] == "{" else line.split(" ")[-1] for line in lines]
        return [data for data in shown if data]

    def stream(self):
        """Waits for the newest stream."""
        return self.relay.stream(self._connections)

    def be_silent(self):
        """Waits for heartbeats without a position; returns the position of the first block."""
        stream = self.stream()
        wait_until(lambda: stream.response.count(b"\r\n:\n") >= 3, "three comments")
        return positions(stream)[-1]

    def move_position(self):
        """Publishes an event that the filter skips; returns the position that the stream then sends."""
        event_id = self.hub.publish(CHANNEL, "other", "skipped")
        stream = self.stream()
        wait_until(lambda: event_id in positions(stream), "a block with the new position")
        return event_id

    def interrupt(self, end_stream, missed):
        """Ends the stream, and publishes an event before the client can reconnect."""
        self.stream()
        self.relay.hold()
        end_stream()
        self.hub.publish(CHANNEL, "step", missed)
        self._connections += 1
        self.relay.release()

    def restart_hub(self):
        """Ends the stream as the hub does: at the end of a block."""
        self.hub.stop()
        self.hub.restart()

    def cut(self):
        """Ends the connection of the stream."""
        self.stream().cut()

    def publish(self, data):
        """Publishes an event and waits until the client shows it; returns its id."""
        event_id = self.hub.publish(CHANNEL, "step", data)
        self.wait_for(data)
        return event_id

    def wait_for(self, data):
        wait_until(lambda: data in self.data(), f"the client to show {data}: {self.client.lines()}")

    def empty_events(self):
        """Returns how many events without data the client has shown."""
        return sum(not event["data"] for event in self.observed())

    def position_blocks(self):
        """Returns how many blocks with a position and without an event have passed."""
        blocks = [block for stream in self.relay.streams() for block in stream.response.split(b"\n\n")]
        return sum(bool(_ID_LINE.search(block)) and b"data:" not in block for block in blocks)


def positions(stream):
    """Returns the ids that have passed on a stream."""
    return [found.decode() for found in _ID_LINE.findall(stream.response)]
