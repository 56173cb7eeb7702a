"""Replaces what differs from run to run (ids, times, ports, paths) by placeholders."""

import re
from datetime import datetime

# An event id of our time: milliseconds since 1970, and a sequence number.
# The position in a channel without events has no time; with --memory its number is random.
_ID = re.compile(r"(?<![\w.])(?:1[7-9]\d{11}-\d+|0-[1-9]\d{3,})(?!\d)")
_MS = re.compile(r"(?<![\w.-])1[7-9]\d{11}(?![\d-])")
_US = re.compile(r"(?<![\w.-])1[7-9]\d{14}(?![\d-])")
# A long run of one character is written as its length.
_RUN = re.compile(r"([^\n])\1{59,}")
# RFC 3339, in envelopes, in history and in the users' sessions of the generator.
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_PATTERNS = [
    # The tutorial's text, plain and percent-encoded.
    (re.compile(r"\d\d-[A-Z][a-z]{2}-\d{4} \(\d\d:\d\d:\d\d\.\d{6}\)"), "<timestamp>"),
    (re.compile(r"\d\d-[A-Z][a-z]{2}-\d{4}%20%28\d\d%3A\d\d%3A\d\d\.\d{6}%29"), "<timestamp>"),
    # `Date` (RFC 9110 §5.6.7).
    (re.compile(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT"), "<date>"),
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "<uuid>"),
    # How long a key is still known, in a message.
    (re.compile(r"\b3[56]\d\d(\.\d+)?s\b"), "<seconds>"),
    # Free space, in a message.
    (re.compile(r"(?<![\w.-])\d{9,12}(?![\d-])"), "<number>"),
    (_US, "<us>"),
    (_MS, "<ms>"),
]


class Masks:
    """The placeholders of one scene. Ids are numbered in the order in which they are first seen."""

    def __init__(self):
        self._names = {}
        self._ids = {}

    def name(self, literal, placeholder):
        """Writes `placeholder` for every `literal`."""
        self._names[literal] = placeholder

    def apply(self, text):
        """Returns `text` with placeholders."""
        for literal in sorted(self._names, key=len, reverse=True):
            text = text.replace(literal, self._names[literal])
        text = _ID.sub(self._id, text)
        text = _TIME.sub(self._time, text)
        for pattern, placeholder in _PATTERNS:
            text = pattern.sub(placeholder, text)
        return text

    def _id(self, match):
        number = self._ids.setdefault(match[0], len(self._ids) + 1)
        return f"<id {number}>"

    def _time(self, match):
        # The time of an event is the time in its id, and the id comes first in the text.
        ms = round(datetime.fromisoformat(match[0]).timestamp() * 1000)
        is_of_id = any(event_id.startswith(f"{ms}-") for event_id in self._ids)
        has_ms_only = len(match[0]) == len("2026-11-29T20:00:00.123Z")
        return "<time of an id>" if is_of_id and has_ms_only else "<time>"


def visible(data):
    """Returns bytes as text in which every control character but a line feed can be seen."""
    text = "".join(map(_shown, data.decode("utf-8", "surrogateescape")))
    return _RUN.sub(lambda run: f"<{len(run[0])} × {run[1]}>", text)


def _shown(character):
    if character == "\n" or character.isprintable():
        return character
    # A byte that is not UTF-8 was decoded as a surrogate.
    code = ord(character)
    return f"<0x{code - 0xDC00:02X}>" if 0xDC80 <= code <= 0xDCFF else f"<U+{code:04X}>"
