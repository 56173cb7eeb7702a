"""The same with `httpx`: python3 follow_httpx.py URL CHANNEL FILE [COUNT]."""

import sys
import time

import httpx
from events import Position, read_events, start


def read_stream(url, channel, position, handle):
    """Handles events until the connection breaks. Returns whether `handle` wants no more."""
    headers, params = start(position)
    params["channel"] = channel
    # Heartbeats arrive every 15 s, so silence of 45 s is a broken connection.
    with httpx.stream("GET", f"{url}/stream", params=params, headers=headers, timeout=45) as response:
        response.raise_for_status()
        for event_id, kind, data in read_events(response.iter_lines()):
            wants_more = data is None or handle(kind, data)
            if event_id is not None:
                position.store(event_id)
            if not wants_more:
                return True
    return False


def main(url, channel, file, count="0"):
    position, left = Position(file), int(count) or -1

    def handle(kind, data):
        nonlocal left
        print(f"{kind}: {data}", flush=True)
        left -= 1
        return left != 0

    while True:
        try:
            if read_stream(url, channel, position, handle):
                return
        except httpx.TransportError:
            pass
        time.sleep(3)


if __name__ == "__main__":
    main(*sys.argv[1:])
