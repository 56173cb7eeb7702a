"""`examples/reverse-proxy/nginx.conf` with a real nginx, and what the page states about nginx."""

import json
import urllib.parse
import zlib
from pathlib import Path

import browser
from processes import wait_until
from proxies import HUB_HOST, substitute
from proxy_cases import ProxyCase, ProxyCases

_NO_CACHE = "proxy_cache off;"


class Nginx(ProxyCases, ProxyCase):
    proxy_name = "nginx"
    away_statuses = (502,)

    def with_node(self, recipe, node):
        return substitute(recipe, {"# server 10.0.0.2:5000;": f"server {node} max_fails=0;"})

    def with_cache(self, name, more=""):
        """Starts an nginx that caches each response with status 200."""
        cache = f"proxy_cache_path {self.work / name}-cache keys_zone=all:1m; proxy_cache all;"
        lines = f"{cache} proxy_cache_valid 200 10m; {more}"
        return self.another(name, self.hub.address, lambda text: substitute(text, {_NO_CACHE: lines}))

    def publish_by_get(self, proxy, channel):
        """Sends the same publish three times; returns how many events there are."""
        for _ in range(3):
            response = proxy.send("GET", f"/event/view?channel={channel}")
            self.assertEqual(response.payload, b"{}")
        return len(self.hub.history(channel))

    def test_the_hub_is_not_cached_even_if_every_200_is(self):
        proxy = self.with_cache("cached")
        self.assertEqual(self.publish_by_get(proxy, "cached"), 3)

    def test_a_cache_that_ignores_cache_control_loses_events(self):
        proxy = self.with_cache("ignoring", "proxy_ignore_headers Cache-Control;")
        self.assertEqual(self.publish_by_get(proxy, "ignoring"), 1)

    def test_a_stream_that_is_compressed_by_mistake_is_not_delayed(self):
        types = {"gzip_types application/json;": "gzip_types *;"}
        proxy = self.another("compressing", self.hub.address, lambda text: substitute(text, types))
        stream = proxy.open("/stream?channel=gzip", [("accept-encoding", "gzip")])
        self.addCleanup(stream.close)
        self.assertEqual(stream.head.get("content-encoding"), "gzip")
        for data in ("the first", "the second"):
            self.hub.publish("gzip", "click", data)
            event = f"data: {data}\n\n".encode()
            stream.wait_until(lambda event=event: event in inflate(stream.payload), data)

    def open_page(self, hub, error_page):
        """Starts a browser with a page of the hub's own host that subscribes, behind nginx."""
        self.require(browser.find_chromium(), "Chromium is not installed")
        pages = browser.PageServer(Path("none"))
        self.addCleanup(pages.close)
        other_paths = "location / {\n            return 404;\n"
        page = f"location / {{\n            proxy_pass {pages.url};\n"
        changes = {other_paths: page, "error_page 502 504 = @reconnect;": error_page}
        name = f"browser-{hub.address.rsplit(':', 1)[1]}"
        proxy = self.another(name, hub.address, lambda recipe: substitute(recipe, changes))
        origin = f"https://{HUB_HOST}:{proxy.https.rsplit(':', 1)[1]}"
        query = urllib.parse.urlencode({"client": "native", "url": f"{origin}/stream"})
        flags = [f"--host-resolver-rules=MAP {HUB_HOST} 127.0.0.1", "--ignore-certificate-errors"]
        chromium = browser.start(self.work / name, f"{origin}/page.html?{query}", flags)
        self.addCleanup(chromium.kill)
        wait_until(lambda: hub.metric("sse_subscribers") == 1, "the stream of the browser")
        hub.publish("sse", "step", "first")
        wait_until(lambda: pages.reports, "the first event in the browser")
        return pages, self.work / name / "access.log"

    def test_a_browser_comes_back_after_a_restart_of_the_hub(self):
        hub = self.start_hub(self.work, broker="embedded")
        pages, log = self.open_page(hub, "error_page 502 504 = @reconnect;")
        hub.kill()
        # The path, then 200 and the length of the response that nginx makes itself.
        wait_until(lambda: '"GET /stream HTTP/2.0" 200 13 ' in log.read_text(), "a 200 without hub")
        hub.restart()
        hub.publish("sse", "step", "missed")
        wait_until(lambda: len(pages.reports) == 2, "the second event in the browser")
        self.assertEqual(json.loads(pages.reports[1])["data"], "missed")

    def test_a_browser_gives_up_after_a_502(self):
        hub = self.start_hub(self.work)
        pages, _ = self.open_page(hub, "")
        hub.kill()
        wait_until(lambda: len(pages.reports) == 2, "a second report of the browser")
        self.assertEqual(json.loads(pages.reports[1])["type"], "closed")


def inflate(data):
    """Decompresses the beginning of a gzip stream."""
    return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(data)
