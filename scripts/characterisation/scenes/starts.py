"""Where readers start: everything that a request can say × what the log contains.

Each row is one stream and one page of history. The log is empty, whole, or trimmed. A row names a
position by the event there.
"""

import functools
import json

from sse_server import BROKERS

KEPT_OF_TRIMMED = 3
EVENTS = 6
HIGHEST = f"{2**64 - 1}-{2**64 - 1}"


def _rows(ids):
    """Returns what requests say: a name, a query, and headers. `ids` are those of all events."""
    rows = [("nothing", "", [])]
    rows += [
        (query, query, []) for query in ("from=oldest", "last=0", "last=1", "last=2", "last=10000")
    ]
    rows += [
        (query, query, [])
        for query in ("since=0", "since=1d", "since=0s", "since=1960-01-01T00:00:00Z")
    ]
    rows += [("since in 2100", "since=2100-01-01T00:00:00%2B01:00", [])]
    rows += [
        ("an empty header", "", [("last-event-id", "")]),
        ("an empty parameter", "last_event_id=", []),
    ]
    for name, text in _cursors(ids):
        rows.append((f"after {name}", "", [("last-event-id", text)]))
    for name, event_id in _named(ids):
        ms = event_id.split("-")[0]
        rows.append((f"since the time of {name}", f"since={ms}", []))
        rows.append((f"last_event_id={name}", f"last_event_id={event_id}", []))
    if ids:
        last = ids[-1]
        rows.append(("lastEventId of the last", f"from=oldest&lastEventId={last}", []))
        rows.append(("the header beats the URL", "from=oldest", [("last-event-id", last)]))
        rows.append(
            ("the header beats lastEventId", f"lastEventId={ids[0]}", [("last-event-id", last)])
        )
        rows.append(("last=1 of another type", "event=other&event=number&last=1", []))
    return rows


def _named(ids):
    names = {"the first": 0, "the third": 2, "the fifth": 4, "the last": EVENTS - 1}
    return [(name, ids[place]) for name, place in names.items() if place < len(ids)]


def _cursors(ids):
    """Returns what a client may come back with: names and texts."""
    fixed = [
        "0-0",
        "@0-0",
        "5-5",
        "@5-5",
        "99999999999999-0",
        "@99999999999999-0",
        HIGHEST,
        f"@{HIGHEST}",
    ]
    garbage = ["nonsense", "5", "-", "5-5-5", "other=5-5", "sse=5-5", "@", '"}', "9" * 100, "é"]
    cursors = [(repr(text), text) for text in (*fixed, *garbage)]
    for name, event_id in _named(ids):
        ms, seq = event_id.split("-")
        cursors += [(name, event_id), (f"at {name}", f"@{event_id}")]
        cursors.append((f"between {name} and the next", f"{ms}-{int(seq) + 1}"))
    return cursors


def table(scene, broker, state):
    """All rows for one broker and one state of the log."""
    kept = KEPT_OF_TRIMMED if state == "trimmed" else 100
    server = scene.start(broker, "--history-events", str(kept))
    count = 0 if state == "empty" else EVENTS
    ids = [scene.publish(server, "sse", "number", str(number)) for number in range(count)]
    for _, text in _cursors(ids):
        if "-" in text and text not in ids and text.lstrip("@") not in ids:
            _name_position(scene, text, ids)
    opened = []
    for name, query, headers in _rows(ids):
        suffix = f"?{query}" if query else ""
        page = json.loads(scene.get(server, f"/events{suffix}", headers, f"history, {name}").body)
        one = scene.open(server, f"/stream{suffix}", headers)
        # A page of history has a gap if and only if the stream begins with one.
        gap = b"event: gap\n" if "gap" in page else b""
        has_come = functools.partial(_has_all, one.stream, ids)
        one.stream.wait_for(gap).wait_until(has_come, name)
        opened.append((name, one))
    # Whatever comes before the next event has come by then.
    scene.publish(server, "sse", "number", "next")
    for name, one in opened:
        one.stream.wait_for("data: next\n\n")
        scene.show(one, f"stream, {name}")


def _name_position(scene, text, ids):
    """Gives a position between two events a name, because it is no id that was ever given out."""
    for place, event_id in enumerate(ids):
        ms, seq = event_id.split("-")
        if text == f"{ms}-{int(seq) + 1}":
            scene.name(text, f"<behind event {place + 1}>")


def _has_all(stream, ids):
    """Whether what is in the log has come, or the stream starts behind it."""
    blocks = stream.blocks()
    if not blocks:
        return False
    if not ids or f"id: {ids[-1]}\n" in blocks[0]:
        return True
    return f"data: {EVENTS - 1}\n\n".encode() in stream.payload


SCENES = [(table, (broker, state)) for broker in BROKERS for state in ("empty", "whole", "trimmed")]
