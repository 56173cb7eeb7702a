"""Gaps with the reasons `unknown`, `trimmed`, `lost-tail` and `damaged`."""

import json
import shutil

from scenes.requests import LINES
from sse_server import BROKERS


def wiped(scene, broker):
    """A log that lost everything, before and after it has new events."""
    server = scene.start(broker)
    ids = [scene.publish(server, "sse", "number", str(number)) for number in range(2)]
    _wipe(server, broker)
    cursors = (ids[0], f"@{ids[1]}", "99999999999999-0", "@0-1")
    opened = [
        (cursor, scene.open(server, "/stream", [("last-event-id", cursor)])) for cursor in cursors
    ]
    for _, one in opened:
        one.stream.wait_for("event: gap\n")
    for cursor in cursors:
        scene.get(server, f"/events?last_event_id={cursor}", title=f"empty, history after {cursor}")
    scene.publish(server, "sse", "number", "new")
    for cursor, one in opened:
        one.stream.wait_for("data: new\n\n")
        scene.show(one, f"empty and then an event, after {cursor}")
    # Other cursors: a page that was read for a position may be kept for a moment.
    for cursor in (ids[1], f"@{ids[0]}", "99999999999998-0", "@0-2"):
        header = [("last-event-id", cursor)]
        title = f"a new event, after {cursor}"
        scene.stream(server, "/stream", header, until="data: new\n\n", title=title)
        scene.get(server, f"/events?last_event_id={cursor}", title=f"{title}, history")


def _wipe(server, broker):
    if broker == "redis":
        server.redis.command("FLUSHALL")
        return
    server.kill()
    if broker == "embedded":
        shutil.rmtree(server.directory / "data")
    server.restart()


def wiped_while_open(scene):
    """A Redis that is wiped under a stream."""
    server = scene.start("redis")
    paths = ("/stream", "/stream?event=other", "/stream?envelope=json")
    opened = [scene.open(server, path) for path in paths]
    for one in opened:
        one.stream.wait_for("\n\n")
    scene.publish(server, "sse", "number", "before")
    opened[0].stream.wait_for("data: before\n\n")
    opened[2].stream.wait_for('"before"')
    server.redis.command("FLUSHALL")
    # The node finds the wipe by itself, and only then there is a new event.
    for one in opened:
        one.stream.wait_for("event: gap\n")
    scene.publish(server, "sse", "other", "new")
    for one in opened:
        one.stream.wait_for("new")
        one.stream.wait_until(lambda: one.stream.payload.endswith(b"\n\n"), "the end of a block")
        scene.show(one, "wiped while it is open")


def trimmed_while_open(scene, broker):
    """A gap in one of two channels leaves the other one exact; a gap's own id leads past it."""
    server = scene.start(broker, "--history-events", "2", "--tail-events", "1")
    opening = scene.open(server, "/stream?channel=a&channel=b")
    position = opening.stream.wait_for("\n\n").last_id()
    opening.stream.close()
    first = scene.publish(server, "a", "number", "a 0")
    for number in range(1, 4):
        scene.publish(server, "a", "number", f"a {number}")
    scene.publish(server, "b", "number", "b 0")
    one = scene.open(server, "/stream?channel=a&channel=b", [("last-event-id", position)])
    one.stream.wait_for("a 3\n\n").wait_for("b 0\n\n")
    scene.case("two channels, one of which was trimmed")
    for channel in "ab":
        blocks = [
            block
            for block in one.stream.blocks()[1:]
            if f"{channel} " in block or f'"{channel}"' in block
        ]
        for block in blocks:
            lines = [line for line in block.split("\n") if not line.startswith("id: ")]
            scene.fact(f"{channel}: " + " / ".join(lines))
    one.stream.close()
    stream = scene.stream(server, "/stream?channel=a", [("last-event-id", first)], until="a 3\n\n")
    gap = next(block for block in stream.blocks() if "event: gap" in block)
    after_gap = gap.split("\n")[0].removeprefix("id: ")
    header = [("last-event-id", after_gap)]
    scene.stream(
        server, "/stream?channel=a", header, until="a 3\n\n", title="after the gap's own id"
    )
    scene.stream(
        server, "/stream?channel=a&event=none", [("last-event-id", first)], until="event: gap\n"
    )


def damaged(scene):
    """A file that is damaged in places."""
    server = scene.start("embedded")
    texts = [f"event {number:02} of a log that is damaged in places" for number in range(12)]
    lines = "\n".join(json.dumps({"event": "number", "data": text}) for text in texts)
    server.send("POST", "/events", [("content-type", LINES)], lines.encode())
    ids = [event["id"] for event in server.history("sse")]
    server.stop()
    _flip(server.directory / "data" / "events.redb", [texts[number] for number in (0, 4, 8, 9)])
    server.restart()
    scene.publish(server, "sse", "number", "after the damage")
    paths = (
        "/stream?from=oldest",
        "/stream?last=100",
        "/stream?since=1h",
        "/stream?last_event_id=0-0",
    )
    for path in (*paths, "/stream?last=1"):
        scene.stream(server, path, until="after the damage\n\n")
    for place in (3, 4, 5, 8, 9):
        for cursor in (ids[place], f"@{ids[place]}"):
            header = [("last-event-id", cursor)]
            scene.stream(
                server, "/stream", header, until="after the damage\n\n", title=f"after {cursor}"
            )
    path = "/events"
    for _ in range(6):
        page = json.loads(scene.get(server, path).body)
        path = f"/events?last_event_id={page['next']}"
    scene.get(server, "/events", [("accept", LINES)], title="the first page as lines")
    scene.get(server, path, [("accept", LINES)], title="the last page as lines")
    scene.fact(f"gaps that streams were sent: {server.metric('sse_gaps_total') > 0}")


def _flip(file, texts):
    """Changes one bit in every copy of each text in the file."""
    data = bytearray(file.read_bytes())
    for text in texts:
        place = data.find(text.encode())
        while place >= 0:
            data[place] ^= 1
            place = data.find(text.encode(), place + 1)
    file.write_bytes(data)


SCENES = [
    *((wiped, (broker,)) for broker in BROKERS),
    wiped_while_open,
    *((trimmed_while_open, (broker,)) for broker in BROKERS),
    damaged,
]
