"""What streams look like: heads, chunks, filters, envelopes, several channels, heartbeats, ends."""

from scenes.requests import TEXT
from sse_server import BROKERS
from transcript import CHUNKS

HARD = (
    "",
    "a\nb\r\nc\rd\n",
    "id: forged\n\nevent: gap\ndata: x",
    ": no comment",
    "\ufeff\u2028\x85\x0b\x00",
    '{"é":1}',
)
# Streams stay with the HTTP workers, or go to fan-out threads: the bytes must be the same.
FANOUT = ("1", "0")


def live(scene, broker, threads):
    """Live events one by one, chunk by chunk."""
    server = scene.start(broker, "--fanout-threads", threads, "--retry", "1234ms")
    opened = scene.open(server, "/stream")
    opened.stream.wait_for("\n\n")
    for number, data in enumerate((*HARD, "last")):
        event_id = server.publish("sse", "click", data)
        opened.stream.wait_for(f"id: {event_id}\nevent: click\n")
        scene.fact(f"{number}: {event_id}")
    scene.show(opened, "each event in a chunk of its own", CHUNKS)


def heads(scene, threads):
    """Response heads of streams, and streams without chunks."""
    server = scene.start("memory", "--fanout-threads", threads)
    headers = [
        ("accept", "text/event-stream"),
        ("connection", "keep-alive"),
        ("accept-encoding", "gzip"),
    ]
    scene.stream(
        server, "/stream?_=1", headers, until="channel sse", title="with a browser's headers"
    )
    old = scene.open(server, "/stream", version="HTTP/1.0")
    old.stream.wait_for("channel sse\n\n")
    server.publish("sse", "click", "x")
    old.stream.wait_for("data: x\n\n")
    scene.show(old, "HTTP/1.0")
    post = [("content-type", TEXT)]
    scene.send(server, "POST", "/stream", post, b"x", title="a POST")


def filters(scene, broker):
    """Filters by type, and envelopes."""
    server = scene.start(broker)
    queries = (
        "event=view",
        "event=view&event=cl%C3%B4se&event=view",
        "event=gap",
        "event=open&event=view",
        "envelope=json",
        "envelope=json&event=view",
        "channel=sse&channel=sse",
    )
    opened = [(query, scene.open(server, f"/stream?{query}")) for query in queries]
    for _, one in opened:
        one.stream.wait_for("\n\n")
    for kind, data in (
        ("click", "1"),
        ("view", HARD[1]),
        ("cl%C3%B4se", HARD[4]),
        ("view", "last"),
    ):
        scene.publish(server, "sse", kind, data)
    for query, one in opened:
        one.stream.wait_for("last")
        scene.show(one, f"/stream?{query}")


def several_channels(scene, broker):
    """Composite ids: live, resumed, with other channels, with strangers' ids."""
    server = scene.start(broker)
    before = scene.publish(server, "b", "click", "before")
    path = "/stream?channel=b&channel=a"
    opened = scene.open(server, path)
    enveloped = scene.open(server, f"{path}&envelope=json&event=view")
    for one in (opened, enveloped):
        one.stream.wait_for("\n\n")
    opening = opened.stream.last_id()
    for number, (channel, kind) in enumerate((("a", "click"), ("b", "view"), ("a", "view"))):
        scene.publish(server, channel, kind, f"{channel} {number}")
        opened.stream.wait_for(f"data: {channel} {number}\n\n")
    enveloped.stream.wait_for('"a 2"')
    after = opened.stream.last_id()
    scene.show(opened, "two channels, live")
    scene.show(enveloped, "two channels, with envelopes and a filter")
    scene.publish(server, "c", "click", "c 3")
    resumed = (
        (path, after, None),
        ("/stream?channel=a", opening, "a 2"),
        ("/stream?channel=b", opening, "b 1"),
        ("/stream?channel=c", opening, "c 3"),
        ("/stream?channel=a&channel=c", after, None),
        ("/stream?channel=a", before, "a 2"),
    )
    for target, last_id, until in resumed:
        title = f"{target} after {last_id}"
        header = [("last-event-id", last_id)]
        scene.stream(server, target, header, until=until or "\n\n", title=title)
    for stranger in (before, "garbage", "a=5-1,b=x", "a=5-1", ""):
        one = scene.open(server, path, [("last-event-id", stranger)])
        # Channels are independent of each other; what comes of one is in order.
        one.stream.wait_until(lambda: _is_caught_up(one.stream, stranger), "both channels")
        _show_by_channel(scene, one, f"two channels after {stranger!r}")
    scene.get(
        server,
        "/events?channel=a",
        [("last-event-id", after)],
        title="history after a composite id",
    )
    scene.get(
        server,
        "/events?channel=c",
        [("last-event-id", opening)],
        title="history of a channel that it lacks",
    )


