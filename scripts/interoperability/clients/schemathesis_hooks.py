"""What schemathesis cannot know of NDJSON."""

import json

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def one_line(_context, value):
    """Writes a value as the only line."""
    return json.dumps(value).encode() + b"\n"
