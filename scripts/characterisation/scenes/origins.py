"""Pages of other sites: who may publish, and the CORS headers."""

import sse_server
from scenes.requests import LINES, ONE_LINE, ROUTES, TEXT

APP = "https://app.example"


def _ways(scene, server, headers, title):
    """The three ways to publish, with these headers."""
    scene.get(server, "/event/click", headers, title=f"{title}: GET")
    scene.post(server, "/event/click", TEXT, "x", headers, title=f"{title}: POST")
    scene.post(server, "/events", LINES, ONE_LINE, headers, title=f"{title}: batch")


def _preflight(scene, server, path, origin, method, headers=None):
    sent = [("origin", origin), ("access-control-request-method", method)]
    sent += [("access-control-request-headers", headers)] if headers else []
    scene.send(
        server,
        "OPTIONS",
        path,
        sent,
        title=f"preflight of {origin} for {method} {path} with {headers}",
    )


def own_and_other_pages(scene):
    """Without `--cors-origin`."""
    server = scene.start("memory")
    own = server.url
    for site in ("same-origin", "same-site", "none", "cross-site", "CROSS-SITE"):
        _ways(scene, server, [("sec-fetch-site", site)], f"sec-fetch-site {site}")
    foreign = (
        "null",
        "",
        "https://evil.example",
        "http://127.0.0.1:1",
        "http://127.0.0.1",
        f"{own}.evil.example",
    )
    for origin in (
        own,
        *foreign,
        f"http://evil.example@{server.address}",
        f"https://evil.example, {own}",
    ):
        scene.get(server, "/event/click", [("origin", origin)], title=f"origin {origin!r}")
    _ways(
        scene,
        server,
        [("origin", "https://evil.example"), ("sec-fetch-site", "same-origin")],
        "origin beats site",
    )
    port = server.address.rsplit(":", 1)[1]
    hosts = (
        "evil.example",
        "localhost.evil.example",
        "192.168.1.1",
        "localhost",
        "app.localhost",
        "127.0.0.1",
        "[::1]",
    )
    for host in hosts:
        headers = [("host", f"{host}:{port}"), ("origin", f"http://{host}:{port}")]
        scene.get(server, "/event/click", headers, title=f"a page of http://{host}")
    for path in ROUTES:
        _preflight(scene, server, path, APP, "POST", "content-type")
    for path in ("/events", "/health/live"):
        scene.get(server, path, [("origin", APP)], title=f"a page reads {path}")


def named_origins(scene):
    """With `--publish-origin` for two."""
    flag = sse_server.publish_origin_flag(scene.program)
    server = scene.start("memory", flag, APP, flag, "http://localhost:3000")
    asked = (
        ("/event/click", "POST", "content-type"),
        ("/event/click", "POST", "idempotency-key"),
        ("/events", "POST", "content-type"),
        ("/stream", "GET", "last-event-id,cache-control"),
        ("/events", "GET", "accept"),
        ("/nowhere", "GET", None),
    )
    for path, method, headers in asked:
        _preflight(scene, server, path, APP, method, headers)
    _preflight(scene, server, "/event/click", "http://localhost:3000", "POST", "content-type")
    _ways(scene, server, [("origin", APP)], "a named origin")
    _ways(
        scene,
        server,
        [("origin", APP), ("sec-fetch-site", "cross-site")],
        "a named origin, cross-site",
    )
    scene.get(server, "/events?limit=1", [("origin", APP)], title="a named origin reads history")
    scene.stream(
        server,
        "/stream",
        [("origin", APP)],
        until="channel sse",
        title="a named origin reads a stream",
    )
    scene.get(server, "/event/gap", [("origin", APP)], title="a named origin can read an error")
    scene.get(
        server,
        "/event/click",
        [("sec-fetch-site", "cross-site")],
        title="cross-site without an origin",
    )
    for origin in ("https://evil.example", "null", f"{APP}.evil.example", "http://app.example"):
        _ways(scene, server, [("origin", origin)], f"another origin {origin}")
        _preflight(scene, server, "/event/click", origin, "POST", "content-type")
    _preflight(scene, server, "/event/click", APP, "DELETE")
    _preflight(scene, server, "/event/click", APP, "POST", "x-unknown")
    scene.send(
        server, "OPTIONS", "/event/click", [("origin", APP)], title="OPTIONS that asks for nothing"
    )
    scene.get(server, "/event/click", [("origin", server.url)], title="the server's own origin")


def every_origin(scene):
    """With `--publish-origin *`."""
    server = scene.start("memory", sse_server.publish_origin_flag(scene.program), "*")
    for origin in (APP, "null", server.url):
        _preflight(scene, server, "/events", origin, "POST", "content-type")
        scene.post(
            server, "/event/click", TEXT, "1", [("origin", origin)], title=f"{origin} publishes"
        )
    scene.get(
        server,
        "/event/click",
        [("sec-fetch-site", "cross-site")],
        title="cross-site without an origin",
    )
    scene.get(server, "/events", title="without an origin")


SCENES = [own_and_other_pages, named_origins, every_origin]
