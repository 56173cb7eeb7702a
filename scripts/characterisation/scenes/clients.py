"""The two clients: what they send, print and record, against our server and a scripted one."""

import json
import re

from masks import visible
from processes import Process, wait_until
from scripted_server import BREAK, ScriptedServer, response, stream

ACKNOWLEDGED = '{"id":"1700000000000-5"}'
GAP = '{"channel":"orders","after":"1-0","oldest":"5-0","reason":"trimmed"}'
# Figures that were measured, in reports: by their names.
_MEASURED = re.compile(r"(_us|_s|per_second|_achieved|wire|started)$")
# One request after another, and the same events in every run.
QUICK = ("--rate", "1000", "--concurrency", "1", "--seed", "7", "--progress", "off")
# Rates, latencies and random times to wait, in the clients' messages.
_FIGURE = re.compile(r"(?<![\w.])\d+(\.\d+ ?|(?=ms|µs|s\b))(ms|µs|s\b)?")


class Client:
    """A run of `listener` or `event-generator`."""

    def __init__(self, scene, program, arguments, environment=None):
        self._scene = scene
        self._title = " ".join([program, *map(str, arguments)])
        self.directory = scene.directory
        command = [scene.programs / program, *arguments]
        self.process = Process(program, command, self.directory, environment)

    def describe(self, files=()):
        """Waits for the end, and describes the exit code, the output and files with records."""
        code = self.process.finish()
        self._scene.case(self._title)
        self._scene.fact(f"exit code {code}")
        output = visible(self.process.output().encode())
        for line in output.removesuffix("\n").split("\n") if output else ():
            self._scene.fact(f"stdout: {line}")
        for name in files:
            for line in (self.directory / name).read_text().splitlines():
                self._scene.fact(f"{name}: {line}")
        self.wording(self.process.errors())

    def wording(self, text):
        for line in text.splitlines():
            masked = self._scene.transcript.masks.apply(line)
            self._scene.transcript.wording(_FIGURE.sub("<figure>", masked))


def records(scene):
    """What was sent and what was received, by our server."""
    server = scene.start("memory")
    url = ["--url", server.url]
    following = Client(
        scene, "listener", [*url, "--channel", "orders", "--count", "5", "--record", "received"]
    )
    wait_until(lambda: server.metric("sse_subscribers") == 1, "the listener to subscribe")
    sending = [*url, *QUICK, "--channel", "orders", "--count", "5"]
    Client(scene, "event-generator", [*sending, "--record", "sent", "--report", "report"]).describe(
        ["sent"]
    )
    _describe_json(scene, scene.directory / "report")
    following.describe(["received"])
    past = [*url, "--channel", "orders", "--last", "5", "--count", "5"]
    for arguments in (
        ("json",),
        ("data",),
        ("raw",),
        ("text", "--show-comments"),
        ("json", "--show-comments"),
    ):
        Client(scene, "listener", [*past, "--format", *arguments]).describe()
    stranger = [
        *url,
        "--channel",
        "orders",
        "--last-event-id",
        "5-5",
        "--count",
        "1",
        "--record",
        "received",
    ]
    Client(scene, "listener", [*stranger, "--state", "state"]).describe(["received", "state"])
    Client(
        scene, "listener", [*url, "--channel", "orders", "--count", "2", "--state", "state"]
    ).describe(["state"])


def payloads(scene):
    """The events of the generator, as our server stored them."""
    server = scene.start("memory")
    url = ["--url", server.url]
    (scene.directory / "recording").write_text(
        '{"event":"click","data":"text"}\n'
        ": a comment\n\n"
        '{"data":{"a":1},"event":"view","id":"5-0"}\n'
    )
    for channel, arguments in (
        ("tutorial", ["--count", "3", "--actions", "a=2,b"]),
        ("sequenced", ["--count", "3", "--payload", "sequenced", "--data-size", "150"]),
        ("session", ["--count", "6", "--payload", "session", "--users", "2"]),
        ("replay", ["--replay", "recording"]),
        ("batch", ["--count", "5", "--batch", "2", "--payload", "sequenced", "--record", "sent"]),
    ):
        files = ["sent"] if "--record" in arguments else []
        client = Client(scene, "event-generator", [*url, *QUICK, "--channel", channel, *arguments])
        client.describe(files)
        scene.get(server, f"/events?channel={channel}", title=f"the events of {channel}")


