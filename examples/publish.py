"""Publishes five events to the channel `example`: python3 publish.py http://127.0.0.1:5000

One event as JSON, the same request again with its idempotency key (stored once), one event as
text, and a batch of three. Needs only the standard library.
"""

import json
import sys
import urllib.request
import uuid


def post(url, body, content_type, headers=None):
    """Sends a request and returns the JSON of the response. An error status raises HTTPError."""
    request = urllib.request.Request(
        url, body.encode(), {"Content-Type": content_type, **(headers or {})}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


def main(base):
    channel = "?channel=example"

    # Without a response, a publisher cannot know whether its event was stored. With a key, the
    # publisher repeats the request until there is a response, and the event is stored once.
    key = {"Idempotency-Key": str(uuid.uuid4())}
    paid = f"{base}/event/paid{channel}"
    first = post(paid, '{"order": 17}', "application/json", key)
    again = post(paid, '{"order": 17}', "application/json", key)
    print("one event:", first["id"], "| repeated:", again["id"])
    assert first == again

    note = post(f"{base}/event/note{channel}", "two\nlines", "text/plain")
    print("text:", note["id"])

    # All events of a batch are stored or none. A string is sent as its text.
    lines = [{"event": "step", "data": f"number {number}"} for number in range(3)]
    body = "\n".join(json.dumps(line) for line in lines)
    batch = post(f"{base}/events{channel}", body, "application/x-ndjson")
    print("batch:", batch["first_id"], "to", batch["last_id"])


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/") if len(sys.argv) > 1 else "http://127.0.0.1:5000")
