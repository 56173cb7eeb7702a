"""What happens at limits and when a broker cannot do it: every 408, 431, 503 and 507."""

import sse_server
from processes import wait_until
from redis_server import SNAPSHOTS
from scenes.requests import LINES, ONE_LINE, TEXT
from transcript import CHUNKS
from wire import Connection, chunked, request_bytes


def too_many_streams(scene, threads):
    """Streams beyond the limit: a tenth more get a short stream, and others no response."""
    flag = sse_server.streams_max_flag(scene.program)
    server = scene.start("memory", flag, "10", "--fanout-threads", threads)
    admitted = [scene.open(server, "/stream") for _ in range(10)]
    for one in admitted:
        one.stream.wait_for("\n\n")
    # The body that it promises does not come, so its connection lasts a moment longer, and counts.
    lasting = [("content-length", "9")]
    rejected = [_rejected(scene, server, lasting)]
    scene.show(rejected[0], "a stream beyond the limit", CHUNKS)
    scene.transcript.wording(_comment(rejected[0]).removeprefix(": "))
    # A slow machine may take longer than that moment; then there is room for another short one.
    while (one := _rejected(scene, server, lasting)) is not None:
        rejected.append(one)
    scene.fact("the next connection is closed without a response")
    count = server.metric("sse_streams_rejected_total", "sse_turned_away_total")
    scene.fact(f"rejected streams are counted: {count >= 2}")
    scene.get(server, "/health/live", title="a health check has a connection")
    for one in (*admitted, *rejected):
        one.stream.close()
    wait_until(lambda: server.metric("sse_subscribers") == 0, "room for streams")
    scene.stream(server, "/stream", until="channel sse\n\n", title="when others have left")


def _rejected(scene, server, headers):
    """Opens a stream that gets a short one; returns `None` if its connection is closed instead."""
    one = scene.try_open(server, "/stream", headers)
    if one is None:
        return None
    one.stream.wait_until(lambda: one.stream.ending == "terminator", "the end")
    retry = int(one.stream.blocks()[0].split("\n")[0].removeprefix("retry: "))
    if 5_000 <= retry < 15_000:
        scene.name(f"retry: {retry}", "retry: <5000 to 14999>")
    scene.name(_comment(one), ": <wording>")
    return one


def _comment(opened):
    return next(line for line in opened.stream.blocks()[0].split("\n") if line.startswith(": "))


def slow_requests(scene):
    """A head and a body that do not come. This scene takes half a minute."""
    server = scene.start("memory")
    with Connection(server.address) as head, Connection(server.address) as body:
        head.send(b"GET /health/live HTTP/1.1\r\n")
        framed = [("content-type", TEXT), ("content-length", "5")]
        body.send(request_bytes("POST", "/event/click", framed, b"abc", host=server.address))
        scene.case("a head that does not come within 5 s")
        scene.transcript.response(head.response())
        scene.case("a body that does not come within 30 s")
        scene.transcript.response(body.response(seconds=60))
    scene.case("a body that breaks off")
    with Connection(server.address) as body:
        body.send(request_bytes("POST", "/event/click", framed, b"abc", host=server.address))
        body.finish_sending()
        scene.transcript.response(body.response())
    scene.get(server, "/events", title="nothing was stored")


def no_memory_for_bodies(scene):
    """Bodies that wait for the memory of others."""
    size = "64KiB"
    flags = ("--event-bytes-max", size, "--batch-bytes-max", size, "--publish-memory", size)
    server = scene.start("memory", *flags)
    with Connection(server.address) as slow:
        framed = [("content-type", TEXT), ("content-length", str(64 << 10))]
        request = request_bytes(
            "POST", "/event/slow", framed, b"x" * ((64 << 10) - 1), host=server.address
        )
        slow.send(request)
        # Until the slow body has come so far, others find room.
        response = wait_until(lambda: _refusal(server), "the memory to be taken")
        scene.case("a body while another one holds the memory")
        scene.transcript.response(response)
        slow.send(b"x")
        scene.case("the other one")
        scene.transcript.response(slow.response())
    scene.post(server, "/event/click", TEXT, "after", title="afterwards")


def _refusal(server):
    response = server.send("POST", "/event/click", [("content-type", TEXT)], b"x")
    return response if response.head.status != 200 else None


def full_disk(scene):
    """The embedded log, with less free disk than its reserve."""
    server = scene.start("embedded", "--disk-reserve", "900PiB")
    _every_publish(scene, server, "a full disk")
    scene.get(server, "/health/ready")
    scene.get(server, "/events")


def full_redis(scene):
    """A Redis at its maxmemory."""
    server = scene.start("redis")
    scene.publish(server, "sse", "click", "before")
    server.redis.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    server.redis.command("CONFIG", "SET", "maxmemory", "1")
    _every_publish(scene, server, "a full Redis")
    scene.get(server, "/health/ready")
    scene.get(server, "/events", title="what it has can be read")
    scene.stream(server, "/stream?from=oldest", until="before\n\n")


def read_only_redis(scene):
    """A Redis that became a replica."""
    server = scene.start("redis")
    scene.publish(server, "sse", "click", "before")
    server.redis.command("REPLICAOF", "127.0.0.1", "1")
    _every_publish(scene, server, "a replica")
    scene.get(server, "/health/ready")
    scene.get(server, "/events", title="what it has can be read")


