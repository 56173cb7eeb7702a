"""PyPI requests-sse."""

import sys

from report import report
from requests_sse import EventSource

with EventSource(sys.argv[1]) as source:
    for event in source:
        report(event.type, event.last_event_id, event.data)
