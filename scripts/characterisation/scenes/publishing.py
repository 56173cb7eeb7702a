"""Publishing with and without keys, on each broker, and reading it back."""

import json

from scenes.requests import JSON, LINES, ONE_LINE, TEXT
from sse_server import BROKERS


def one_and_many(scene, broker):
    """Each form of a publish, as it is answered, stored and paged."""
    server = scene.start(broker)
    scene.get(server, "/events", title="a log without events")
    scene.get(server, "/event/view", title="a GET")
    scene.post(server, "/event/view?channel=site", JSON, '{ "page": "/" }')
    scene.post(server, "/event/note", TEXT, "two\nlines")
    scene.post(server, "/events", LINES, "\n".join([ONE_LINE, '{"event":"view","data":{"a": 1}}']))
    scene.post(server, "/events?channel=site", JSON, f"[{ONE_LINE}]")
    scene.get(server, "/events")
    scene.get(server, "/events?channel=site")
    scene.get(server, "/events?channel=none")
    scene.get(server, "/health/ready")


def pages(scene, broker):
    """Pages of history: JSON and lines, links, filters."""
    server = scene.start(broker)
    ids = [scene.publish(server, "sse", kind, data) for kind, data in zip("abababab", "12345678")]
    lines = [("accept", LINES)]
    page = scene.get(server, "/events?limit=3")
    following = json.loads(page.body)["next"]
    scene.get(server, f"/events?limit=3&last_event_id={following}")
    scene.get(server, f"/events?limit=3&last_event_id={ids[-1]}")
    scene.get(server, "/events?limit=3&last=5&event=a&_=1", title="what a link keeps and drops")
    scene.get(server, "/events?event=a&event=b%26c%3C&limit=1", title="a link is encoded")
    scene.get(server, "/events?event=none")
    scene.get(server, "/events?event=b&limit=2")
    scene.get(server, "/events?event=gap", title="a reserved type filters nothing")
    for accept in (
        LINES,
        "application/jsonl",
        "text/plain, application/x-ndjson;q=0.5",
        "application/json",
    ):
        scene.get(server, "/events?limit=2", [("accept", accept)], title=f"accept {accept}")
    scene.get(server, "/events?last_event_id=5-5&limit=2", lines, title="a gap among lines")
    scene.get(server, "/events?last_event_id=5-5&limit=2", title="a gap in JSON")
    scene.get(server, f"/events?until={ids[2]}&limit=2", title="a page before the end")
    scene.get(server, f"/events?until={ids[2]}&limit=3", title="a page to the end")


def keys(scene, broker):
    """A publish with a key is stored once."""
    server = scene.start(broker, "--idempotency-keys", "9", "--idempotency-window", "1h")

    def keyed(key, data, title, kind="click", content_type=TEXT):
        scene.post(
            server, f"/event/{kind}", content_type, data, [("idempotency-key", key)], title=title
        )

    keyed("k", "x", "first")
    keyed("k", "x", "again")
    keyed("K", "x", "another key")
    keyed("k", "y", "other data")
    keyed("k", "x", "another type", kind="view")
    keyed("k", "", "no data")
    scene.get(
        server, "/event/click", [("idempotency-key", "k")], title="a GET with the key of a POST"
    )
    scene.get(server, "/event/view", [("idempotency-key", "get")], title="a GET with a key")
    scene.get(server, "/event/view", [("idempotency-key", "get")], title="the GET again")
    scene.post(
        server,
        "/event/view",
        None,
        "",
        [("idempotency-key", "get")],
        title="as a POST without a body",
    )
    keyed("json", '{ "a": 1 }', "JSON", content_type=JSON)
    keyed("json", '{"a":1}', "JSON with other white space", content_type=JSON)
    keyed("json", '{"a":2}', "other JSON", content_type=JSON)
    scene.post(
        server,
        "/event/click?channel=b",
        TEXT,
        "y",
        [("idempotency-key", "k")],
        title="in another channel",
    )
    _batches_with_keys(scene, server)
    for number in range(4):
        keyed(f"more-{number}", "x", f"until there are too many: {number}")
    scene.post(
        server, "/events", LINES, '{"event":"a","data":1,"key":"e"}', title="one too many as a line"
    )
    keyed("k", "x", "those that are known are answered")
    scene.post(server, "/event/click", TEXT, "without", title="without a key")
    scene.get(server, "/events", title="what was stored")


