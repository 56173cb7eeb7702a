"""Parses `text/event-stream`, and keeps a position in a file."""

import os
import pathlib


def read_events(lines):
    """Yields (id, type, data) per block; data is None for a block that only moves the position."""
    event_id, kind, data = None, "message", []
    for line in lines:
        if not line:
            if event_id is not None or data:
                yield event_id, kind, "\n".join(data) if data else None
            event_id, kind, data = None, "message", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "id":
            event_id = value
        elif field == "event":
            kind = value
        elif field == "data":
            data.append(value)


class Position:
    """The id after which the next run continues. A crash leaves the old file or the new one."""

    def __init__(self, path):
        self.path = pathlib.Path(path)

    def load(self):
        return self.path.read_text() if self.path.exists() else None

    def store(self, event_id):
        new = self.path.with_name(self.path.name + ".new")
        with open(new, "w") as file:
            file.write(event_id)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self.path)


def start(position):
    """Returns the headers and the parameters of a request: resume, or begin with the oldest event."""
    last = position.load()
    return ({"Last-Event-ID": last}, {}) if last else ({}, {"from": "oldest"})
