"""L: what an API key or a token costs a publish."""

import base64
import hashlib
import hmac
import json
import os
import secrets
import subprocess
import time

import load
import servers
from ingest import PUBLISHERS
from processes import Failed
from subject import Measured, Subject

AUDIENCE = "https://hub.example.org"
ISSUER = "https://id.example.org"
TOKEN_LIFE_S = 3600

RULES = """\
[access.anonymous]
publish = ["*"]

{key}
[[access.issuer]]
issuer = "{issuer}"
audience = ["{audience}"]
secret_file = "{secret}"
"""


def create_key(place):
    """Returns an API key that may publish everywhere, and its table in the configuration file."""
    command = [str(place.bin / "sse-server"), "key", "new", "--name", "bench", "--publish", "*"]
    made = subprocess.run(command, capture_output=True, text=True, timeout=30, env=servers.plain_environment())
    if made.returncode != 0:
        raise Failed(f"sse-server key new: {made.stderr}")
    key = next(line for line in made.stdout.splitlines() if line.startswith("sse_"))
    return key, made.stdout[made.stdout.index("[[access.key]]") :]


def create_token(secret):
    """Returns a token (JWT, HS256) that may publish everywhere."""
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "bench", "exp": int(time.time()) + TOKEN_LIFE_S}
    claims["sse"] = {"publish": ["*"]}
    parts = [_base64(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
    signed = ".".join(parts)
    return f"{signed}.{_base64(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"


def _base64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def measure(place, server, seconds, credential):
    """Measures publishers that each send when they have the previous response."""
    with place.directory("tools") as directory:
        # Verify the token, and open the connections.
        load.publish(place, server, directory, rate="max", seconds=0.3, concurrency=PUBLISHERS, bearer=credential)
        before = server.cpu()
        taken = load.publish(
            place, server, directory, rate="max", seconds=seconds, concurrency=PUBLISHERS, bearer=credential
        )
        cpu = server.cpu() - before
    acknowledged = taken["acknowledged"]
    found = []
    if acknowledged != taken["sent"] or not acknowledged:
        found.append(f"of {taken['sent']} events {acknowledged} were acknowledged")
    figures = {
        "publish_cpu_us": 1e6 * cpu.total / max(acknowledged, 1),
        "user_us": 1e6 * cpu.user / max(acknowledged, 1),
        "single_per_s": acknowledged / taken["duration_s"],
        "single_p99_ms": taken["latency_us"]["p99"] / 1e3,
    }
    return Measured(figures, found, {"published": taken})


def _with_rules(credential, seconds):
    """Publishes to a server with access rules, with the credential of this kind."""

    def run(place):
        with place.directory("access") as directory:
            key, table = create_key(place)
            secret = secrets.token_hex(32).encode()
            file = directory / "secret"
            with open(os.open(file, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as writer:
                writer.write(secret)
            rules = directory / "sse.toml"
            rules.write_text(RULES.format(key=table, issuer=ISSUER, audience=AUDIENCE, secret=file))
            bearer = {"anonymous": None, "key": key, "token": create_token(secret)}[credential]
            with servers.ours(place, "--config", rules) as server:
                return measure(place, server, seconds, bearer)

    return run


def t(options):
    """64 publishers as fast as they can, with access rules: without a credential, with an API key, with a token.

    The server has verified the token before the measurement begins.
    """
    seconds = options.seconds

    def without_rules(place):
        with servers.ours(place) as server:
            return measure(place, server, seconds, None)

    return [
        Subject("ours anonymous", _with_rules("anonymous", seconds)),
        Subject("ours key", _with_rules("key", seconds)),
        Subject("ours token", _with_rules("token", seconds)),
        Subject("ours without rules", without_rules),
    ]
