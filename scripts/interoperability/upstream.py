"""A server in place of the hub: it answers every request, and keeps what arrived."""

import http.server
import threading


class Request:
    """A request as it arrived. `body` grows while the client sends."""

    def __init__(self, handler):
        self.method = handler.command
        self.path = handler.path
        self.headers = {name.lower(): value for name, value in handler.headers.items()}
        self.body = b""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """A proxy may end a connection at any time, as after a health check."""


class Upstream:
    """Answers 200 with `{}`, or ends the connection without a response for the paths in `silent`."""

    def __init__(self, silent=()):
        self.requests = []
        upstream = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_request(self):
                request = Request(self)
                upstream.requests.append(request)
                for piece in _body(self):
                    request.body += piece
                if self.path in silent:
                    self.close_connection = True
                    return
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            do_GET = do_POST = handle_request

            def log_message(self, *_):
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def to(self, path):
        """Returns the requests for a path."""
        return [request for request in self.requests if request.path == path]

    def close(self):
        self._server.shutdown()
        self._server.server_close()


def _body(handler):
    """Yields the body of a request as it arrives."""
    if handler.headers.get("Transfer-Encoding") == "chunked":
        while size := int(handler.rfile.readline(), 16):
            yield handler.rfile.read(size)
            handler.rfile.readline()
        handler.rfile.readline()
        return
    left = int(handler.headers.get("Content-Length", 0))
    while left and (piece := handler.rfile.read1(left)):
        left -= len(piece)
        yield piece
