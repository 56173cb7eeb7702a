"""Load from the project's own tools: `listener bench` subscribes, `event-generator` publishes; both report in JSON."""

import json
import re
from dataclasses import dataclass, field

from processes import Failed, Program, tail
from servers import plain_environment

TIMEOUT_S = 30.0
_PROGRESS = re.compile(r"(\d+) of \d+ streams, (\d+) events")


@dataclass
class Subscribers:
    """Open streams, with a record of every event on each of them."""

    place: object
    server: object
    directory: object
    count: int
    flags: list = field(default_factory=list)
    # Time limit for slow streams to catch up at the end.
    patience: float = TIMEOUT_S

    def __enter__(self):
        self.report = self.directory / "subscribers.json"
        urls = [part for url in self.server.streams for part in ("--url", url)]
        command = [self.place.bin / "listener", "bench", *urls, "--connections", self.count, "--report", self.report]
        command += [
            "--progress-every",
            "100ms",
            "--settle",
            f"{self.patience:.0f}s",
            "--idle-timeout",
            "120s",
            "--seed",
            "1",
        ]
        command += ["--filter-passes-all", *self.server.subscribing, *self.flags]
        self.program = Program("subscribers", command, self.directory, plain_environment())
        return self

    def __exit__(self, *_):
        self.program.stop()

    def progress(self):
        """Returns the number of open streams, and the number of events received on all streams."""
        found = _PROGRESS.findall(tail(self.program.err, 1024))
        return tuple(map(int, found[-1])) if found else (0, 0)

    def wait_open(self, seconds=120.0):
        """Waits until every stream is open, and records how many events have arrived by then."""
        if self.server.opens_with_event:
            self._open_with_events(seconds)
        else:
            self.program.until(lambda: self.progress()[0] == self.count, f"{self.count} streams", seconds)
        self.before = self.progress()[1]

    def _open_with_events(self, seconds):
        """Publishes unnumbered events until one has reached every stream, and all have arrived."""
        flags = ["--payload", "tutorial", "--rate", "2", "--duration", f"{seconds:.0f}s", "--print-status=false"]
        command = [self.place.bin / "event-generator", "--url", self.server.url, *self.server.publishing, *flags]
        opener = Program("opener", command, self.directory, plain_environment())
        try:
            self.program.until(lambda: self.progress()[0] == self.count, f"{self.count} streams", seconds)
        finally:
            opener.stop()
        self.program.until(self._stands_still, "silence", 30.0)

    def _stands_still(self):
        before, self._last = getattr(self, "_last", None), self.progress()
        return before == self._last

    def wait_events(self, count):
        """Waits until `count` events have arrived since all streams were open; returns False after the time limit."""
        try:
            self.program.until(lambda: self.progress()[1] - self.before >= count, f"{count} events", self.patience)
        except Failed:
            if self.program.process.poll() is not None:
                raise
            return False
        return True

    def finish(self):
        """Waits for slow streams, ends the program, and returns its report."""
        self.program.stop(seconds=90.0)
        return self.read()

    def read(self):
        """Returns the report of a bench that has ended."""
        try:
            return json.loads(self.report.read_text())
        except (OSError, ValueError):
            raise Failed(f"the subscribers left no report:\n{self.program.output()}") from None


class Publishers:
    """Running publishers of numbered events; `rate` is a number or `max`."""

    def __init__(
        self,
        place,
        server,
        directory,
        *,
        rate,
        seconds=None,
        count=None,
        batch=1,
        concurrency=256,
        data=128,
        channels=None,
        bearer=None,
        name="publishers",
    ):
        self._report = directory / f"{name}.json"
        command = [place.bin / "event-generator", "--url", server.url, *server.publishing]
        command += ["--payload", "sequenced", "--data-size", data, "--rate", rate, "--concurrency", concurrency]
        command += ["--report", self._report, "--print-status=false", "--progress", "off"]
        command += ["--batch", batch] if batch > 1 else []
        # A name, and the number of channels that get the events in turn.
        command += ["--channel", channels[0], "--channels", channels[1]] if channels else []
        command += ["--duration", f"{seconds}s"] if seconds else []
        command += ["--count", count] if count else []
        # The command line is visible to all users, the environment is not.
        environment = plain_environment(**({"GENERATOR_BEARER": bearer} if bearer else {}))
        self._program = Program(name, command, directory, environment)
        self._seconds_max = (seconds or 120.0) + 60.0

    def is_running(self):
        """Returns True if the publishers are still running."""
        return self._program.process.poll() is None

    def report(self):
        """Waits until the publishers have ended, and returns their report."""
        if (code := self._program.finish(self._seconds_max)) != 0:
            raise Failed(f"the publishers ended with {code}:\n{self._program.output()}")
        return json.loads(self._report.read_text())


def publish(place, server, directory, **what):
    """Publishes to the end, and returns the report."""
    return Publishers(place, server, directory, **what).report()


def problems(subscribed, published, subscribers, lost_while_away=False):
    """Returns the errors of a run. No errors: every subscriber got every acknowledged event once and in order.

    `lost_while_away`: the server has no history, so events that streams miss while they are cut do not count.
    """
    found = []
    loss, streams = subscribed["loss"], subscribers.count
    lost = loss["lost"]["while_open"] if lost_while_away else loss["lost"]["total"]
    for kind, number in (("lost", lost), *((kind, loss[kind]) for kind in ("twice", "out_of_order", "unjudged"))):
        if number:
            found.append(f"{number} {kind.replace('_', ' ')}")
    if not loss["judged"] or not loss["publishers"]:
        found.append("no numbered events came")
    streaming = subscribed["connections"]["streaming_at_the_end"]
    # Streams that were cut by the test may be reconnecting.
    if streaming != streams and not subscribed["ends"]["cut_by_us"]:
        found.append(f"{streaming} of {streams} streams at the end")
    if subscribed["gaps"]:
        found.append(f"gaps were reported: {subscribed['gaps']}")
    if not lost_while_away:
        # An event that no stream received leaves no missing number, so compare the totals as well.
        acknowledged, unknown = published["acknowledged"] * streams, published["unknown"] * streams
        came = subscribed["events"]["total"] - subscribers.before
        if not acknowledged <= came <= acknowledged + unknown:
            found.append(f"{acknowledged} deliveries were due, {came} were made")
    return found
