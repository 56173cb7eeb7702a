"""Command lines: help, versions, misuse, settings from the environment, and starts that fail."""

import re
import socket

import sse_server
from processes import Process

SHELLS = ("bash", "zsh", "fish")
# A clap-made line of a long help: a flag, or what is known of one.
_FLAG = re.compile(r" {2}(?: {4}|(-\w), )(--[\w-]+)")
_FACT = re.compile(r"\s+(\[(?:env|default|possible values|aliases): .*\])")
_VALUE = re.compile(r"\s+- ([\w-]+):")


def _run(scene, program, arguments, environment=None, title=None):
    """Runs a program that ends by itself, and describes its exit code and its output."""
    scene.case(title or " ".join([program, *map(repr, arguments)]))
    for name, value in (environment or {}).items():
        scene.fact(f"with {name}={value!r}")
    process = Process(program, [scene.programs / program, *arguments], scene.directory, environment)
    code = process.finish()
    stdout, stderr = process.output(), process.errors()
    scene.fact(f"exit code {code}; stdout {_size(stdout)}, stderr {_size(stderr)}")
    for text in (stdout, stderr):
        if text:
            scene.transcript.wording(_without_times(text.rstrip("\n")))
    return stdout


def _size(text):
    return "has text" if text else "is empty"


def _without_times(text):
    """Returns a text without the times of log lines, and without durations."""
    text = re.sub(r"(?m)^\d{4}-\d\d-\d\dT[\d:.]+Z +", "", text)
    return re.sub(r"\b\d+\.\d+ s\b", "<duration>", text)


def helps(scene, program):
    """Help, short and long, and the flags in it with their variables, defaults and values."""
    commands = [[]] + ([["bench"]] if program == "listener" else [])
    for command in commands:
        text = _run(scene, program, [*command, "--help"])
        for flag in _flags(text):
            scene.fact(flag)
        _run(scene, program, [*command, "-h"])
    _run(scene, program, ["--version"])
    _run(scene, program, ["-V"])
    if program == "listener":
        _run(scene, program, ["help", "bench"])


def _flags(text):
    """Returns one text for each flag of a long help."""
    flags = []
    for line in text.split("\n"):
        if found := _FLAG.match(line):
            flags.append(" ".join(filter(None, reversed(found.groups()))))
        elif (found := _FACT.fullmatch(line) or _VALUE.match(line)) and flags:
            flags[-1] += f" {found[1]}"
    return flags


def completions(scene, program):
    """Completions for shells: only that there are some, because they repeat the help."""
    for shell in SHELLS:
        scene.case(f"{program} --completions {shell}")
        command = [scene.programs / program, "--completions", shell]
        process = Process(program, command, scene.directory)
        scene.fact(
            f"exit code {process.finish()}; it names the program: {program in process.output()}"
        )
    _run(scene, program, ["--completions", "csh"])
    _run(scene, program, ["--completions", "bash", "--url", "http://127.0.0.1:1"])


def server_misuse(scene):
    """What sse-server rejects before it opens or binds anything."""
    streams_max = sse_server.streams_max_flag(scene.program)
    for arguments in (
        ["--nonsense"],
        ["stray"],
        ["--heartbeat"],
        ["--memory", "--memory"],
        ["--memory=1"],
        ["--bind", "5000"],
        ["--bind", "nowhere.invalid:1"],
        ["--bind", "0.0.0.0:5000"],
        ["--bind", "[::]:5000"],
        ["--heartbeat", "15"],
        ["--heartbeat", "0s"],
        ["--heartbeat", "-1s"],
        ["--retry", "soon"],
        ["--coalesce", "101ms"],
        ["--coalesce", "5"],
        ["--fanout-threads", "-1"],
        ["--fanout-threads", "1000"],
        ["--write-timeout", "0s"],
        [streams_max, "0"],
        [streams_max, "many"],
        ["--history-events", "0"],
        ["--history-age", "0s"],
        ["--history-bytes", "0"],
        ["--history-bytes", "1XB"],
        ["--channels-max", "0"],
        ["--disk-reserve", "-1"],
        ["--event-bytes-max", "17MiB"],
        ["--event-bytes-max", "0"],
        ["--batch-bytes-max", "1GiB"],
        ["--batch-events-max", "0"],
        ["--publish-memory", "1MiB"],
        ["--publish-memory", "2TiB"],
        ["--log", "loud"],
        ["--log", "info,sse_server=loud"],
        ["--idempotency-keys", "0"],
        ["--idempotency-window", "0s"],
        ["--idempotency-window", "366d"],
        ["--tail-events", "0"],
        ["--tail-bytes", "x"],
        ["--cors-origin", "https://app.example/"],
        ["--cors-origin", "app.example"],
        ["--redis-prefix", "{app}:"],
        ["--redis-prefix", "x" * 65],
        ["--redis-timeout", "0s"],
        ["--redis-url", "http://localhost"],
        ["--redis-url", "redis://user:secret@"],
        ["--memory", "--redis-url", "redis://localhost"],
        ["--memory", "--data-dir", "x"],
        ["--data-dir", "x", "--redis-url", "redis://localhost"],
    ):
        _run(scene, "sse-server", arguments)
    variable = sse_server.streams_max_variable(scene.program)
    for environment in (
        {"SSE_HEARTBEAT": "soon"},
        {"SSE_MEMORY": "maybe"},
        {variable: "0"},
        {"SSE_MEMORY": "1", "SSE_REDIS_URL": "redis://localhost"},
        {"SSE_REDIS_URL": "http://user:secret@localhost"},
        {"REDIS_URL": "http://user:secret@localhost"},
        {"SSE_CORS_ORIGIN": "https://a.example,b.example"},
        {"SSE_BIND": "0.0.0.0:1"},
    ):
        _run(
            scene, "sse-server", [], environment, title=f"sse-server with {', '.join(environment)}"
        )