def bench(scene):
    """`listener bench`: the report, without what was measured."""
    server = scene.start("memory")
    for number in range(4):
        stamp = {"publisher": "p", "sequence": number, "sent_us": 5}
        server.publish("sse", "number", json.dumps(stamp))
    arguments = [
        "--url",
        server.url,
        "--last",
        "4",
        "--count",
        "4",
        "--connections",
        "2",
        "--seed",
        "1",
    ]
    client = Client(
        scene, "listener", ["bench", *arguments, "--expect-no-loss", "--report", "report"]
    )
    client.process.finish()
    scene.case("listener bench")
    _describe_json(scene, scene.directory / "report")


def _describe_json(scene, file):
    """Describes a report: every path in it, and its value unless that was measured."""
    for path, value in _leaves(json.loads(file.read_text())):
        name = path[-1] if path else ""
        shown = "<number>" if isinstance(value, float) or _is_measured(path) else json.dumps(value)
        scene.fact(f"report: {'.'.join(path)}: {shown}" if name else f"report: {shown}")


def _is_measured(path):
    return "latency_us" in path or bool(_MEASURED.search(path[-1]))


def _leaves(value, path=()):
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _leaves(inner, (*path, name))
    elif isinstance(value, list) and value:
        for inner in value:
            yield from _leaves(inner, (*path, "[]"))
    else:
        yield path, value


def generator_requests(scene):
    """Requests of the generator, byte for byte, and what it makes of answers."""
    one = response("200 OK", body=ACKNOWLEDGED)
    batch = response(
        "200 OK", body='{"first_id":"1700000000000-5","last_id":"1700000000000-6","count":2}'
    )
    for arguments, answers in (
        (["--count", "1"], [one]),
        (
            ["--count", "1", "--channel", "orders", "--bearer", "token", "--header", "X-Key: a, b"],
            [one],
        ),
        (["--count", "2", "--payload", "sequenced", "--batch", "2"], [batch]),
        (["--count", "1", "--retry", "2"], [response("503 Service Unavailable"), BREAK, one]),
        (["--count", "1", "--method", "put", "--path", "/pub?id={channel}&t={action}"], [one]),
        (
            [
                "--count",
                "1",
                "--path",
                "/x",
                "--body",
                "topic={channel:url}&data={data:url}&n={seq}",
            ],
            [one],
        ),
        (
            [
                "--count",
                "1",
                "--method",
                "GET",
                "--path",
                "/x/{data}",
                "--header",
                "X-Event: {action}",
            ],
            [one],
        ),
        (
            ["--count", "1", "--path", "/x", "--body", '{"data":{data:json}}'],
            [response("202 Accepted")],
        ),
    ):
        _describe_generator(scene, arguments, answers)
    wrong = [
        response("400 Bad Request", body='{"error":{"code":"invalid_channel","message":"no"}}'),
        response(
            "503 Service Unavailable",
            body='{"error":{"code":"outcome_unknown","message":"perhaps"}}',
        ),
        response(
            "503 Service Unavailable", body='{"error":{"code":"broker_unavailable","message":"no"}}'
        ),
        response("500 Internal Server Error"),
        response("301 Moved Permanently", ["Location: /elsewhere"]),
        response("200 OK", body="stored"),
        BREAK,
        one,
    ]
    _describe_generator(
        scene,
        ["--count", str(len(wrong)), "--record", "sent", "--channel", "orders"],
        wrong,
        ["sent"],
    )


def _describe_generator(scene, arguments, answers, files=()):
    with ScriptedServer(answers) as server:
        scene.name_address(server.address, "target")
        client = Client(scene, "event-generator", ["--url", server.url, *QUICK, *arguments])
        client.describe(files)
        _describe_requests(scene, server)


def _describe_requests(scene, server):
    for request in server.requests:
        for line in visible(request.replace(b"\r\n", b"\n")).split("\n"):
            scene.fact(f"request: {line}")


