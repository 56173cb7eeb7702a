"""PyPI httpx-sse."""

import sys

import httpx
import httpx_sse
from report import report

with httpx.Client(timeout=None) as client, httpx_sse.connect_sse(client, "GET", sys.argv[1]) as source:
    for event in source.iter_sse():
        report(event.event, event.id, event.data)
