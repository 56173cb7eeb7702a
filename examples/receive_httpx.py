"""Receives three events of the type "step" with httpx-sse, and reconnects without loss:
python3 receive_httpx.py http://127.0.0.1:5000

Start it before publish.py. Needs the packages httpx and httpx-sse, which leave reconnecting to the
program.
"""

import sys
import time

import httpx
import httpx_sse

COUNT = 3
# Three heartbeats of the server: a connection that is silent for longer is broken.
TIMEOUT = httpx.Timeout(10, read=45)
RETRY_S = 3


def events(base):
    """Yields events without end. Reconnects after the last id."""
    url = f"{base}/stream"
    params = {"channel": "example", "event": "step"}
    last_id = ""
    while True:
        headers = {"Last-Event-ID": last_id} if last_id else {}
        try:
            with (
                httpx.Client(timeout=TIMEOUT) as client,
                httpx_sse.connect_sse(client, "GET", url, params=params, headers=headers) as source,
            ):
                source.response.raise_for_status()
                for event in source.iter_sse():
                    last_id = event.id or last_id
                    # A block that has only a position arrives as a message without data.
                    if event.data or event.event != "message":
                        yield event
        except httpx.TransportError as error:
            print("reconnecting:", error, file=sys.stderr)
        time.sleep(RETRY_S)


def main(base):
    received = 0
    for event in events(base):
        if event.event == "gap":
            print("events may be missing:", event.data)
            continue
        print(event.id, event.event, event.data, flush=True)
        received += 1
        if received == COUNT:
            break


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/") if len(sys.argv) > 1 else "http://127.0.0.1:5000")
