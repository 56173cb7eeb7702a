"""Receives five events of the channel `example` and reconnects without loss:
python3 receive.py http://127.0.0.1:5000

Starts with the oldest event that is kept; run publish.py first. Needs the packages requests and
sseclient-py, which leave reconnecting to the program.
"""

import sys
import time

import requests
import sseclient

COUNT = 5
# Three heartbeats of the server: a connection that is silent for longer is broken.
READ_TIMEOUT_S = 45
RETRY_S = 3


def events(base, last_id):
    """Yields events without end. Reconnects after the last event id."""
    params = {"channel": "example"}
    if not last_id:
        params["from"] = "oldest"
    while True:
        headers = {"Last-Event-ID": last_id} if last_id else {}
        try:
            with requests.get(
                f"{base}/stream",
                params=params,
                headers=headers,
                stream=True,
                timeout=(10, READ_TIMEOUT_S),
            ) as response:
                response.raise_for_status()
                for event in sseclient.SSEClient(response).events():
                    last_id = event.id or last_id
                    yield event
        except requests.HTTPError:
            raise  # the server rejected the request; repeating it does not help
        except requests.RequestException as error:
            print("reconnecting:", error, file=sys.stderr)
        time.sleep(RETRY_S)


def main(base):
    received = 0
    for event in events(base, last_id=""):
        if event.event == "gap":
            print("events may be missing:", event.data)
            continue
        print(event.id, event.event, event.data)
        received += 1
        if received == COUNT:
            break


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/") if len(sys.argv) > 1 else "http://127.0.0.1:5000")
