"""`examples/reverse-proxy/nginx.conf` with a real nginx, and what the page states about nginx."""

import zlib

from proxies import substitute
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


def inflate(data):
    """Decompresses the beginning of a gzip stream."""
    return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(data)
