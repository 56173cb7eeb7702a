"""PyPI sseclient."""

import sys

import sseclient
from report import report

for event in sseclient.SSEClient(sys.argv[1]):
    report(event.event, event.id, event.data)
