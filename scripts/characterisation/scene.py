"""One scene: servers of its own, a transcript, and the steps that scenes have in common."""

import sse_server
import transcript
from wire import NoResponse, Response, Stream, exchange, request_bytes

# How often a stream is opened that should have nothing to send.
_ATTEMPTS_MAX = 10


class Scene:
    """What a scene function gets to work with."""

    def __init__(self, title, programs, directory):
        self.transcript = transcript.Transcript(title)
        self.programs = programs
        self.directory = directory
        self._servers = []
        directory.mkdir(parents=True)
        self.transcript.masks.name(str(directory), "<directory>")

    # Programs.

    @property
    def program(self):
        return self.programs / "sse-server"

    def start(self, broker, *flags, **how):
        """Starts a server on a new and empty broker."""
        directory = self._new_directory()
        return self.adopt(sse_server.start(self.program, directory, broker, flags, **how))

    def node(self, redis, *flags):
        """Starts one more server on a Redis."""
        return self.adopt(sse_server.node(self.program, self._new_directory(), redis, flags))

    def _new_directory(self):
        directory = self.directory / f"server-{len(self._servers) + 1}"
        directory.mkdir()
        return directory

    def adopt(self, server):
        """Takes a server that is to be stopped with the scene; returns it."""
        self._servers.append(server)
        self.name_address(server.address, "server")
        if server.redis:
            self.name_address(server.redis.address, "redis")
        return server

    def name_address(self, address, name):
        """Writes `<name>` for an address, and `<port>` for its port behind another host."""
        self.transcript.masks.name(address, f"<{name}>")
        self.transcript.masks.name(f":{address.rsplit(':', 1)[1]}", ":<port>")

    def name(self, literal, placeholder):
        """Writes `placeholder` for every `literal`."""
        self.transcript.masks.name(literal, placeholder)

    def close(self):
        """Kills the scene's servers."""
        for server in self._servers:
            server.close()

    # Requests that are described.

    def case(self, title):
        self.transcript.case(title)

    def fact(self, text):
        self.transcript.fact(text)

    def send(self, server, method, path, headers=(), body=None, title=None):
        """Sends a request on a connection of its own, and describes it and its response."""
        request = request_bytes(method, path, headers, body, host=server.address)
        return self.send_raw(server, request, method, title or f"{method} {path}")

    def send_raw(self, server, request, method, title):
        self.case(title)
        self.transcript.request(request)
        response = exchange(server.address, request, method)
        self.transcript.response(response, method)
        return response

    def get(self, server, path, headers=(), title=None):
        return self.send(server, "GET", path, headers, title=title)

    def post(self, server, path, content_type, body, headers=(), title=None):
        """Posts a body, given as text or bytes; `content_type` may be `None`."""
        types = [("content-type", content_type)] if content_type is not None else []
        data = body if isinstance(body, bytes) else body.encode()
        return self.send(server, "POST", path, [*types, *headers], data, title)

    def publish(self, server, channel, kind, data, key=None):
        """Publishes text, and notes its id."""
        event_id = server.publish(channel, kind, data, key)
        self.fact(f"published {kind} {data!r} to {channel}: {event_id}")
        return event_id

    def open(self, server, path, headers=(), version="HTTP/1.1"):
        """Opens a stream that is described later, by `show`."""
        request = request_bytes("GET", path, headers, host=server.address, version=version)
        return OpenStream(Stream(server.address, request), request)

    def try_open(self, server, path, headers=()):
        """Opens a stream; returns `None` if the connection is closed without a response."""
        try:
            return self.open(server, path, headers)
        except (NoResponse, ConnectionError):
            return None

    def open_to_end(self, server, path, headers=()):
        """Opens a stream with an end, and reads it to its end.

        A log that does not answer in time makes a stream of what would be 204 No Content, so a
        stream without an event is opened again a few times.
        """
        for _ in range(_ATTEMPTS_MAX):
            opened = self.open(server, path, headers)
            stream = opened.stream.wait_for_end()
            if stream.head.status != 200 or b"event: " in stream.payload:
                break
        return opened

    def show(self, opened, title, shown=transcript.PAYLOAD):
        """Describes what has come on a stream so far, and closes it."""
        self.case(title)
        self.transcript.request(opened.request)
        if opened.stream.head.status == 200:
            self.transcript.stream(opened.stream, shown)
        else:
            self.transcript.response(Response(opened.stream.head, opened.stream.payload))
        opened.stream.close()

    def stream(self, server, path, headers=(), until=None, title=None, shown=transcript.PAYLOAD):
        """Opens a stream, reads until a text has come (or to its end), and describes it."""
        opened = self.open(server, path, headers)
        if until is None:
            opened.stream.wait_for_end()
        else:
            opened.stream.wait_for(until)
        self.show(opened, title or f"GET {path}", shown)
        return opened.stream


class OpenStream:
    """A stream and the request that opened it."""

    def __init__(self, stream, request):
        self.stream = stream
        self.request = request