def wrong_keys_in_redis(scene):
    """Keys of other types, and entries that no sse-server wrote."""
    server = scene.start("redis", "--heartbeat", "100ms")
    server.redis.command("SET", "sse:{taken}", "x")
    for body, path in (("x", "/event/click?channel=taken"), (ONE_LINE, "/events?channel=taken")):
        scene.post(server, path, TEXT if body == "x" else LINES, body)
    scene.get(server, "/events?channel=taken")
    stream = scene.open(server, "/stream?channel=taken")
    stream.stream.wait_for("\n\n:\n")
    server.redis.command("DEL", "sse:{taken}")
    scene.publish(server, "taken", "click", "repaired")
    stream.stream.wait_for("repaired\n\n")
    scene.fact(f"the stream continues: {'data: repaired' in stream.stream.payload.decode()}")
    server.redis.command(
        "XADD", "sse:{odd}", "5-0", "event", "click", "data", "good", "unknown", "field"
    )
    scene.get(server, "/events?channel=odd", title="an entry with an unknown field")
    server.redis.command("XADD", "sse:{odd}", "6-0", "no", "event")
    scene.get(server, "/events?channel=odd", title="an entry without a type")


def warnings(scene):
    """A Redis that may lose events, and one that does not let us look."""
    server = scene.start("redis", redis_flags=SNAPSHOTS)
    server.redis.command("CONFIG", "SET", "maxmemory", "100mb")
    server.redis.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    scene.get(server, "/health/ready", title="no append-only file, and eviction")
    server.redis.command(
        "ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all", "-config", "-info"
    )
    url = server.redis.url.replace("://", "://app:secret@")
    directory = scene.directory / "restricted"
    directory.mkdir()
    restricted = sse_server.Server(scene.program, directory, ["--redis-url", url])
    scene.adopt(restricted)
    scene.get(restricted, "/health/ready", title="a user that may look at nothing")


def redis_away(scene):
    """No connection to Redis."""
    server = scene.start("redis", "--redis-timeout", "2s", "--heartbeat", "100ms")
    event_id = scene.publish(server, "sse", "click", "first")
    before = scene.open(server, "/stream?from=oldest")
    before.stream.wait_for("first\n\n")
    server.redis.kill()
    wait_until(lambda: _code(server) == b"broker_unavailable", "Redis to be missed")
    _every_publish(scene, server, "Redis is away")
    scene.get(server, "/health/ready")
    scene.get(server, "/health/live")
    scene.get(server, "/events")
    scene.get(server, "/events?last=1")
    during = [
        scene.open(server, "/stream?last=1"),
        scene.open(server, "/stream", [("last-event-id", event_id)]),
    ]
    for one in during:
        one.stream.wait_for("\n\n:\n")
        scene.fact("opening while Redis is away: " + one.stream.blocks()[0].replace("\n", " / "))
    server.redis.restart()
    server.wait_until_ready()
    scene.publish(server, "sse", "click", "second")
    for one in (before, *during):
        one.stream.wait_for("second\n\n")
        events = [block for block in one.stream.blocks() if "data: " in block]
        scene.fact("events: " + " | ".join(block.replace("\n", " / ") for block in events))


def _code(server):
    body = server.send("POST", "/event/click", [("content-type", TEXT)], b"lost").body
    return body.split(b'"code":"')[1].split(b'"')[0] if b'"code":"' in body else b""


def redis_frozen(scene):
    """A Redis that does not answer in time."""
    # The time may run out in one of several places, and each has a message of its own.
    scene.transcript.has_wording = False
    server = scene.start("redis", "--redis-timeout", "500ms")
    scene.publish(server, "sse", "click", "first")
    server.redis.freeze()
    scene.post(server, "/event/click", TEXT, "perhaps", title="one event")
    server.redis.thaw()
    server.wait_until_ready()
    server.redis.freeze()
    scene.post(server, "/events", LINES, f"{ONE_LINE}\n{ONE_LINE}", title="a batch")
    server.redis.thaw()


def _every_publish(scene, server, title):
    """One event, one with a key, a batch, a chunked body, and a channel that is new."""
    header = [("idempotency-key", "k")]
    scene.post(server, "/event/click", TEXT, "x", title=f"{title}: one event")
    scene.post(server, "/event/click", TEXT, "x", header, title=f"{title}: with a key")
    scene.post(server, "/events", LINES, f"{ONE_LINE}\n{ONE_LINE}", title=f"{title}: a batch")
    framed = [("content-type", TEXT), ("transfer-encoding", "chunked")]
    scene.send(
        server, "POST", "/event/click", framed, chunked(b"x"), title=f"{title}: a chunked body"
    )
    scene.get(server, "/event/click?channel=new", title=f"{title}: a new channel")


# The slowest first, so that others run meanwhile.
SCENES = [
    slow_requests,
    no_memory_for_bodies,
    (too_many_streams, ("1",)),
    (too_many_streams, ("0",)),
    full_disk,
    full_redis,
    read_only_redis,
    wrong_keys_in_redis,
    warnings,
    redis_away,
    redis_frozen,
]
