"""A server that gives scripted responses to clients, and keeps the requests that they sent."""

import re
import socket
import threading

from processes import TIMEOUT_S

_READ_BYTES = 1 << 16
# How a connection is ended without a response.
BREAK = None


def response(status, headers=(), body=""):
    """Returns a whole response after which the connection is closed."""
    lines = [
        f"HTTP/1.1 {status}",
        *headers,
        f"Content-Length: {len(body.encode())}",
        "Connection: close",
    ]
    return "\r\n".join([*lines, "", body]).encode()


def stream(text):
    """Returns an event stream that ends with its connection."""
    lines = ["HTTP/1.1 200 OK", "Content-Type: text/event-stream", "Connection: close"]
    return "\r\n".join([*lines, "", text]).encode()


class ScriptedServer:
    """Answers one connection after another; without a response left, it closes them at once."""

    def __init__(self, responses):
        self._responses = list(responses)
        self.requests = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self.url = f"http://{self.address}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self):
        # Wakes the thread that accepts; closing alone would not.
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _serve(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            connection.settimeout(TIMEOUT_S)
            with connection:
                if request := _read_request(connection):
                    self.requests.append(request)
                    answer = self._responses.pop(0) if self._responses else BREAK
                    if answer is not BREAK:
                        connection.sendall(answer)


def _read_request(connection):
    """Returns a request with its body; nothing if the client goes away before."""
    data = b""
    try:
        while not (end := _length(data)) or len(data) < end:
            more = connection.recv(_READ_BYTES)
            if not more:
                return b""
            data += more
    except OSError:
        return b""
    return data


def _length(data):
    """Returns how long a request is, or 0 if its head is not whole."""
    head, separator, _ = data.partition(b"\r\n\r\n")
    if not separator:
        return 0
    body = re.search(rb"(?im)^content-length: (\d+)", head)
    return len(head) + len(separator) + (int(body[1]) if body else 0)
