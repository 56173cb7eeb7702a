"""Slow subscribers: some read a kilobyte per second, some have stopped reading. A separate program.

Prints "open" on stdout when every stream is open, and runs until it is stopped. Streams that are cut off reconnect.
"""

import argparse
import socket
import time
from urllib.parse import urlsplit

# The kernel doubles the size. With the default, a reader could leave megabytes unread without any effect.
RECEIVE_BUFFER_BYTES = 4096
BYTES_A_SECOND = 1024


def connect(url):
    """Opens a stream and reads the response head."""
    stream = socket.socket()
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    stream.settimeout(30)
    stream.connect((url.hostname, url.port))
    path = f"{url.path}?{url.query}" if url.query else url.path
    stream.sendall(f"GET {path} HTTP/1.1\r\nhost: {url.netloc}\r\naccept: text/event-stream\r\n\r\n".encode())
    if not stream.recv(512).startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"no stream at {url.geturl()}")
    stream.setblocking(False)
    return stream


def take(stream):
    """Reads the amount for one second; returns False if the server has closed the stream."""
    try:
        return bool(stream.recv(BYTES_A_SECOND))
    except BlockingIOError:
        return True
    except OSError:
        return False


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url", type=urlsplit)
    parser.add_argument("--slow", type=int, default=0)
    parser.add_argument("--stopped", type=int, default=0)
    options = parser.parse_args()
    slow = [connect(options.url) for _ in range(options.slow)]
    stopped = [connect(options.url) for _ in range(options.stopped)]
    print("open", flush=True)
    while True:
        time.sleep(1)
        slow = [stream if take(stream) else connect(options.url) for stream in slow]
        assert len(stopped) == options.stopped


if __name__ == "__main__":
    main()