def _batches_with_keys(scene, server):
    """Keys of whole batches and of lines. They take three of the channel's keys."""
    lines = ['{"event":"a","data":"1"}', '{"event":"b","data":{"x": 2}}']
    header = [("idempotency-key", "batch")]
    scene.post(server, "/events", LINES, "\n".join(lines), header, title="a batch with a key")
    scene.post(server, "/events", LINES, "\n".join(lines), header, title="the batch again")
    scene.post(
        server, "/events", JSON, f"[{','.join(lines)}]", header, title="the batch as an array"
    )
    scene.post(server, "/events", LINES, lines[0], header, title="a part of the batch")
    scene.post(
        server, "/events", LINES, "\n".join(lines[::-1]), header, title="the batch in another order"
    )
    keyed_lines = [
        '{"event":"click","data":"x","key":"k"}',
        "",
        '{"event":"click","data":"2","key":"two"}',
        '{"event":"click","data":"without"}',
        '{"event":"click","data":"2","key":"two"}',
    ]
    scene.post(server, "/events", LINES, "\n".join(keyed_lines), title="lines with keys")
    scene.post(server, "/events", LINES, "\n".join(keyed_lines), title="the lines again")
    scene.post(
        server, "/events", JSON, f"[{','.join(filter(None, keyed_lines))}]", title="as an array"
    )
    reused = [keyed_lines[2], '{"event":"click","data":"3","key":"k"}']
    scene.post(
        server, "/events", LINES, "\n".join(reused), title="lines with a key of something else"
    )
    twice = ['{"event":"click","data":"a","key":"new"}', '{"event":"click","data":"b","key":"new"}']
    scene.post(server, "/events", LINES, "\n".join(twice), title="lines that contradict each other")


def restart(scene, broker):
    """What a log keeps when the server is killed, and when it is stopped."""
    server = scene.start(broker)
    first = scene.publish(server, "sse", "click", "first", key="k")
    second = scene.publish(server, "sse", "click", "second")
    server.kill()
    server.restart()
    scene.get(server, "/events", title="history after kill -9")
    scene.post(
        server,
        "/event/click",
        TEXT,
        "first",
        [("idempotency-key", "k")],
        title="a key after kill -9",
    )
    scene.publish(server, "sse", "click", "third")
    scene.stream(
        server, "/stream", [("last-event-id", first)], until="third", title="a stream resumes"
    )
    scene.fact(f"exit code after SIGTERM: {server.stop()}")
    server.restart()
    scene.get(server, f"/events?last_event_id={second}", title="history after SIGTERM")
    scene.post(
        server,
        "/event/click",
        TEXT,
        "other",
        [("idempotency-key", "k")],
        title="a key after SIGTERM",
    )


def limits(scene, broker):
    """A log that is full, and one that trims."""
    server = scene.start(broker, "--channels-max", "2")
    for channel in "abc":
        scene.post(
            server, f"/event/click?channel={channel}", TEXT, "x", title=f"channel {channel} of two"
        )
    scene.post(
        server, "/events?channel=d", LINES, ONE_LINE, title="a batch to one channel too many"
    )
    header = [("idempotency-key", "k")]
    scene.post(
        server, "/event/click?channel=e", TEXT, "x", header, title="one too many, with a key"
    )
    scene.get(server, "/events?channel=c", title="a channel that has no place can be read")
    scene.get(server, "/health/ready")
    trimmed = scene.start(broker, "--history-events", "3")
    for number in range(6):
        scene.publish(trimmed, "sse", "number", str(number))
    scene.get(trimmed, "/events", title="the newest three are kept")


SCENES = [
    (scene, (broker,))
    for scene in (one_and_many, pages, keys, restart, limits)
    for broker in BROKERS
]
