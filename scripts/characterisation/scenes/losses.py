"""A Redis that lost acknowledged events: it comes back with an older snapshot, or with none.

Events 0 to 4 are in the snapshot, and 5 to 7 are lost. Nodes A and B knew the lost ones, node C did
not. In the variant "early", another program publishes before a node that knew them is back.
"""

import json

from redis_server import SNAPSHOTS, RedisServer

# What the streams ask for that are open all the time.
QUERIES = ("", "?event=number", "?event=other", "?envelope=json", "?channel=sse&channel=quiet")
SURVIVE, LOST = range(5), range(5, 8)


def older_snapshot(scene, variant):
    """Every subscriber gets the lost range, whatever its position."""
    is_early = variant == "early"
    redis = RedisServer(scene.directory, SNAPSHOTS)
    nodes = [scene.node(redis), scene.node(redis)]
    scene.name_address(redis.address, "redis")
    ids = [scene.publish(nodes[0], "sse", "number", str(number)) for number in SURVIVE]
    live = _open_all(scene, nodes)
    redis.command("SAVE")
    ids += [scene.publish(nodes[0], "sse", "number", str(number)) for number in LOST]
    for query, one in live:
        if query != "?event=other":
            one.stream.wait_for('"7"' if "envelope" in query else "data: 7\n\n")
    _lose(scene, redis, nodes, is_early)
    scene.publish(nodes[1], "sse", "number", "new")
    for query, one in live:
        one.stream.wait_for("event: gap\n" if query == "?event=other" else "new")
        one.stream.wait_until(lambda: one.stream.payload.endswith(b"\n\n"), "the end of a block")
        scene.show(one, f"open all the time, /stream{query}")
    _describe_redis(scene, redis)
    fresh = scene.node(redis)
    for name, node in (("A", nodes[0]), ("C", fresh)):
        _describe_resumes(scene, name, node, ids)
    _describe_ends(scene, fresh, ids)
    written = sum(node.metric("sse_gap_records_total") for node in (*nodes, fresh))
    scene.fact(f"gap records written by all nodes: {written:.0f}")
    losses = [
        node.metric("sse_failover_losses_total", "sse_forks_total") for node in (*nodes, fresh)
    ]
    scene.fact(f"nodes that found the loss: {[count > 0 for count in losses]}")
    redis.kill()


def _open_all(scene, nodes):
    live = [(query, scene.open(node, f"/stream{query}")) for node in nodes for query in QUERIES]
    for _, one in live:
        one.stream.wait_for("\n\n")
    return live


def _lose(scene, redis, nodes, is_early):
    """Brings Redis back with its snapshot. Nodes are frozen while another program is early."""
    for node in nodes if is_early else ():
        node.process.freeze()
    redis.kill()
    redis.restart()
    if is_early:
        early_id = redis.command("XADD", "sse:{sse}", "*", "event", "number", "data", "early")
        scene.fact(f"published early by another program: {early_id}")
        for node in nodes:
            node.process.thaw()
    for node in nodes:
        node.wait_until_ready()


def _describe_resumes(scene, name, node, ids):
    """Streams and history after ids that survived, ids that are lost, and the record."""
    record = next(event["id"] for event in node.history("sse") if event["event"] == "gap")
    cursors = [
        ids[0],
        ids[3],
        ids[4],
        *ids[5:],
        f"@{ids[5]}",
        f"@{ids[7]}",
        record,
        f"@{record}",
        "0-0",
    ]
    for cursor in cursors:
        header = [("last-event-id", cursor)]
        title = f"node {name} after {cursor}"
        stream = scene.stream(node, "/stream", header, until="data: new\n\n", title=title)
        scene.get(node, f"/events?last_event_id={cursor}", title=f"{title}, history")
    gap = next((block for block in stream.blocks() if "event: gap" in block), None)
    after_gap = gap.split("\n")[0].removeprefix("id: ")
    scene.stream(
        node,
        "/stream",
        [("last-event-id", after_gap)],
        until="data: new\n\n",
        title="after the gap",
    )
    for query in ("event=other&last_event_id=0-0", "envelope=json&last_event_id=" + ids[4]):
        until = "event: gap\n" if "other" in query else '"new"'
        scene.stream(node, f"/stream?{query}", until=until, title=f"node {name}, {query}")
    for query in ("limit=6", "last=2", "last=3", "event=other", f"until={ids[6]}"):
        scene.get(node, f"/events?{query}", title=f"node {name}, history, {query}")


