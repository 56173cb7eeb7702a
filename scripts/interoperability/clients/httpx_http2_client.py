"""PyPI httpx-sse over HTTP/2, which httpx uses only if it is asked to."""

import sys

import httpx
import httpx_sse
from report import report

with (
    httpx.Client(http2=True, timeout=None) as client,
    httpx_sse.connect_sse(client, "GET", sys.argv[1]) as source,
):
    for event in source.iter_sse():
        report(event.event, event.id, event.data)
