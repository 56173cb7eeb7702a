"""What must hold with every proxy of `examples/reverse-proxy`."""

import functools
import gzip
import json
import shutil
import subprocess
import tempfile
import urllib.parse
from pathlib import Path

from case import Case
from processes import Process, wait_until
from proxies import APP_HOST, HUB_HOST, Proxy, find_program, substitute
from upstream import Upstream
from wire import Stream, request_bytes

TEXT = [("content-type", "text/plain")]
NDJSON = [("content-type", "application/x-ndjson")]
# More streams than a browser opens to one host over HTTP/1.1.
STREAMS = 8


class ProxyCase(Case):
    """A hub and a proxy with its recipe. Subclasses name the proxy."""

    proxy_name = None
    # The statuses of a request while the hub is away: it cannot be reached, or is known to be down.
    away_statuses = (502, 503)

    def with_node(self, recipe, node):
        """Returns the recipe with the line for a second node, at `host:port`."""
        raise NotImplementedError

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.require(find_program(cls.proxy_name), f"{cls.proxy_name} is not installed")
        cls.require(find_program("openssl"), "openssl is not installed, so there is no certificate")
        cls.work = Path(tempfile.mkdtemp(prefix=f"interop-{cls.proxy_name}-"))
        # The workers of nginx have another user.
        cls.work.chmod(0o755)
        cls.addClassCleanup(shutil.rmtree, cls.work, ignore_errors=True)
        cls.addClassCleanup(cls.stop_processes)
        cls.hub = cls.start_hub(cls.work, "--heartbeat", "300ms")
        cls.proxy = Proxy(cls.proxy_name, cls.work / "proxy", cls.hub.address)

    @classmethod
    def start_hub(cls, directory, *flags, broker="memory"):
        """Starts a hub that knows its URLs behind the proxy."""
        urls = (f"https://{HUB_HOST}", f"https://{APP_HOST}/live")
        public = [word for url in urls for word in ("--public-url", url)]
        return super().start_hub(directory, *public, *flags, broker=broker)

    def another(self, name, hub_address, change=lambda text: text):
        """Starts the proxy once more, in front of another hub or with a changed recipe."""
        proxy = Proxy(self.proxy_name, self.work / name, hub_address, change)
        self.addCleanup(proxy.kill)
        return proxy

    def open_stream(self, query="", headers=(), proxy=None):
        """Opens a stream through the proxy and reads its first block."""
        stream = (proxy or self.proxy).open(f"/stream{query}", headers)
        self.addCleanup(stream.close)
        self.assertEqual(stream.head.status, 200)
        stream.wait_for("\n\n")
        return stream

    def publish(self, kind, data, path="/event/", host=HUB_HOST, channel="sse", headers=()):
        """Publishes text through the proxy."""
        path = f"{path}{urllib.parse.quote(kind, safe='')}?channel={channel}"
        response = self.proxy.send("POST", path, [*TEXT, *headers], data.encode(), host)
        self.assertEqual(response.head.status, 200, response.payload)
        return json.loads(response.payload)["id"]