def _is_caught_up(stream, stranger):
    if stranger == "":
        return b"\n\n" in stream.payload
    wanted = [b"a 2\n\n"] if stranger == "a=5-1" else [b"a 2\n\n", b"b 1\n\n"]
    return all(data in stream.payload for data in wanted)


def _show_by_channel(scene, opened, title):
    """Describes a stream of two channels without the order between them."""
    scene.case(title)
    blocks = opened.stream.blocks()
    scene.fact("opening: " + blocks[0].replace("\n", " / "))
    for channel in "ab":
        for block in blocks[1:]:
            data = [line for line in block.split("\n") if not line.startswith("id: ")]
            if f"data: {channel} " in block or f'"channel":"{channel}"' in block:
                scene.fact(f"{channel}: " + " / ".join(data))
    opened.stream.close()


def heartbeats(scene, broker, threads):
    """Comments on silent streams, with the position when a filter has skipped events."""
    server = scene.start(broker, "--fanout-threads", threads, "--heartbeat", "100ms")
    for path in ("/stream?event=view", "/stream?event=view&channel=a&channel=sse"):
        opened = scene.open(server, path)
        stream = opened.stream
        stream.wait_for("\n\n:\n")
        skipped = scene.publish(server, "sse", "click", "skipped")
        # The position comes once, and plain comments go on after it.
        stream.wait_until(
            lambda: stream.payload.endswith(b":\n\n") and skipped in stream.last_id(),
            "the position",
        )
        length = len(stream.payload)
        stream.wait_until(lambda: len(stream.payload) > length, "another comment")
        scene.case(f"{path}: blocks, each run of plain comments as one")
        blocks = stream.blocks()
        for before, block in zip([None, *blocks], blocks):
            if not (block == ":" == before):
                scene.fact(block.replace("\n", " / "))
        stream.close()


def ends(scene, broker):
    """Streams with an end, and the answer to a client that comes back."""
    server = scene.start(broker)
    ids = [scene.publish(server, "sse", kind, data) for kind, data in zip("abab", "0123")]
    for channel in "ab":
        scene.publish(server, channel, "click", f"{channel} 0")
    for query in (
        f"from=oldest&until={ids[1]}",
        f"last=2&until={ids[2]}",
        f"event=b&from=oldest&until={ids[2]}",
        f"event=none&from=oldest&until={ids[3]}",
        f"envelope=json&last=1&until={ids[3]}",
        "last=1&until=0-0",
        "until=5-5",
        f"last_event_id={ids[3]}&until={ids[3]}",
        "last_event_id=garbage&until=5-5",
    ):
        opened = scene.open_to_end(server, f"/stream?{query}")
        last_id = opened.stream.last_id()
        scene.show(opened, f"/stream?{query}", CHUNKS)
        if last_id:
            header = [("last-event-id", last_id)]
            scene.show(scene.open_to_end(server, f"/stream?{query}", header), "coming back")
    both = scene.open(server, f"/stream?channel=a&channel=b&last_event_id=5-5&until={ids[1]}")
    both.stream.wait_for_end()
    _show_by_channel(scene, both, "two channels with an end, and a gap in each")
    scene.get(server, f"/events?until={ids[1]}")
    scene.get(server, f"/events?from=oldest&until={ids[1]}&event=b")


def shutdown(scene, broker, threads):
    """A signal ends streams between two blocks."""
    server = scene.start(broker, "--fanout-threads", threads)
    opened = [scene.open(server, path) for path in ("/stream", "/stream?channel=other&channel=sse")]
    for one in opened:
        one.stream.wait_for("\n\n")
    scene.publish(server, "sse", "click", "x")
    for one in opened:
        one.stream.wait_for("data: x\n\n")
    scene.fact(f"exit code after SIGTERM: {server.stop()}")
    for one in opened:
        one.stream.wait_for_end()
        scene.show(one, "a stream to its end", CHUNKS)


def too_much_input(scene, threads):
    """A subscriber that sends, instead of listening."""
    server = scene.start("memory", "--fanout-threads", threads)
    opened = scene.open(server, "/stream")
    opened.stream.wait_for("\n\n")
    opened.stream.send(b"x" * 1000)
    scene.publish(server, "sse", "click", "still open")
    opened.stream.wait_for("still open\n\n")
    opened.stream.send(b"x" * (1 << 20))
    opened.stream.wait_for_end()
    scene.show(opened, "more than 64 KiB of input")


SCENES = [
    *((live, (broker, threads)) for broker in BROKERS for threads in FANOUT),
    *((heads, (threads,)) for threads in FANOUT),
    *((filters, (broker,)) for broker in BROKERS),
    *((several_channels, (broker,)) for broker in BROKERS),
    *((heartbeats, (broker, threads)) for broker in BROKERS for threads in FANOUT),
    *((ends, (broker,)) for broker in BROKERS),
    *((shutdown, (broker, threads)) for broker in BROKERS for threads in FANOUT),
    *((too_much_input, (threads,)) for threads in FANOUT),
]