def listener_requests(scene):
    """Requests of the listener, byte for byte, and what it makes of answers."""
    (scene.directory / "body").write_text('{"stream": true}')
    event = "retry: 1\nid: 1-0\nevent: click\ndata: a\ndata: b\n\n"
    gone = response("204 No Content")
    query = ["--channel", "a,b", "--event", "x y", "--event", "z", "--since", "10m"]
    for arguments, answers in (
        ([], [stream(event), gone]),
        ([*query, "--last-event-id", "5-5"][:-2], [stream(event), gone]),
        (
            ["--last-event-id", "5-5", "--bearer", "token", "--header", "X-Key: a, b"],
            [stream(event), gone],
        ),
        (["--last", "3", "--method", "put"], [stream(event), gone]),
        (["--body", '{"stream": true}'], [stream(event), gone]),
        (["--body", "@body", "--header", "Content-Type: text/plain"], [stream(event), gone]),
        (
            ["--record", "received"],
            [stream(f"retry: 1\nid: @5-0\nevent: gap\ndata: {GAP}\n\n{event}"), gone],
        ),
        (
            ["--format", "json", "--show-comments"],
            [stream(f": hello\n\n:\n\ndata: x\n\n{event}"), gone],
        ),
        (["--format", "raw"], [stream(f"\ufeff: hello\r\n\r\n{event}data: unfinished"), gone]),
        (
            ["--max-retries", "3"],
            [response("503 No", ["Retry-After: 0"]), BREAK, stream(event), gone],
        ),
        (["--max-retries", "1"], [response("500 No", ["Retry-After: 0"])] * 2),
        (["--bearer", "token"], [response("302 Found", ["Location: /elsewhere?x=1"]), gone]),
        (["--body", "x"], [response("303 See Other", ["Location: /elsewhere"]), gone]),
        (["--body", "x"], [response("307 Temporary Redirect", ["Location: /elsewhere"]), gone]),
        ([], [response("302 Found", ["Location: /stream"])] * 11),
        ([], [response("200 OK", ["Content-Type: text/html"], "<h1>Welcome</h1>")]),
        (
            [],
            [
                response(
                    "404 Not Found", body='{"error":{"code":"not_found","message":"no such path"}}'
                )
            ],
        ),
        ([], [response("403 Forbidden", body="\x1b[31mno\n" + "x" * 300)]),
        (["--max-event-size", "100"], [stream("data: " + "x" * 200 + "\n\n")]),
    ):
        files = ["received"] if "--record" in arguments else []
        with ScriptedServer(answers) as server:
            scene.name_address(server.address, "target")
            Client(scene, "listener", ["--url", server.url, *arguments]).describe(files)
            _describe_requests(scene, server)


def redirects_elsewhere(scene):
    """Secrets stay with the origin that they were given for."""
    gone = response("204 No Content")
    with ScriptedServer([gone]) as other:
        moved = response("301 Moved Permanently", [f"Location: {other.url}/stream"])
        with ScriptedServer([moved]) as server:
            scene.name_address(server.address, "target")
            scene.name_address(other.address, "another target")
            arguments = ["--url", server.url, "--bearer", "token", "--header", "X-Key: a"]
            Client(scene, "listener", arguments).describe()
            _describe_requests(scene, server)
            _describe_requests(scene, other)


def from_the_environment(scene):
    """Settings from variables."""
    gone = response("204 No Content")
    one = response("200 OK", body=ACKNOWLEDGED)
    with ScriptedServer([gone]) as server:
        scene.name_address(server.address, "target")
        variables = {"URL": f"{server.url}/s?token=x", "BEARER": "token", "HEADER": "X-Key: a, b"}
        variables |= {"CHANNEL": "a,b", "LAST": "3", "SHOW_COMMENTS": "1"}
        Client(
            scene, "listener", [], {f"LISTENER_{name}": value for name, value in variables.items()}
        ).describe()
        _describe_requests(scene, server)
    with ScriptedServer([one]) as server:
        scene.name_address(server.address, "target")
        variables = {
            "URL": server.url,
            "BEARER": "token",
            "HEADER": "X-Key: a, b",
            "CHANNEL": "a",
            "COUNT": "1",
        }
        variables |= {"RATE": "max", "SEED": "5", "PRINT_STATUS": "0", "CONCURRENCY": "1"}
        environment = {f"GENERATOR_{name}": value for name, value in variables.items()}
        Client(scene, "event-generator", [], environment).describe()
        _describe_requests(scene, server)


SCENES = [
    records,
    payloads,
    bench,
    generator_requests,
    listener_requests,
    redirects_elsewhere,
    from_the_environment,
]
