"""A headless Chromium that shows a page, and the server of that page, which gets its reports."""

import http.server
import mimetypes
import threading
import urllib.parse

from packages import CLIENTS, EXAMPLES
from processes import Process
from proxies import find_program


class PageServer:
    """Serves the clients' programs and the folder of npm packages; keeps what pages report."""

    def __init__(self, node_modules):
        self.reports = []
        page_server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                path = urllib.parse.urlsplit(self.path).path
                file = page_server.find(path)
                self.send_response(200 if file else 404)
                kind = mimetypes.guess_type(file or "")[0] or "text/javascript"
                self.send_header("Content-Type", kind)
                self.end_headers()
                self.wfile.write(file.read_bytes() if file else b"")

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                page_server.reports.append(body.decode())
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self._node_modules = node_modules
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def find(self, path):
        """Returns the file of a path; modules may omit `.js`."""
        folders = {"node_modules": self._node_modules, "examples": EXAMPLES}
        first, _, rest = path.removeprefix("/").partition("/")
        file = folders[first] / rest if first in folders else CLIENTS / first
        candidates = (file, file.with_name(file.name + ".js"))
        return next((found for found in candidates if found.is_file()), None)

    def close(self):
        self._server.shutdown()
        self._server.server_close()


def find_chromium():
    """Returns the path of an installed Chromium, or `None`."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := find_program(name))), None)


def start(directory, url, flags=()):
    """Starts a headless Chromium with a profile of its own."""
    command = [find_chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += ["--no-first-run", "--disable-background-networking", "--disable-component-update"]
    # A port for commands, which keeps the page open.
    command += [f"--user-data-dir={directory / 'profile'}", "--remote-debugging-port=0"]
    return Process("chromium", [*command, *flags, url], directory)
