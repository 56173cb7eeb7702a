"""HTTP over plain sockets, so that every byte of a response can be seen."""

import contextlib
import socket
import time
from dataclasses import dataclass

from processes import TIMEOUT_S, Failed

_HEAD_END = b"\r\n\r\n"
_READ_BYTES = 1 << 16
# Statuses without a body (RFC 9110 §6.4.1).
_BODILESS = (100, 101, 204, 304)


class NoResponse(Failed):
    """The server closed a connection instead of opening a stream."""


def request_bytes(method, path, headers=(), body=None, host="<host>", version="HTTP/1.1"):
    """Returns a request; a body gets its `content-length` unless `headers` frame it."""
    names = {name.lower() for name, _ in headers}
    lines = [f"{method} {path} {version}".encode()]
    if "host" not in names:
        lines.append(f"host: {host}".encode())
    for name, value in headers:
        lines.append(
            name.encode() + b": " + (value if isinstance(value, bytes) else value.encode())
        )
    if body is not None and not names & {"content-length", "transfer-encoding"}:
        lines.append(f"content-length: {len(body)}".encode())
    return b"\r\n".join([*lines, b"", body or b""])


def chunked(*pieces):
    """Returns a chunked body (RFC 9112 §7.1)."""
    chunks = [f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in pieces]
    return b"".join([*chunks, b"0\r\n\r\n"])


def connect(address, tls=None):
    """Opens a connection to `host:port`. `tls` is an `SSLContext` and the name of the server."""
    host, port = address.rsplit(":", 1)
    connection = socket.create_connection((host.strip("[]"), int(port)), timeout=TIMEOUT_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if tls:
        context, name = tls
        connection = context.wrap_socket(connection, server_hostname=name)
    return connection


@dataclass
class Head:
    """The status line and the headers of a response."""

    status_line: str
    headers: list

    @classmethod
    def parse(cls, raw):
        lines = raw.decode("latin-1").split("\r\n")
        return cls(lines[0], [tuple(line.split(": ", 1)) for line in lines[1:] if line])

    @property
    def status(self):
        words = self.status_line.split(" ")
        return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0

    def get(self, name):
        """Returns the value of a header, or `None` if it is absent."""
        return next((value for found, value in self.headers if found.lower() == name), None)


@dataclass
class Response:
    """A whole response, or what came before the connection ended."""

    head: Head
    body: bytes
    # Whether the connection ended before the response was complete.
    is_cut: bool = False


class Connection:
    """A connection that sends raw bytes and reads responses."""

    def __init__(self, address):
        self._socket = connect(address)
        self._unread = b""

    def send(self, data):
        """Sends bytes; a server that closes early is seen when the response is read."""
        with contextlib.suppress(OSError):
            self._socket.sendall(data)

    def finish_sending(self):
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self):
        self._socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _fill(self, deadline):
        """Reads more; returns whether anything came before the end of the connection."""
        self._socket.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            data = self._socket.recv(_READ_BYTES)
        except TimeoutError:
            raise Failed(f"no more bytes came after {self._unread[-300:]!r}") from None
        except ConnectionError:
            return False
        self._unread += data
        return bool(data)

    def response(self, method="GET", seconds=TIMEOUT_S):
        """Reads one response; returns `None` if the connection ends without a byte."""
        deadline = time.monotonic() + seconds
        while _HEAD_END not in self._unread:
            if not self._fill(deadline):
                if not self._unread:
                    return None
                return Response(Head.parse(self._unread), b"", is_cut=True)
        raw, self._unread = self._unread.split(_HEAD_END, 1)
        head = Head.parse(raw)
        if method == "HEAD" or head.status in _BODILESS:
            return Response(head, b"")
        return self._body(head, deadline)

    def _body(self, head, deadline):
        if (length := head.get("content-length")) is not None:
            while len(self._unread) < int(length):
                if not self._fill(deadline):
                    break
            body, self._unread = self._unread[: int(length)], self._unread[int(length) :]
            return Response(head, body, is_cut=len(body) < int(length))
        while self._fill(deadline):
            pass
        body, self._unread = self._unread, b""
        return Response(head, body)