def server_starts(scene):
    """Starts that fail, and the log of one that succeeds."""
    server = scene.start("embedded")
    data = server.directory / "data"
    free = ["--bind", "127.0.0.1:0"]
    _run(scene, "sse-server", ["--data-dir", data, *free], title="a data directory that is in use")
    _run(
        scene,
        "sse-server",
        ["--memory", "--bind", server.address],
        title="an address that is in use",
    )
    elsewhere = ["--memory", "--allow-anonymous", "--bind", "192.0.2.1:0"]
    _run(scene, "sse-server", elsewhere, title="an address of another machine")
    server.publish("sse", "click", "x")
    server.stop()
    file = data / "events.redb"
    good = file.read_bytes()
    for name, content in (
        ("no log", b"this is no log\n" * 500),
        ("zeros", bytes(1 << 16)),
        ("one byte", b"x"),
        ("half a log", good[: len(good) // 2]),
        (
            "a log whose head is flipped",
            good[:64] + bytes(b ^ 0x5A for b in good[64:320]) + good[320:],
        ),
    ):
        file.write_bytes(content)
        _run(scene, "sse-server", ["--data-dir", data, *free], title=f"a file that is {name}")
        scene.fact(f"the file is as it was: {file.read_bytes() == content}")
    (scene.directory / "file").write_text("x")
    _run(
        scene,
        "sse-server",
        ["--data-dir", scene.directory / "file", *free],
        title="a directory that is a file",
    )
    environment = {
        "SSE_HISTORY_AGE": "1h",
        "SSE_NONSENSE": "1",
        "SSE_MEMORY": "",
        "SSE_HEARTBEAT": "7s",
    }
    with_log = scene.start("memory", "--heartbeat", "8s", environment=environment)
    with_log.stop()
    scene.case("the log of a run, with settings from flags and variables")
    scene.transcript.wording(_without_times(with_log.process.errors().rstrip("\n")))


def listener_misuse(scene):
    """What the listener rejects. No value of a secret is shown."""
    for arguments in (
        ["--nonsense"],
        ["stray"],
        ["--url"],
        ["--url", "ftp://user:secret@h"],
        ["--url", "http://user:secret@"],
        ["--url", "not a url"],
        ["--url", "http://a", "--url", "http://a"],
        ["--channel", "a b"],
        ["--event", ""],
        ["--last-event-id", "a\nb"],
        ["--since", ""],
        ["--last", "0"],
        ["--last", "-1"],
        ["--last", "1", "--since", "10m"],
        ["--last-event-id", "1-0", "--last", "1"],
        ["--count", "0"],
        ["--format", "xml"],
        ["--format", "data", "--show-comments"],
        ["--show-comments=maybe"],
        ["--insecure=maybe"],
        ["--idle-timeout", "45"],
        ["--idle-timeout", "0s"],
        ["--max-event-size", "0"],
        ["--max-event-size", "large"],
        ["--max-retries", "-1"],
        ["--method", "HEAD"],
        ["--method", "a b"],
        ["--body", "@/nowhere/at/all"],
        ["--header", "secret"],
        ["--header", "secret secret: secret"],
        ["--header", "X-Key: secret\nX-Other: secret"],
        ["--header", "X-Key:"],
        ["--header", "X-Key:", "secret"],
        ["--header", "Accept: secret"],
        ["--header", "last-event-id: secret"],
        ["--header", "Content-Length: 123456"],
        ["--bearer", "Bearer secret"],
        ["--bearer", ""],
        ["--bearer", "secret", "--header", "authorization: secret"],
        ["--header", "Authorization: secret", "--header", "authorization: secret"],
        ["--bearer", "secret", "--url", "http://user:secret@h"],
        ["--record", "/nowhere/at/all"],
        ["--state", "/nowhere/at/all"],
        ["--url", "http://127.0.0.1:1", "bench"],
        ["bench", "--connections", "0"],
        ["bench", "--connections", "5000000"],
        ["bench", "--url", "https://h"],
        ["bench", "--insecure"],
        ["bench", "--cut-share", "10%"],
        ["bench", "--cut-every", "5s", "--cut-share", "0"],
        ["bench", "--source", "nowhere"],
        ["bench", "--event", "a", "--expect-no-loss"],
        ["bench", "--max-event-size", "0"],
        ["bench", "--duration", "0s"],
        ["bench", "stray"],
        ["nonsense", "--url", "http://127.0.0.1:1"],
    ):
        _run(scene, "listener", arguments)
    for environment in (
        {"LISTENER_IDLE_TIMEOUT": "soon"},
        {"LISTENER_HEADER": "secret"},
        {"LISTENER_BEARER": "two secrets"},
        {"LISTENER_SHOW_COMMENTS": "maybe"},
        {"LISTENER_URL": "http://a http://a"},
    ):
        _run(scene, "listener", [], environment, title=f"listener with {', '.join(environment)}")


def generator_misuse(scene):
    """What the generator rejects. No value of a secret is shown."""
    for arguments in (
        ["--nonsense"],
        ["stray"],
        ["--url"],
        ["--url", "ftp://user:secret@h"],
        ["--url", "http://user:secret@"],
        ["--url", "http://h/?query"],
        ["--channel", "a b"],
        ["--rate", "0"],
        ["--rate", "-1"],
        ["--rate", "1000001"],
        ["--rate", "fast"],
        ["--rate", "1", "--ramp", "1..2/1s"],
        ["--ramp", "10"],
        ["--ramp", "0..0/1s"],
        ["--ramp", "1..2/0s"],
        ["--rate", "max", "--arrivals", "poisson"],
        ["--arrivals", "never"],
        ["--count", "0"],
        ["--count", "x"],
        ["--duration", "0s"],
        ["--duration", "10"],
        ["--concurrency", "0"],
        ["--concurrency", "16385"],
        ["--batch", "0"],
        ["--batch", "100001"],
        ["--payload", "nonsense"],
        ["--actions", ""],
        ["--actions", "a,,b"],
        ["--actions", "a=x"],
        ["--actions", "a=0"],
        ["--actions", "gap"],
        ["--data-size", "17MiB"],
        ["--data-size", "10"],
        ["--users", "0"],
        ["--users", "10"],
        ["--payload", "session", "--actions", "a"],
        ["--seed", "-1"],
        ["--replay", ""],
        ["--replay", "x", "--payload", "session"],
        ["--replay", "x", "--actions", "a"],
        ["--replay", "x", "--record", "y"],
        ["--replay", "x", "--data-size", "10"],
        ["--replay", "x", "--users", "10"],
        ["--method", "CONNECT"],
        ["--method", "a b"],
        ["--path", "pub"],
        ["--path", "/a b"],
        ["--path", "/a#b"],
        ["--batch", "2", "--path", "/x"],
        ["--retry", "0"],
        ["--retry", "101"],
        ["--retry", "1", "--path", "/x"],
        ["--retry", "1", "--header", "idempotency-key: secret"],
        ["--record", "x", "--body", "nothing"],
        ["--header", "secret"],
        ["--header", "X-Key:", "secret"],
        ["--header", "X-Key: secret\nX-Other: secret"],
        ["--header", "Content-Length: 123456"],
        ["--bearer", "Bearer secret"],
        ["--bearer", ""],
        ["--bearer", "secret", "--header", "authorization: secret"],
        ["--bearer", "secret", "--url", "http://user:secret@h"],
        ["--print-status=maybe"],
        ["--progress", "nonsense"],
        ["--record", "/nowhere/at/all"],
        ["--report", "/nowhere/at/all"],
        ["--replay", "/nowhere/at/all"],
    ):
        _run(scene, "event-generator", arguments)
    for environment in (
        {"GENERATOR_RATE": "fast"},
        {"GENERATOR_HEADER": "secret"},
        {"GENERATOR_BEARER": "two secrets"},
        {"GENERATOR_PRINT_STATUS": "maybe"},
    ):
        _run(
            scene,
            "event-generator",
            [],
            environment,
            title=f"event-generator with {', '.join(environment)}",
        )


def without_server(scene):
    """The two clients when no server answers."""
    with socket.socket() as taken:
        # Bound and not listening: connections to it are refused, and no other program gets it.
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        scene.name_address(address, "no server")
        url = f"http://user:secret@{address}/s?token=secret"
        _run(scene, "listener", ["--url", url, "--max-retries", "0"])
        _run(
            scene,
            "listener",
            ["bench", "--url", f"http://{address}", "--count", "1", "--duration", "1s"],
        )
        one = ["--url", f"http://{address}", "--count", "1", "--progress", "off"]
        _run(scene, "event-generator", [*one, "--record", "sent"])
        scene.fact(f"the record: {(scene.directory / 'sent').read_text()!r}")


PROGRAMS = ("sse-server", "listener", "event-generator")
SCENES = [
    *((helps, (program,)) for program in PROGRAMS),
    *((completions, (program,)) for program in PROGRAMS[1:]),
    server_misuse,
    server_starts,
    listener_misuse,
    generator_misuse,
    without_server,
]