def _describe_ends(scene, node, ids):
    """Streams with an end before, among and behind the lost ids."""
    for place in (4, 5, 7):
        path = f"/stream?until={ids[place]}"
        opened = scene.open(node, path, [("last-event-id", ids[2])])
        last_id = opened.stream.wait_for_end().last_id()
        scene.show(opened, f"until {place}")
        header = [("last-event-id", last_id)]
        scene.show(scene.open_to_end(node, path, header), f"until {place}, coming back")
        scene.get(
            node,
            f"/events?until={ids[place]}&last_event_id={ids[4]}",
            title=f"until {place}, history",
        )


def _describe_redis(scene, redis):
    """All keys, and what is in the streams: other versions read them."""
    scene.case("what is in Redis")
    # Health checks write a key that expires.
    keys = [key for key in redis.command("KEYS", "*") if not key.endswith(":check")]
    for key in sorted(keys):
        kind = redis.command("TYPE", key)
        scene.fact(f"{key}: {kind}")
        for entry_id, fields in redis.entries(key) if kind == "stream" else ():
            scene.fact(f"    {entry_id} {json.dumps(fields)}")


def no_snapshot(scene):
    """A Redis that comes back empty, and loses its gap record once more."""
    redis = RedisServer(scene.directory, SNAPSHOTS)
    node = scene.node(redis)
    scene.name_address(redis.address, "redis")
    live = scene.open(node, "/stream")
    start = live.stream.wait_for("\n\n").last_id()
    cursors = [start]
    for round_number in range(2):
        cursors.append(scene.publish(node, "sse", "number", f"lost {round_number}"))
        live.stream.wait_for(f"data: lost {round_number}\n\n")
        redis.kill()
        redis.restart()
        node.wait_until_ready()
        count = round_number + 1
        live.stream.wait_until(lambda: live.stream.payload.count(b"event: gap\n") == count, "a gap")
        live.stream.wait_until(lambda: live.stream.payload.endswith(b"\n\n"), "the end of a block")
    scene.publish(node, "sse", "number", "new")
    live.stream.wait_for("data: new\n\n")
    scene.show(live, "open all the time")
    fresh = scene.node(redis)
    for name, server in (("knew", node), ("did not know", fresh)):
        for cursor in cursors:
            header = [("last-event-id", cursor)]
            title = f"a node that {name}, after {cursor}"
            scene.stream(server, "/stream", header, until="data: new\n\n", title=title)
    _describe_redis(scene, redis)
    redis.kill()


def keys_in_redis(scene):
    """Names, types and fields of everything that a node keeps in Redis."""
    server = scene.start("redis", "--redis-prefix", "app.1:")
    scene.publish(server, "sse", "click", "x")
    scene.publish(server, "sse", "click", "y", key="k")
    scene.publish(server, "b", "click", "z", key="k")
    server.wait_until_ready()
    _describe_redis(scene, server.redis)
    for channel in ("sse", "b"):
        keys = server.redis.command("HVALS", f"app.1:{{{channel}}}:keys")
        # Keys and contents are hashes; their bytes are the same in every run.
        for value in keys:
            scene.fact(f"a key of {channel}: {value}")
    names = server.redis.command("ZRANGE", "app.1:names", "0", "-1")
    scene.fact(f"channels: {names}")


SCENES = [(older_snapshot, ("late",)), (older_snapshot, ("early",)), no_snapshot, keys_in_redis]
