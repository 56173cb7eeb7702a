"""What requests must be: methods, paths, names, queries, bodies, keys. No broker matters here."""

import json

from wire import Connection, chunked, request_bytes

JSON, LINES, TEXT = "application/json", "application/x-ndjson", "text/plain"
ONE_LINE = '{"event":"click","data":"x"}'
ROUTES = ("/event/click", "/events", "/stream", "/health/live", "/health/ready", "/metrics")
METHODS = ("GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "BREW")


def methods(scene):
    """Every method on every route. What streams or prints metrics is described elsewhere."""
    server = scene.start("memory")
    for path in ROUTES:
        for method in METHODS:
            if (method, path) not in {("GET", "/stream"), ("GET", "/metrics")}:
                scene.send(server, method, path)
    scene.get(server, "/events", title="the two publishes are all that was stored")
    for version in ("HTTP/1.0", "HTTP/1.1"):
        request = request_bytes("GET", "/health/live", [("connection", "close")], version=version)
        scene.send_raw(server, request, "GET", f"{version} with connection: close")
    request = request_bytes(
        "GET", "/health/live", [("connection", "keep-alive")], version="HTTP/1.0"
    )
    scene.send_raw(server, request, "GET", "HTTP/1.0 with connection: keep-alive")


def paths(scene):
    """Paths that lead nowhere, and routes that are written with escapes."""
    server = scene.start("memory")
    unknown = (
        "/",
        "/event",
        "/Event/click",
        "/events/",
        "/stream/",
        "/health",
        "/favicon.ico",
        "//event/click",
    )
    for path in (*unknown, "/event%3F", "/" + "x" * 300):
        for method in ("GET", "POST"):
            scene.send(server, method, path)
    for path in ("/%65vent/click", "/event%2Fclick", "/%65vents", "/./events", "/x/../events"):
        scene.get(server, path)
    scene.send(server, "OPTIONS", "*")
    scene.send(server, "GET", "http://other.example/health/live", title="an absolute URL")
    scene.get(server, "/events")


def names(scene):
    """Channels and actions, good and bad."""
    server = scene.start("memory")
    bad = (
        "",
        "a%20b",
        "a+b",
        "a/b",
        "a%2Fb",
        "%C3%A9",
        "a%00",
        "a%0A",
        "a,b",
        "a=b",
        "%7Bsse%7D",
        "*",
        "x" * 65,
    )
    for channel in bad:
        scene.get(server, f"/event/click?channel={channel}")
    for method, path in (("POST", "/event/click"), ("GET", "/events"), ("GET", "/stream")):
        scene.send(server, method, f"{path}?channel=a,b")
    scene.post(server, "/events?channel=a,b", LINES, ONE_LINE)
    for channel in ("a", "A-Z.a_z:0~9", "x" * 64):
        scene.get(server, f"/event/click?channel={channel}")
    actions = (
        "",
        "a%2Fb",
        "a/b",
        "a/",
        "a%0Ab",
        "a%0Did:%201",
        "%00",
        "a%7F",
        "%C2%85",
        "x" * 129,
        "%C3%A9" * 65,
    )
    for action in (*actions, "gap", "open", "error", "g%61p"):
        scene.get(server, f"/event/{action}")
    scene.post(server, "/event/gap", TEXT, "x")
    good = (
        "a%20b",
        "a+b",
        "%25",
        "caf%C3%A9",
        "%E2%80%A8",
        "gaps",
        "Open",
        "message",
        "a:b;c=d,e'(f)",
        "x" * 128,
    )
    for action in good:
        scene.post(server, f"/event/{action}", TEXT, "x")
    scene.get(server, "/events", title="the types as they were stored")


def queries(scene):
    """Percent-encoding and query parameters."""
    server = scene.start("memory")
    encodings = (
        "%",
        "%4",
        "%zz",
        "%+1",
        "a%FF",
        "%C3",
        "%C3%28",
        "%ED%A0%80",
        "%F4%90%80%80",
        "%C0%AF",
    )
    for bad in encodings:
        scene.get(server, f"/event/{bad}")
    for query in (
        "/event/click?channel=%FF",
        "/event/click?%FF=1",
        "/stream?event=%4",
        "/events?last_event_id=%C3",
    ):
        scene.get(server, query)
    unknown = (
        "/event/click?chanel=a",
        "/event/click?last=1",
        "/events?envelope=json",
        "/events?_x",
        "/stream?limit=1",
    )
    for path in (*unknown, "/stream?" + "y" * 200 + "=1"):
        scene.get(server, path)
    scene.post(server, "/events?event=a", LINES, ONE_LINE)
    scene.get(
        server,
        "/event/click?_=17&_cache=x&channel=busted",
        title="names that begin with _ are ignored",
    )
    scene.get(server, "/event/click?&&channel=%62usted&", title="empty pairs are ignored")
    for query in ("channel=a&channel=b", "channel=a&channel=a"):
        scene.get(server, f"/event/click?{query}")
        scene.get(server, f"/events?{query}")
    twice = (
        "limit=1&limit=2",
        "last=1&last=1",
        "since=1&since=1",
        "from=oldest&from=oldest",
        "until=1&until=1",
    )
    for query in (*twice, "last_event_id=1-0&last_event_id=1-0", "lastEventId=1-0&lastEventId=1-0"):
        scene.get(server, f"/events?{query}")
    scene.get(server, "/stream?envelope=json&envelope=json")


def start_parameters(scene):
    """Start and end parameters with values that the server rejects."""
    server = scene.start("memory")
    pairs = (
        "last=1&since=5m",
        "from=oldest&last=1",
        "since=5m&from=oldest",
        "last_event_id=1-0&last=1",
    )
    bad = (
        "last=10001",
        "last=-1",
        "last=",
        "last=x",
        "from=newest",
        "from=",
        "since=",
        "since=soon",
        "since=5x",
    )
    ends = ("until=10m", "until=", "until=@5-7", "until=a=5-7", "until=soon")
    for path in ("/stream", "/events"):
        for query in (*pairs, *bad, *ends):
            scene.get(server, f"{path}?{query}")
    for query in ("limit=0", "limit=10001", "limit=x", "limit="):
        scene.get(server, f"/events?{query}")
    for query in ("envelope=xml", "envelope=", "event=a%0Ab", "event=", "event=" + "x" * 129):
        scene.get(server, f"/stream?{query}")
    many_types = "&".join(f"event=t{number}" for number in range(65))
    scene.get(server, f"/stream?{many_types}", title="65 types")
    scene.get(server, f"/events?{many_types}", title="65 types of history")
    many_channels = "&".join(f"channel=c{number}" for number in range(33))
    scene.get(server, f"/stream?{many_channels}", title="33 channels")


def content_types(scene):
    """Types, charsets and encodings of bodies."""
    server = scene.start("memory")
    body = "x=1"
    types = (
        None,
        "application/x-www-form-urlencoded",
        "text/html",
        "json",
        "multipart/form-data; boundary=x",
    )
    charsets = (
        "text/plain; charset=latin1",
        "application/json; charset=utf-16",
        "application/cloudevents+json",
    )
    for content_type in (*types, LINES, *charsets):
        scene.post(
            server,
            "/event/click?channel=typed",
            content_type,
            body,
            title=f"an event as {content_type}",
        )
    for coding in ("gzip", "br"):
        scene.post(
            server,
            "/event/click",
            TEXT,
            body,
            [("content-encoding", coding)],
            title=f"an event in {coding}",
        )
    for content_type in (None, TEXT, "text/csv", "application/x-ndjson; charset=latin1"):
        scene.post(server, "/events", content_type, ONE_LINE, title=f"a batch as {content_type}")
    scene.post(
        server, "/events", LINES, ONE_LINE, [("content-encoding", "gzip")], title="a batch in gzip"
    )
    scene.post(
        server,
        "/event/it's?channel=a",
        None,
        "x",
        title="the example of the message quotes the path",
    )
    scene.post(
        server,
        "/event/click",
        None,
        "x",
        [("host", "odd host")],
        title="the example without a usable host",
    )
    good = ("TEXT/Plain", "text/plain; charset=UTF-8", "application/json;charset=utf-8")
    for content_type in good:
        scene.post(server, "/event/click", content_type, '"1"', title=f"an event as {content_type}")
    scene.post(
        server,
        "/event/click",
        TEXT,
        "x",
        [("content-encoding", "identity")],
        title="identity is no encoding",
    )
    for content_type in ("application/ndjson", "application/jsonl", LINES):
        scene.post(server, "/events", content_type, ONE_LINE, title=f"a batch as {content_type}")
    scene.get(server, "/events")


def events(scene):
    """Bodies of single events."""
    server = scene.start("memory")
    for body in (
        "",
        "{",
        "{} {}",
        "[1,]",
        "'x'",
        '{"a":1',
        "\ufeff1",
        "01",
        "NaN",
        '"\\ud800"',
        " ",
    ):
        scene.post(server, "/event/click", JSON, body, title=f"JSON {body!r}")
    scene.post(server, "/event/click", JSON, b'"\xff"', title="JSON that is not UTF-8")
    scene.post(server, "/event/click", TEXT, b"caf\xe9", title="text that is not UTF-8")
    scene.post(server, "/event/click", JSON, "[" * 200, title="JSON of 200 levels")
    for body in (
        '{ "a": [1 , 2], "a": 1.0 }',
        '"a\\u00e9\\n"',
        " null\n",
        "1e400",
        "[" * 100 + "]" * 100,
    ):
        scene.post(server, "/event/click", JSON, body, title=f"good JSON {body[:30]!r}")
    for body in ("", "a\nb\r\nc\rd\n", "id: 5\n\nevent: gap", "\ufeff\u2028\x00\x85 \U0001f600"):
        scene.post(server, "/event/click", TEXT, body, title=f"text {body!r}")
    scene.post(server, "/event/click", None, "", title="no type and no body")
    scene.get(server, "/event/click", title="a GET")
    scene.get(server, "/events", title="the data as it was stored")
    framed = [("content-type", TEXT), ("transfer-encoding", "chunked")]
    scene.send(
        server, "POST", "/event/click", framed, chunked(b"abc", b"def"), title="a chunked body"
    )
    scene.send(server, "POST", "/event/click", framed, b"zz\r\n", title="chunks that are none")
    scene.get(server, "/events?last=1")


def batches(scene):
    """Bodies of batches."""
    server = scene.start("memory")
    bad_lines = (
        "",
        "\n \n",
        "x",
        "[]",
        '"x"',
        ONE_LINE + "\n{",
        '{"event":"click"}',
        '{"data":"x"}',
        '{"event":"a","data":"x","event":"b"}',
        '{"event":"gap","data":"x"}',
        '{"event":"a/b","data":"x"}',
        '{"event":5,"data":"x"}',
        '{"event":"a","data":"\\ud800"}',
        '{"event":"a","data":"x","key":5}',
        '{"event":"a","data":"x","key":"a b"}',
        ONE_LINE + "\n" + ONE_LINE + " x",
    )
    for body in bad_lines:
        scene.post(server, "/events", LINES, body, title=f"lines {body!r}")
    scene.post(
        server, "/events", LINES, b'{"event":"a","data":"\xff"}', title="lines that are not UTF-8"
    )
    scene.post(server, "/events", LINES, "\ufeff" + ONE_LINE, title="lines with a byte order mark")
    for body in (
        "",
        "[]",
        "{}",
        "[1]",
        "[" + ONE_LINE,
        f"[{ONE_LINE},]",
        f"[{ONE_LINE}] x",
        f'[{ONE_LINE},"x"]',
    ):
        scene.post(server, "/events", JSON, body, title=f"array {body!r}")
    good = [
        '{"event":"a","data":"x\\n\\"y\\""}\r\n\n{"event":"a","data":{"b": 1.0, "b":[1 , 2]}}',
        '{"event":"a","data":null,"id":"5-0","time":"now"}\n{"event":".","data":true}',
        '{"event":"caf\\u00e9","data":"\\ud83d\\ude00"}\n',
    ]
    for body in good:
        scene.post(server, "/events", LINES, body, title=f"good lines {body!r}")
    scene.post(server, "/events", JSON, f" [ {ONE_LINE} , {ONE_LINE} ] ", title="a good array")
    scene.get(server, "/events", title="the batches as they were stored")


def sizes(scene):
    """Bodies over their limits, however they are framed."""
    limits = ("--event-bytes-max", "2000", "--batch-bytes-max", "5000", "--batch-events-max", "3")
    server = scene.start("memory", *limits)

    def line(length):
        return json.dumps({"event": "a", "data": "x" * length})

    too_large = (
        ("/event/click", TEXT, "x" * 2001),
        ("/event/click", JSON, "1" + " " * 2000),
        ("/event/click", "text/html", "x" * 2001),
        ("/events", LINES, "x" * 5001),
        ("/events", JSON, " " * 5001),
        ("/events", LINES, f"{line(1)}\n\n{line(2001)}"),
        ("/events", JSON, f"[{line(1)},{line(2001)}]"),
        ("/events", LINES, "\n".join([ONE_LINE] * 4)),
        ("/events", JSON, f"[{','.join([ONE_LINE] * 4)}]"),
    )
    for number, (path, content_type, body) in enumerate(too_large, 1):
        scene.post(server, path, content_type, body, title=f"too large {number}")
        headers = [("content-type", content_type), ("transfer-encoding", "chunked")]
        scene.send(
            server,
            "POST",
            path,
            headers,
            chunked(body.encode()),
            title=f"too large {number}, chunked",
        )
    scene.post(server, "/event/click", TEXT, "x" * 2000, title="as large as may be")
    scene.post(
        server,
        "/events",
        LINES,
        f"{line(2000)}\n{line(2000)}\n{ONE_LINE}",
        title="as many as may be",
    )
    keys = scene.start("memory", "--idempotency-keys", "3")
    lines = [json.dumps({"event": "a", "data": 1, "key": key}) for key in "fghi"]
    scene.post(keys, "/events", LINES, "\n".join(lines), title="more keys than a channel may have")


def keys(scene):
    """Idempotency keys that cannot be used."""
    server = scene.start("memory")
    for key in ("", "a b", "k" * 256, "\u00e9", "a\tb", "k\x7f"):
        header = [("idempotency-key", key.encode())]
        scene.post(server, "/event/click", TEXT, "x", header, title=f"key {key[:5]!r}")
        scene.get(server, "/event/click", header, title=f"key {key[:5]!r} of a GET")
        line = json.dumps({"event": "click", "data": "x", "key": key})
        scene.post(server, "/events", LINES, line, title=f"key {key[:5]!r} of a line")
    twice = [("idempotency-key", "a"), ("idempotency-key", "a")]
    scene.post(server, "/event/click", TEXT, "x", twice, title="the header twice")
    line = '{"event":"a","data":1,"key":"k"}'
    scene.post(server, "/events", LINES, line, [("idempotency-key", "k")], title="header and line")
    scene.get(server, "/events", title="nothing was stored")
    scene.post(
        server, "/event/click", TEXT, "x", [("idempotency-key", "k" * 255)], title="the longest key"
    )


def connections(scene):
    """Several requests on one connection, and answers before the body."""
    server = scene.start("memory")
    health = request_bytes("GET", "/health/live", host=server.address)
    scene.case("two requests one after the other, and two at once")
    with Connection(server.address) as connection:
        for _ in range(2):
            connection.send(health)
            scene.transcript.response(connection.response())
        connection.send(health + request_bytes("GET", "/nowhere", host=server.address))
        for _ in range(2):
            scene.transcript.response(connection.response())
    head = [("content-type", TEXT), ("expect", "100-continue")]
    scene.case("100 Continue before the body")
    with Connection(server.address) as connection:
        request = request_bytes(
            "POST", "/event/click", [*head, ("content-length", "2")], host=server.address
        )
        connection.send(request)
        scene.transcript.response(connection.response())
        connection.send(b"ok")
        scene.transcript.response(connection.response())
    for path, body in (
        ("/nowhere", b"smuggled"),
        ("/event/gap", b"smuggled"),
        ("/events", b"smuggled"),
    ):
        scene.case(f"POST {path} and another request on the same connection")
        with Connection(server.address) as connection:
            request = request_bytes(
                "POST", path, [("content-type", "text/html")], body, host=server.address
            )
            connection.send(request + health)
            scene.transcript.response(connection.response())
            scene.transcript.response(connection.response())


def hostile(scene):
    """What is hardly HTTP."""
    server = scene.start("memory")
    head = "POST /event/click HTTP/1.1\r\nHost: localhost\r\ncontent-type: text/plain\r\n"
    chunks = "transfer-encoding: chunked\r\n\r\n"
    requests = (
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /event/a\x01b HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /event/caf\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /event/click?channel=\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /event/click HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /event/click HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET /event/click HTTP/1.1\r\n: x\r\n\r\n",
        b"GET /event/click HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"GET /health/live HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        f"{head}content-length: -1\r\n\r\nx".encode(),
        f"{head}content-length: 1x\r\n\r\nx".encode(),
        f"{head}content-length: 1\r\ncontent-length: 2\r\n\r\nxy".encode(),
        f"{head}content-length: 99999999999999999999999\r\n\r\nx".encode(),
        f"{head}content-length: 18446744073709551615\r\n\r\nx".encode(),
        f"{head}content-length: 3\r\n{chunks}1\r\nx\r\n0\r\n\r\n".encode(),
        f"{head}transfer-encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n".encode(),
        f"{head}{chunks}zz\r\nx\r\n0\r\n\r\n".encode(),
        f"{head}{chunks}ffffffffffffffffff\r\nx\r\n0\r\n\r\n".encode(),
        b"GET /event/click HTTP/1.1\r\nHost: localhost\r\nx: " + b"y" * 200_000 + b"\r\n\r\n",
        b"GET /event/" + b"x" * 60_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    )
    for number, request in enumerate(requests, 1):
        scene.send_raw(server, request, "GET", f"hardly HTTP {number}")
    scene.get(server, "/events", title="nothing was stored")


SCENES = [
    methods,
    paths,
    names,
    queries,
    start_parameters,
    content_types,
    events,
    batches,
    sizes,
    keys,
    connections,
    hostile,
]
