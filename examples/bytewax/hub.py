"""Bytewax connectors for the hub: `HubSource` reads channels, `TableSink` writes rows by their key.

After a crash Bytewax restores the last closed epoch and repeats the output that came after it. So the
position of a source is the id of the last event that it has *emitted*, never of one that waits in its
queue, and a row that is written again has no effect.
"""

import queue
import sqlite3
import sys
import threading
from collections import namedtuple
from datetime import datetime, timedelta, timezone

import httpx
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from httpx_sse import connect_sse

# Events that wait to be emitted. A full queue stops the reader, and the hub keeps what follows.
QUEUE_MAX = 1000
BATCH_MAX = 100
# The hub sends a heartbeat each 15 s, so silence of 45 s is a broken connection.
TIMEOUT = httpx.Timeout(10, read=45)
PAUSE_S = 1
# After these statuses the next attempt may succeed.
TEMPORARY = {408, 429, 500, 502, 503, 504}

Event = namedtuple("Event", "id kind data")


class HubSource(FixedPartitionedSource):
    """Each channel is a partition, which is read from its oldest event; `until` is the id of the last one."""

    def __init__(self, url, channels, until=None):
        self._url, self._channels, self._until = url, channels, until

    def list_parts(self):
        return self._channels

    def build_part(self, step_id, for_part, resume_state):
        return _Channel(_Reader(self._url, for_part, self._until, resume_state), resume_state)


class _Channel(StatefulSourcePartition):
    def __init__(self, reader, position):
        self._reader, self._emitted, self._is_idle = reader, position, False

    def next_batch(self):
        """Returns what has arrived. It never waits, because it would stop the whole dataflow."""
        batch = self._reader.take(BATCH_MAX)
        if batch:
            self._emitted = batch[-1].id
        self._is_idle = not batch
        return batch

    def next_awake(self):
        return datetime.now(timezone.utc) + timedelta(milliseconds=20) if self._is_idle else None

    def snapshot(self):
        return self._emitted


class _Reader:
    """Reads a channel in a thread of its own, and reconnects for ever."""

    def __init__(self, url, channel, until, position):
        self._url, self._channel, self._until, self._position = url, channel, until, position
        self._events = queue.Queue(QUEUE_MAX)
        self._failure = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def take(self, count):
        """Returns up to `count` events. Raises `StopIteration` after the last one, or what ended the reader."""
        has_ended = not self._thread.is_alive()
        batch = []
        while len(batch) < count and not self._events.empty():
            batch.append(self._events.get_nowait())
        if has_ended and not batch:
            raise self._failure or StopIteration
        return batch

    def _run(self):
        try:
            with httpx.Client(timeout=TIMEOUT) as client:
                while self._read_stream(client):
                    threading.Event().wait(PAUSE_S)
        except Exception as error:  # The dataflow ends with it.
            self._failure = error

    def _read_stream(self, client):
        """Reads until the connection breaks. Returns whether more events may follow."""
        start = {"until": self._until} if self._until else {}
        headers = {"Last-Event-ID": self._position} if self._position else {}
        if not self._position:
            start["from"] = "oldest"
        params = {"channel": self._channel, **start}
        try:
            with connect_sse(client, "GET", f"{self._url}/stream", params=params, headers=headers) as source:
                if source.response.status_code == 204:
                    return False
                if source.response.status_code in TEMPORARY:
                    return True
                source.response.raise_for_status()
                for event in source.iter_sse():
                    self._receive(event)
        except httpx.TransportError as error:
            print(f"{self._channel}: reconnecting: {error}", file=sys.stderr)
        return True

    def _receive(self, event):
        if event.event == "gap":
            print(f"{self._channel}: events may be missing: {event.data}", file=sys.stderr)
        # A block without data only names the position.
        elif event.data:
            self._events.put(Event(event.id, event.event, event.data))
        self._position = event.id or self._position


class TableSink(DynamicSink):
    """Writes (key, count) pairs to a table of an SQLite file, one row per key."""

    def __init__(self, file, table):
        self._file, self._table = file, table

    def build(self, step_id, worker_index, worker_count):
        return _Table(self._file, self._table)


class _Table(StatelessSinkPartition):
    def __init__(self, file, table):
        self._connection = sqlite3.connect(file, timeout=30)
        self._connection.execute(f"CREATE TABLE IF NOT EXISTS {table} (key TEXT PRIMARY KEY, count INTEGER)")
        # A count only grows, so a repeated one does not replace the row that follows it.
        self._write = (
            f"INSERT INTO {table} VALUES (?, ?)"
            f" ON CONFLICT (key) DO UPDATE SET count = max(count, excluded.count)"
        )

    def write_batch(self, items):
        with self._connection:
            self._connection.executemany(self._write, items)
