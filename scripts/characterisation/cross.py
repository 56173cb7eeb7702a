"""`--cross`: two builds open and resume each other's data, and serve one Redis at the same time.

Each check is run in both directions. The first promise that does not hold ends its check.
"""

import json
import sys
import threading
from urllib.parse import quote

import sse_server
from processes import Failed
from redis_server import SNAPSHOTS, RedisServer
from wire import Stream, request_bytes

TEXT, LINES = "text/plain", "application/x-ndjson"
NUMBERS = 12


def run(options, work):
    """Runs all checks; returns the exit code."""
    builds = {"A": options.bin / "sse-server", "B": options.other / "sse-server"}
    checks = [
        (
            f"{check.__name__.replace('_', ' ')}, {first} then {second}",
            check,
            builds[first],
            builds[second],
        )
        for check in (data_directory, redis_data, gap_records, one_redis_at_a_time)
        for first, second in (("A", "B"), ("B", "A"))
    ]
    results = [None] * len(checks)

    def carry_out(number, check, *arguments):
        directory = work / f"check-{number}"
        directory.mkdir(parents=True)
        try:
            check(*arguments, directory)
        except Exception as error:
            results[number] = error

    threads = [
        threading.Thread(target=carry_out, args=(number, *entry[1:]))
        for number, entry in enumerate(checks)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for (title, *_), error in zip(checks, results, strict=True):
        print(
            f"{'FAILED' if error else 'ok'}  {title}{f': {error!r}' if error else ''}",
            file=sys.stderr,
        )
    return 1 if any(results) else 0


def expect(found, expected, what):
    """Fails unless two values are equal, and names the first difference."""
    if found != expected:
        place, one, other = _first_difference(expected, found)
        raise Failed(f"{what}{place}: expected {one!r:.300}, found {other!r:.300}")


def _first_difference(expected, found, place=""):
    """Returns the path to the first difference within two values, and both values there."""
    if type(expected) is not type(found):
        return place, expected, found
    if isinstance(expected, dict) and expected.keys() == found.keys():
        pairs = [(name, expected[name], found[name]) for name in expected]
    elif isinstance(expected, list) and len(expected) == len(found):
        pairs = [
            (number, one, other)
            for number, (one, other) in enumerate(zip(expected, found, strict=True))
        ]
    else:
        return place, expected, found
    name, one, other = next(pair for pair in pairs if pair[1] != pair[2])
    return _first_difference(one, other, f"{place}[{name!r}]")


# What a log contains, as clients see it.


def fill(server, prefix):
    """Publishes in every way; returns what the log then promises."""
    for number in range(NUMBERS):
        server.publish("sse", "number", f"{prefix} {number}")
    keyed = {
        key: server.publish("keyed", "click", f"{prefix} {key}", key=f"{prefix}-{key}")
        for key in "ab"
    }
    body = "\n".join(
        [
            json.dumps({"event": "a", "data": f"{prefix} é\n\u2028"}),
            json.dumps({"event": "b", "data": {"x": 1}, "key": f"{prefix}-line"}),
        ]
    )
    batch = _batch(server, body)
    return {"prefix": prefix, "keyed": keyed, "body": body, "line_id": batch["ids"][1]}


def _batch(server, body):
    response = server.send(
        "POST", "/events?channel=batch", [("content-type", LINES)], body.encode()
    )
    expect(response.head.status, 200, "the status of a batch")
    return json.loads(response.body)


def snapshot(server):
    """Returns all events of all channels, and what lies after each position."""
    channels = {channel: server.history(channel) for channel in ("sse", "keyed", "batch")}
    positions = ["0-0", "5-5", "99999999999999-0", "garbage"]
    for event in channels["sse"]:
        positions += [event["id"], f"@{event['id']}"]
    pages = {
        position: server.json(f"/events?last_event_id={quote(position)}") for position in positions
    }
    starts = {
        query: server.json(f"/events?{query}")
        for query in ("last=3", "since=1970-01-01T00:00:00Z", "from=oldest", "event=none")
    }
    return {"channels": channels, "pages": pages, "starts": starts}


def check_keys(server, filled):
    """Publishes again what was published with a key: it has the first id, or is rejected."""
    prefix = filled["prefix"]
    for key, event_id in filled["keyed"].items():
        again = server.publish("keyed", "click", f"{prefix} {key}", key=f"{prefix}-{key}")
        expect(again, event_id, f"the id of the key {prefix}-{key}")
        headers = [("content-type", TEXT), ("idempotency-key", f"{prefix}-{key}")]
        other = server.send("POST", "/event/click?channel=keyed", headers, b"other")
        expect(other.head.status, 422, f"the status of the key {prefix}-{key} with other data")
    expect(_batch(server, filled["body"])["ids"][1], filled["line_id"], "the id of a line's key")


def check_streams(server, events):
    """Resumes streams at some positions, and reads them to the newest event."""
    for place in (0, len(events) // 2, len(events) - 2):
        stream = _open(server, "/stream", events[place]["id"])
        for event in events[place + 1 :]:
            stream.wait_for(
                f"id: {event['id']}\nevent: {event['event']}\ndata: {event['data']}\n\n"
            )
        expect(b"event: gap" in stream.payload, False, f"a gap after {events[place]['id']}")
        stream.close()


def _open(server, path, last_event_id=None):
    headers = [("last-event-id", last_event_id)] if last_event_id else []
    stream = Stream(server.address, request_bytes("GET", path, headers, host=server.address))
    return stream.wait_for("\n\n")


# The checks.


def data_directory(first, second, directory):
    """A data directory goes from build to build, after a stop and after kill -9."""
    server = sse_server.start(first, directory, "embedded", ["--history-events", str(NUMBERS + 8)])
    filled = [fill(server, "one")]
    before = snapshot(server)
    for number, (build, is_killed) in enumerate(
        ((second, False), (first, True), (second, True), (first, False))
    ):
        server.kill() if is_killed else expect(server.stop(), 0, "the exit code")
        server.restart(build)
        expect(snapshot(server), before, f"what build {number} finds in the log")
        for entry in filled:
            check_keys(server, entry)
        check_streams(server, server.history("sse"))
        # History is trimmed meanwhile.
        filled.append(fill(server, f"more {number}".replace(" ", "-")))
        expect(
            server.json("/events?last_event_id=0-0")["gap"]["reason"], "trimmed", "the gap of 0-0"
        )
        before = snapshot(server)
    server.kill()


def redis_data(first, second, directory):
    """A Redis data set goes from one build to the other and back."""
    redis = RedisServer(directory)
    filled, before = [], None
    for number, build in enumerate((first, second, first)):
        server = sse_server.node(build, directory, redis)
        if before:
            expect(snapshot(server), before, f"what build {number} finds in Redis")
        for entry in filled:
            check_keys(server, entry)
        filled.append(fill(server, f"round-{number}"))
        check_streams(server, server.history("sse"))
        redis.command("XTRIM", "sse:{sse}", "MAXLEN", str(NUMBERS + 5))
        before = snapshot(server)
        expect(server.stop(), 0, "the exit code")
    redis.kill()


def gap_records(first, second, directory):
    """Both builds report a loss in the same way. The first one writes the gap record."""
    redis = RedisServer(directory, SNAPSHOTS)
    knew, other = (sse_server.node(build, directory, redis) for build in (first, second))
    kept = knew.publish("sse", "number", "kept")
    streams = [_open(node, "/stream", kept) for node in (knew, other)]
    redis.command("SAVE")
    # Only the first build knows the lost ones, so it writes the record.
    other.process.freeze()
    lost = [knew.publish("sse", "number", f"lost {number}") for number in range(2)]
    streams[0].wait_for("data: lost 1\n\n")
    redis.kill()
    redis.restart()
    knew.wait_until_ready()
    other.process.thaw()
    other.wait_until_ready()
    new = other.publish("sse", "number", "new")
    records = [event for event in other.history("sse") if event["event"] == "gap"]
    expect(len(records), 1, "the number of records")
    loss = json.loads(records[0]["data"])["lost"]
    expect(loss["after"], kept, "the last event before the loss")
    for stream in streams:
        stream.wait_for("event: gap\n").wait_for("data: new\n\n")
    expect(snapshot(other)["pages"], snapshot(knew)["pages"], "history around the loss")
    for cursor in (kept, *lost, f"@{lost[0]}", records[0]["id"], "0-0"):
        sent = [_blocks(node, cursor, new) for node in (knew, other)]
        expect(sent[1], sent[0], f"what a stream after {cursor} gets")
    written = [node.metric("sse_gap_records_total") for node in (knew, other)]
    expect(sum(written), 1, "the records that were written")
    for process in (knew, other, redis):
        process.kill()


def _blocks(node, cursor, last_id):
    stream = _open(node, "/stream", cursor)
    blocks = stream.wait_for(f"id: {last_id}\n").wait_for("data: new\n\n").blocks()
    stream.close()
    return blocks


def one_redis_at_a_time(first, second, directory):
    """Both builds serve one Redis: publish here, subscribe there, resume on the other one."""
    redis = RedisServer(directory)
    one, other = (sse_server.node(build, directory, redis) for build in (first, second))
    streams = [
        _open(node, path)
        for node in (one, other)
        for path in ("/stream", "/stream?channel=sse&channel=b")
    ]
    start = streams[0].last_id()
    sent = []
    for number in range(20):
        node = (one, other)[number % 2]
        sent.append((node.publish("sse", "number", f"number {number}"), f"number {number}"))
        for stream in streams:
            stream.wait_for(f"data: number {number}\n\n")
    for stream in (streams[0], streams[2]):
        expected = [f"id: {event_id}\nevent: number\ndata: {data}" for event_id, data in sent]
        expect(stream.blocks()[1:], expected, "the events of a stream")
    composite = streams[1].last_id()
    other.publish("b", "number", "in b")
    hopped = _open(other, "/stream?channel=b&channel=sse", composite).wait_for("data: in b\n\n")
    expect(b"event: gap" in hopped.payload, False, "a gap after a composite id of the other build")
    resumed = _open(other, "/stream", start).wait_for(f"id: {sent[-1][0]}\n")
    expect(b"event: gap" in resumed.payload, False, "a gap after an id of the other build")
    first_id = one.publish("sse", "click", "keyed", key="k")
    expect(
        other.publish("sse", "click", "keyed", key="k"),
        first_id,
        "the id of a key on the other node",
    )
    expect(snapshot(other), snapshot(one), "what both nodes find in Redis")
    for process in (one, other, redis):
        process.kill()
