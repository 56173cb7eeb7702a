"""Loses its connection on purpose and resumes: python3 resume.py http://127.0.0.1:5000

Publishes six numbered events to a channel of its own. Between the third and the fourth, the
subscriber has no connection. It must receive each event once and in order. Needs only the
standard library.
"""

import sys
import urllib.request
import uuid


class Subscriber:
    """A stream of Server-Sent Events, with the last event id that it has seen."""

    def __init__(self, url):
        self.url = url
        self.last_id = ""
        self.response = None

    def connect(self):
        headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
        request = urllib.request.Request(self.url, headers=headers)
        self.response = urllib.request.urlopen(request, timeout=45)
        # The first block has an id and no data: the position is known before the first event.
        self.next_block()

    def disconnect(self):
        self.response.close()

    def next_event(self):
        """Returns the type and the data of the next event."""
        while True:
            kind, data = self.next_block()
            if data is not None:
                return kind, data

    def next_block(self):
        kind, data = "message", []
        for line in self.response:
            line = line.decode().rstrip("\n")
            if not line:
                return kind, "\n".join(data) if data else None
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "id":
                self.last_id = value
            elif field == "event":
                kind = value
            elif field == "data":
                data.append(value)
        raise ConnectionError("the stream ended")


def publish(base, channel, number):
    request = urllib.request.Request(
        f"{base}/event/number?channel={channel}",
        str(number).encode(),
        {"Content-Type": "text/plain"},
        method="POST",
    )
    urllib.request.urlopen(request, timeout=10).close()


def main(base):
    channel = f"example-{uuid.uuid4()}"
    subscriber = Subscriber(f"{base}/stream?channel={channel}")
    subscriber.connect()
    for number in range(1, 4):
        publish(base, channel, number)
    received = [subscriber.next_event() for _ in range(2)]

    subscriber.disconnect()
    print("disconnected after", received[-1][1], "with the last event id", subscriber.last_id)
    for number in range(4, 7):
        publish(base, channel, number)

    subscriber.connect()
    received += [subscriber.next_event() for _ in range(4)]
    subscriber.disconnect()
    print("received", [data for _, data in received])
    assert received == [("number", str(number)) for number in range(1, 7)], received
    print("nothing is missing, nothing is repeated")


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/") if len(sys.argv) > 1 else "http://127.0.0.1:5000")