def exchange(address, request, method="GET", seconds=TIMEOUT_S):
    """Sends one request on a connection of its own and returns the response."""
    with Connection(address) as connection:
        connection.send(request)
        return connection.response(method, seconds)


class Stream:
    """An event stream that is read step by step: its head, its chunks and its payload."""

    def __init__(self, address, request, tls=None):
        self._socket = connect(address, tls)
        self._socket.sendall(request)
        self._raw = b""
        self.chunks = []
        self.payload = b""
        # How the body ended, in words; `None` while it is open.
        self.ending = None
        self.head = None
        self._read_head()

    def close(self):
        self._socket.close()

    def send(self, data):
        """Sends more bytes, which the server does not expect; it may have closed."""
        with contextlib.suppress(OSError):
            self._socket.sendall(data)

    def wait_for(self, text, what=None):
        """Reads until the payload contains `text`."""
        wanted = text if isinstance(text, bytes) else text.encode()
        return self.wait_until(lambda: wanted in self.payload, what or repr(text))

    def wait_until(self, condition, what):
        """Reads until a condition holds; fails if the stream ends first."""
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            if self.ending or not self._read(deadline):
                raise Failed(f"the stream ended before {what}:\n{self.payload.decode()}")
        return self

    def wait_for_end(self):
        """Reads until the server ends the stream."""
        deadline = time.monotonic() + TIMEOUT_S
        while self._read(deadline):
            pass
        return self

    def blocks(self):
        """Returns the whole blocks so far, without their blank lines."""
        return self.payload.decode().split("\n\n")[:-1]

    def last_id(self):
        """Returns the last `id` of any block, as an `EventSource` keeps it."""
        ids = [line for line in self.payload.decode().split("\n") if line.startswith("id: ")]
        return ids[-1].removeprefix("id: ") if ids else ""

    def _read_head(self):
        deadline = time.monotonic() + TIMEOUT_S
        while _HEAD_END not in self._raw:
            if not self._receive(deadline):
                raise NoResponse(f"the connection ended before a whole head: {self._raw!r}")
        raw, self._raw = self._raw.split(_HEAD_END, 1)
        self.head = Head.parse(raw)
        if self.head.status in _BODILESS:
            self.ending = "no body"
        self._take()

    def _read(self, deadline):
        """Reads once; returns whether the stream is still open."""
        if self.ending == "terminator":
            is_closed = not self._receive(deadline)
            self.ending = "terminator, closed" if is_closed else "bytes after the terminator"
        elif not self.ending and not self._receive(deadline):
            self.ending = "cut within a chunk" if self._raw else "closed"
        elif not self.ending:
            self._take()
            return True
        return False

    def _receive(self, deadline):
        self._socket.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            data = self._socket.recv(_READ_BYTES)
        except TimeoutError:
            raise Failed(f"nothing more came on the stream:\n{self.payload.decode()}") from None
        except ConnectionError:
            return False
        self._raw += data
        return bool(data)

    def _take(self):
        """Moves what is whole from the raw bytes to the payload."""
        if self.head.get("transfer-encoding") == "chunked":
            while b"\r\n" in self._raw and not self.ending and self._take_chunk():
                pass
        elif (length := self.head.get("content-length")) is not None:
            self.payload, self._raw = self.payload + self._raw, b""
            if len(self.payload) >= int(length):
                self.ending = "content-length"
        else:
            self.payload, self._raw = self.payload + self._raw, b""

    def _take_chunk(self):
        """Takes one chunk (RFC 9112 §7.1); returns whether it was whole."""
        size, rest = self._raw.split(b"\r\n", 1)
        length = int(size, 16)
        if len(rest) < length + 2:
            return False
        if rest[length : length + 2] != b"\r\n":
            raise Failed(f"a chunk does not end with CR LF: {rest[length : length + 20]!r}")
        self._raw = rest[length + 2 :]
        if length == 0:
            self.ending = "terminator"
        else:
            self.chunks.append(rest[:length])
            self.payload += rest[:length]
        return True
