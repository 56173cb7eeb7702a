"""A relay between a client and the hub: it records what passes, and cuts connections."""

import contextlib
import re
import socket
import threading
import urllib.parse

from processes import Failed, wait_until
from wire import connect

_READ_BYTES = 1 << 16


class Passage:
    """A connection of the client: its request, and the bytes of the response so far."""

    def __init__(self, client):
        self._client = client
        self._hub = None
        self.request = b""
        self.response = b""

    @property
    def is_stream(self):
        return self.request.startswith(b"GET /stream")

    def last_event_id(self):
        """Returns the position that the client sends, in its header or its URL; or `None`."""
        if header := re.search(rb"(?im)^last-event-id: *(.*?)\r$", self.request):
            return header[1].decode()
        target = self.request.split(b" ", 2)[1].decode()
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(target).query)
        # Some polyfills have no headers; the hub accepts their name for the parameter.
        return (query.get("lastEventId") or query.get("last_event_id") or [None])[0]

    def relay(self, hub_address):
        """Passes the request and the response on, until one side closes."""
        with contextlib.suppress(OSError, Failed):
            while b"\r\n\r\n" not in self.request:
                data = self._client.recv(_READ_BYTES)
                if not data:
                    break
                self.request += data
            if self.request:
                self._hub = connect(hub_address)
                self._hub.settimeout(None)
                self._hub.sendall(_closing(self.request))
                threading.Thread(target=self._watch_client, daemon=True).start()
                while data := self._hub.recv(_READ_BYTES):
                    self._client.sendall(data)
                    # A cut after this does not take away what is recorded.
                    self.response += data
        # Closing alone sends nothing while another thread reads from the socket.
        self.cut()
        self._client.close()

    def _watch_client(self):
        """Ends the passage if the client leaves; clients send nothing after their request."""
        with contextlib.suppress(OSError):
            while self._client.recv(_READ_BYTES):
                pass
        self.cut()

    def cut(self):
        """Ends the connections on both sides in the middle of the stream."""
        for side in (self._client, self._hub):
            if side:
                with contextlib.suppress(OSError):
                    side.shutdown(socket.SHUT_RDWR)


def _closing(request):
    """Returns a request after which the hub closes, so that each request has its own connection."""
    without = re.sub(rb"(?im)^connection:.*\r\n", b"", request)
    return without.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)


class Relay:
    """Listens on a port of its own. While it holds, new connections wait."""

    def __init__(self, hub_address):
        self._hub_address = hub_address
        self._open = threading.Event()
        self._open.set()
        self.passages = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        self._open.wait()
        passage = Passage(client)
        self.passages.append(passage)
        passage.relay(self._hub_address)

    def hold(self):
        self._open.clear()

    def release(self):
        self._open.set()

    def streams(self):
        """Returns the passages that ask for the stream, the oldest first."""
        return [passage for passage in self.passages if passage.is_stream]

    def stream(self, number):
        """Waits for the stream with this number, and for its first block."""
        wait_until(lambda: len(self.streams()) > number, f"connection {number} of the client")
        passage = self.streams()[number]
        wait_until(lambda: b"\n\n" in passage.response.partition(b"\r\n\r\n")[2], "a first block")
        return passage

    def close(self):
        self.release()
        # Wakes the thread that accepts; closing alone would not.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for passage in self.passages:
            passage.cut()