class ProxyCases:
    """The cases; mixed into a `ProxyCase` per proxy."""

    def test_an_event_arrives_completely_before_the_next_one_is_published(self):
        stream = self.open_stream(headers=[("accept-encoding", "gzip, br")])
        self.assertIsNone(stream.head.get("content-encoding"))
        for data in ("the first", "the second"):
            event_id = self.publish("click", data)
            stream.wait_for(f"id: {event_id}\nevent: click\ndata: {data}\n\n")

    def test_a_silent_stream_stays_open(self):
        stream = self.open_stream("?channel=silent")
        stream.wait_for(":\n" * 5)
        self.assertIsNone(stream.ending)

    def test_a_client_that_leaves_ends_its_stream_at_the_hub(self):
        before = self.hub.metric("sse_subscribers")
        stream = self.open_stream("?channel=leaving")
        self.assertEqual(self.hub.metric("sse_subscribers"), before + 1)
        stream.close()
        wait_until(lambda: self.hub.metric("sse_subscribers") == before, "the end of the stream")

    def test_a_stream_that_begins_with_a_long_id_is_not_compressed(self):
        channels = [f"{number:02}" + "x" * 60 for number in range(32)]
        query = "?" + "&".join(f"channel={channel}" for channel in channels)
        stream = self.open_stream(query, [("accept-encoding", "gzip, br, zstd")])
        self.assertIsNone(stream.head.get("content-encoding"))
        self.publish("click", "x", channel=channels[0])
        stream.wait_for("event: click\ndata: x\n\n")

    def test_history_is_compressed(self):
        for number in range(20):
            self.hub.publish("history", "click", f"number {number}")
        headers = [("accept-encoding", "gzip")]
        response = self.proxy.send("GET", "/events?channel=history", headers)
        self.assertEqual(response.head.get("content-encoding"), "gzip")
        page = json.loads(gzip.decompress(response.payload))
        self.assertEqual(len(page["events"]), 20)

    def test_the_hub_works_under_a_path_prefix(self):
        stream = self.proxy.open("/live/stream?channel=prefix", host=APP_HOST)
        self.addCleanup(stream.close)
        stream.wait_for("\n\n")
        # Characters that a proxy may decode or encode when it rewrites the path.
        kinds = ["click", "50% ?ä+#;&=:@", "a"]
        for kind in kinds:
            self.publish(kind, "x", "/live/event/", APP_HOST, "prefix")
            stream.wait_for(f"event: {kind}\ndata: x\n\n")
        self.assertEqual(self.pages("/live/events?channel=prefix&limit=2", APP_HOST), kinds)

    def pages(self, path, host):
        """Returns the types of all events, page by page along the `Link` header."""
        kinds = []
        while path:
            response = self.proxy.send("GET", path, host=host)
            self.assertEqual(response.head.status, 200)
            kinds += [event["event"] for event in json.loads(response.payload)["events"]]
            link = response.head.get("link")
            path = link and urllib.parse.urljoin(path, link.split(">")[0].removeprefix("<"))
        return kinds

    def test_only_the_routes_of_clients_are_public(self):
        paths = ["/metrics", "/health/live", "/health/ready", "/", "/nothing"]
        # Spellings of /metrics that a list of forbidden paths may overlook.
        paths += ["/%6detrics", "//metrics", "/./metrics", "/event/../metrics", "/stream/../metrics"]
        paths += ["/event/%2e%2e/metrics", "/events/../metrics", "/metrics/", "/metrics?x"]
        for path in paths:
            for asked, host in ((path, HUB_HOST), (f"/live{path}", APP_HOST), (path, APP_HOST)):
                with self.subTest(asked, host=host):
                    status = self.proxy.send("GET", asked, host=host).head.status
                    self.assertIn(status, (400, 404))

    def test_forwarding_headers_replace_those_of_the_client(self):
        upstream = Upstream()
        self.addCleanup(upstream.close)
        proxy = self.another("forwarding", upstream.address)
        claimed = [("x-forwarded-for", "192.0.2.7"), ("x-forwarded-proto", "gopher"), ("forwarded", "for=192.0.2.7")]
        for path in ("/stream", "/events", "/event/click"):
            with self.subTest(path):
                self.assertEqual(proxy.send("GET", path, claimed).head.status, 200)
                (request,) = upstream.to(path)
                self.assertEqual(request.headers["x-forwarded-for"], "127.0.0.1")
                self.assertEqual(request.headers["x-forwarded-proto"], "https")
                self.assertFalse(request.headers.get("forwarded"))
                self.assertEqual(request.headers["host"], HUB_HOST)

    def test_a_page_of_the_public_url_may_publish(self):
        self.publish("click", "x", headers=[("origin", f"https://{HUB_HOST}")])
        own = [("origin", f"https://{APP_HOST}")]
        self.publish("click", "x", "/live/event/", APP_HOST, headers=own)
        foreign = [*TEXT, ("origin", "https://evil.example")]
        response = self.proxy.send("POST", "/event/click", foreign, b"x")
        self.assertEqual(response.head.status, 403)

    def test_a_batch_reaches_the_hub_while_the_client_is_still_sending(self):
        upstream = Upstream()
        self.addCleanup(upstream.close)
        proxy = self.another("batch", upstream.address)
        first, second = (b'{"event":"a","data":"' + b"x" * 30_000 + b'"}\n' for _ in range(2))
        head = [*NDJSON, ("content-length", str(len(first + second))), ("connection", "close")]
        connection = proxy.connect(HUB_HOST)
        self.addCleanup(connection.close)
        connection.sendall(request_bytes("POST", "/events", head, first, HUB_HOST))
        (request,) = wait_until(lambda: upstream.to("/events"), "the head of the batch")
        wait_until(lambda: request.body == first, "the first half of the batch")
        connection.sendall(second)
        wait_until(lambda: request.body == first + second, "the second half of the batch")
        self.assertIn(b"200 OK", connection.recv(4096))

    def test_bodies_may_be_as_large_as_the_hub_accepts(self):
        mebibyte = 1 << 20
        self.publish("large", "x" * mebibyte, channel="large")
        line = json.dumps({"event": "large", "data": "x" * (mebibyte - 100)}).encode() + b"\n"
        batch = line * 16
        self.assertGreater(len(batch), 15 * mebibyte)
        response = self.proxy.send("POST", "/events?channel=large", NDJSON, batch)
        self.assertEqual(json.loads(response.payload)["count"], 16)

    def test_nothing_is_cached(self):
        path = "/event/view?channel=cache"
        for _ in range(3):
            self.assertEqual(self.proxy.send("GET", path).payload, b"{}")
        self.assertEqual(len(self.hub.history("cache")), 3)

    def test_a_publish_is_never_repeated_on_another_node(self):
        silent = Upstream(silent=["/event/click"])
        self.addCleanup(silent.close)
        hub = self.start_hub(self.work)
        add_node = functools.partial(self.with_node, node=silent.address)
        proxy = self.another("nodes", hub.address, add_node)
        statuses = []

        def publish_on_both():
            statuses.append(proxy.send("GET", "/event/click").head.status)
            return len(set(statuses)) == 2

        wait_until(publish_on_both, "one publish with a response, and one without")
        self.assertEqual(len(hub.history("sse")), statuses.count(200), statuses)
        self.assertEqual(len(silent.to("/event/click")), len(statuses) - statuses.count(200))

    def test_plain_http_leads_to_https(self):
        request = request_bytes("GET", "/stream?x", host=HUB_HOST)
        response = Stream(self.proxy.http, request)
        self.addCleanup(response.close)
        self.assertEqual(response.head.status, 308)
        self.assertEqual(response.head.get("location"), f"https://{HUB_HOST}/stream?x")

    def test_many_streams_share_one_connection_of_http_2(self):
        self.require("HTTP2" in curl_version(), "curl has no HTTP/2")
        hub = self.start_hub(self.work)
        directory = Path(tempfile.mkdtemp(dir=self.work))
        proxy = self.another(directory.name + "-proxy", hub.address)
        port = proxy.https.rsplit(":", 1)[1]
        command = ["curl", "-sSN", "--http2", "--parallel", "--cacert", proxy.certificate.chain]
        command += ["--resolve", f"{HUB_HOST}:{port}:127.0.0.1"]
        command += ["-w", "%{http_version} %{num_connects} %{http_code}\n"]
        files = [directory / f"stream-{number}" for number in range(STREAMS)]
        for file in files:
            command += [f"https://{HUB_HOST}:{port}/stream?_={file.name}", "-o", file]
        curl = Process("curl", command, directory)
        curl.wait_until(lambda: hub.metric("sse_subscribers") == STREAMS, "all streams")
        event_id = hub.publish("sse", "click", "x")
        event = f"id: {event_id}\nevent: click\ndata: x\n\n"
        for file in files:
            curl.wait_until(lambda file=file: event in file.read_text(), f"the event in {file.name}")
        # The hub ends its streams.
        hub.stop()
        self.assertEqual(curl.finish(), 0, curl.errors())
        lines = [line.split() for line in curl.output().splitlines()]
        self.assertEqual({(version, code) for version, _, code in lines}, {("2", "200")})
        self.assertEqual(sum(int(connects) for _, connects, _ in lines), 1)

    def test_a_hub_that_does_not_answer_in_time_is_an_error_for_publishers_only(self):
        hub = self.start_hub(self.work)
        proxy = self.another("frozen", hub.address, lambda recipe: substitute(recipe, {"60s": "1s"}))
        hub.process.freeze()
        response = proxy.send("GET", "/stream")
        self.assertEqual(response.head.status, 200)
        self.assertEqual(response.payload, b"retry: 5000\n\n")
        response = proxy.send("POST", "/event/click", TEXT, b"x")
        # The proxy may know by now that the hub does not answer.
        self.assertIn(response.head.status, (503, 504))

    def test_only_a_stream_is_answered_with_200_while_the_hub_is_away(self):
        hub = self.start_hub(self.work)
        name = f"away-{hub.address.rsplit(':', 1)[1]}"
        proxy = self.another(name, hub.address)
        self.open_stream(proxy=proxy).close()
        hub.kill()
        for path, host in (("/stream", HUB_HOST), ("/live/stream", APP_HOST)):
            response = proxy.send("GET", path, host=host)
            self.assertEqual(response.head.status, 200)
            self.assertEqual(response.head.get("content-type"), "text/event-stream; charset=utf-8")
            self.assertEqual(response.head.get("cache-control"), "no-store")
            self.assertEqual(response.payload, b"retry: 5000\n\n")
        others = [("POST", "/stream"), ("POST", "/event/click"), ("GET", "/event/click")]
        others += [("POST", "/events"), ("GET", "/events")]
        for method, path in others:
            with self.subTest(path, method=method):
                response = proxy.send(method, path, TEXT, b"" if method == "POST" else None)
                self.assertIn(response.head.status, self.away_statuses)
        hub.restart()
        # A proxy that checks the hub notices it after some seconds.
        wait_until(lambda: proxy.send("GET", "/events").head.status == 200, "the hub through the proxy")
        self.open_stream(proxy=proxy)


def curl_version():
    """Returns what `curl --version` prints, or nothing without curl."""
    if not find_program("curl"):
        return ""
    return subprocess.run(["curl", "--version"], capture_output=True, text=True, check=True).stdout
