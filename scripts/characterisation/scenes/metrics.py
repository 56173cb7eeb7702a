"""`GET /metrics` before and after a script that moves every counter which one node can move."""

import json
import re

from processes import wait_until
from scenes.requests import LINES, ONE_LINE, TEXT
from sse_server import BROKERS

# Samples whose values are times, or depend on the length of ids, on how reads fall together, on the
# machine, or on when Redis was asked.
_UNSTEADY = re.compile(
    r"process_|sse_(publish_latency_seconds_(sum|bucket)|sent_bytes|(history_)?page_reads"
    r"|channels|log_)"
)


def metrics(scene, broker):
    """Names, types, help, labels, and values where they are the same in every run."""
    server = scene.start(
        broker, "--tail-events", "2", "--history-events", "4", "--idempotency-window", "1h"
    )
    _describe(scene, server, "before anything happened")
    first = scene.publish(server, "sse", "click", "first")
    for number in range(5):
        scene.publish(server, "sse", "click", f"number {number}")
    batch = "\n".join([ONE_LINE] * 3)
    server.send("POST", "/events?channel=other", [("content-type", LINES)], batch.encode())
    for _ in range(2):
        server.publish("other", "click", "keyed", key="k")
    server.send("POST", "/event/gap", [("content-type", TEXT)], b"x")
    server.send("GET", "/events?limit=2")
    last = server.history("sse")[-1]["id"]
    _streams(scene, server, first, last)
    wait_until(lambda: server.metric("sse_subscribers") == 0, "the end of all streams")
    _describe(scene, server, "after a script")


def _streams(scene, server, first, last):
    """Streams that start now, resume, find gaps, reach their end, and send too much."""
    live = scene.open(server, "/stream")
    live.stream.wait_for("\n\n")
    wait_until(lambda: server.metric("sse_subscribers") == 1, "a stream")
    scene.case("the gauge of streams")
    scene.fact(f"open streams: {server.metric('sse_subscribers'):.0f}")
    live.stream.close()
    for cursor in (first, last, "5-5", "99999999999999-0"):
        resumed = scene.open(server, "/stream", [("last-event-id", cursor)])
        resumed.stream.wait_for("\n\n" if cursor == last else "number 4\n\n")
        resumed.stream.close()
    scene.open(server, f"/stream?from=oldest&until={last}").stream.wait_for_end()
    talking = scene.open(server, "/stream")
    talking.stream.wait_for("\n\n")
    talking.stream.send(b"x" * (1 << 20))
    talking.stream.wait_for_end()


def _describe(scene, server, title):
    """Describes the text by families, in its order; samples with labels are sorted."""
    scene.case(f"/metrics {title}")
    # Older builds know only this format.
    accept = [("accept", "application/openmetrics-text")]
    response = server.send("GET", "/metrics", accept)
    scene.fact(response.head.status_line)
    for name, value in sorted(response.head.headers):
        scene.fact(f"{name}: {'<length>' if name == 'content-length' else value}")
    samples = []
    for line in response.body.decode().splitlines():
        if not line.startswith("#"):
            samples.append(line)
            continue
        _add_samples(scene, samples)
        samples = []
        if line.startswith("# HELP"):
            scene.transcript.wording(line)
        else:
            scene.fact(line)


def _add_samples(scene, samples):
    # Buckets come in their order; other samples are in no order.
    is_histogram = any("_bucket{" in line for line in samples)
    for line in samples if is_histogram else sorted(samples):
        name, value = line.rsplit(" ", 1)
        scene.fact(f"{name} {'<number>' if _UNSTEADY.match(name) else value}")


def health(scene, broker):
    """The heads of `/metrics` and the health checks, byte for byte."""
    server = scene.start(broker)
    for path in ("/health/live", "/health/ready"):
        scene.get(server, path)
    ready = json.loads(server.send("GET", "/health/ready").body)
    scene.fact(f"keys of /health/ready: {list(ready)}")


SCENES = [(scene, (broker,)) for scene in (metrics, health) for broker in BROKERS]
