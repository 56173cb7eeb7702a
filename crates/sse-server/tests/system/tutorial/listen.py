"""Reads the stream as the tutorial's listener does, with urllib3 and sseclient-py; prints two lines per event."""

import sys

import sseclient
import urllib3


def main(base, count):
    pool = urllib3.PoolManager()
    headers = {"Accept": "text/event-stream"}
    response = pool.request("GET", f"{base}/stream", preload_content=False, headers=headers)
    events = sseclient.SSEClient(response).events()
    print("subscribed", flush=True)
    for _ in range(count):
        event = next(events)
        print(f"event: {event.event} \ndata: {event.data}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
