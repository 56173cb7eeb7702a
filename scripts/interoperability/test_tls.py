"""Clients over TLS, with HTTP/1.1 and with HTTP/2: a page with many streams, Python and Node."""

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.parse
from pathlib import Path

import browser
import packages
from case import Case
from processes import Process, wait_until
from proxies import find_program

# More than a browser opens over HTTP/1.1, where six connections per host are the limit.
STREAMS = 30


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Tls(Case):
    def setUp(self):
        openssl = find_program("openssl")
        self.require(openssl, "openssl is not installed")
        self.folder = Path(tempfile.mkdtemp(prefix="interop-tls-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.addCleanup(self.stop_processes)
        self.certificate, self.key = (self.folder / name for name in ("hub.pem", "hub.key"))
        command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        command += ["-days", "30", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        command += ["-keyout", self.key, "-out", self.certificate]
        subprocess.run(command, check=True, capture_output=True)

    def start(self, *flags):
        """Starts a hub with TLS, and an access log that has the version of HTTP."""
        port = free_port()
        self.access_log = self.folder / "access.log"
        tls = ("--bind", f"https://127.0.0.1:{port}", "--tls-cert", self.certificate, "--tls-key", self.key)
        logs = ("--access-log", self.access_log, "--log-format", "json")
        self.hub = self.start_hub(self.folder, *tls, *logs, *flags)
        self.url = f"https://localhost:{port}"

    def versions(self):
        """Returns the versions of HTTP of the streams that have begun."""
        lines = [json.loads(line) for line in self.access_log.read_text().splitlines()]
        return [line["protocol"] for line in lines if line["kind"] == "stream_start"]

    def check_program(self, command, version, environment=None):
        """Runs a program that prints the events of one stream, which the hub publishes then."""
        client = Process("client", command, self.folder, environment)
        self.addCleanup(lambda: client.has_ended() or client.kill())
        client.wait_until(lambda: self.versions(), "a stream")
        self.hub.publish("example", "step", "over TLS")
        client.wait_until(lambda: "over TLS" in client.output(), "the event")
        self.assertEqual(self.versions(), [version])

    def python(self, program, version, **environment):
        environment["PYTHONPATH"] = str(packages.python_packages())
        command = [sys.executable, packages.CLIENTS / program, f"{self.url}/stream?channel=example"]
        self.check_program(command, version, environment)

    def node(self, program, version):
        self.require(find_program("node"), "Node is not installed")
        folder = self.folder / "node"
        shutil.copytree(packages.CLIENTS, folder)
        (folder / "node_modules").symlink_to(packages.node_modules())
        command = ["node", folder / program, f"{self.url}/stream?channel=example"]
        self.check_program(command, version, {"NODE_EXTRA_CA_CERTS": str(self.certificate)})

    def test_thirty_streams_of_a_page_and_publishes_beside_them_over_http_2(self):
        self.require(browser.find_chromium(), "Chromium is not installed")
        # The page needs no packages.
        server = browser.PageServer(self.folder)
        self.addCleanup(server.close)
        self.start("--publish-origin", server.url)
        query = urllib.parse.urlencode({"client": "many-streams", "url": self.url, "streams": STREAMS})
        page = f"{server.url}/page.html?{query}"
        chromium = browser.start(self.folder, page, ["--ignore-certificate-errors"])
        reported = lambda: [json.loads(line) for line in server.reports]  # noqa: E731
        chromium.wait_until(lambda: len(reported()) >= STREAMS, "the events of all streams")
        data = {event["data"] for event in reported()}
        self.assertEqual(data, {f"event {number}" for number in range(STREAMS)})
        self.assertEqual(self.versions(), ["HTTP/2.0"] * STREAMS)
        self.assertEqual(self.hub.metric("sse_subscribers"), STREAMS)
        chromium.kill()
        wait_until(lambda: self.hub.metric("sse_subscribers") == 0, "the end of the streams")

    def test_python_httpx_over_http_2(self):
        self.start()
        self.python("httpx_http2_client.py", "HTTP/2.0", SSL_CERT_FILE=str(self.certificate))

    def test_python_requests_over_tls(self):
        self.start()
        self.python("requests_sse_client.py", "HTTP/1.1", REQUESTS_CA_BUNDLE=str(self.certificate))

    def test_node_http2(self):
        self.start()
        self.node("node-http2.mjs", "HTTP/2.0")

    def test_node_undici_over_tls(self):
        self.start()
        self.node("undici.mjs", "HTTP/1.1")
