"""The dashboard in Chromium: every screen, wide and narrow, light and dark, and with hostile input."""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import urllib.parse

from hub import BrowserCase, Rules, until
from payloads import HIDDEN, PAYLOADS

# Installed beside Playwright by scripts/needs.
AXE = pathlib.Path(sys.prefix) / "axe/node_modules/axe-core/axe.min.js"
SCREENS = ("overview", "channels", "channel/sse", "streams", "trace", "incidents", "access", "settings")
# Channels of a large hub.
MANY = 100_000
# Names of elements that only hostile text could add.
FOREIGN = "iframe, object, embed, img, video, base, style, template, math, meta[http-equiv], script:not([src='dashboard.js']), form[action]"


def figure(page, title):
    """The figure of a card of the overview."""
    return page.locator(".card", has=page.get_by_role("heading", name=title, exact=True)).locator(".figure")


class Dashboard(BrowserCase):
    def open(self, hub, screen="overview", **options):
        page = self.page(**options)
        page.goto(f"{hub.url}/#{screen}")
        page.get_by_text("Live", exact=True).first.wait_for()
        return page

    def test_a_first_user_sees_events_move(self):
        hub = self.hub()
        page = self.open(hub)
        for number in range(20):
            hub.publish(json.dumps({"number": number}))
        page.get_by_text("20 since the start").wait_for()
        page.get_by_role("link", name="Channel", exact=True).click()
        page.get_by_role("button", name="Open", exact=True).click()
        page.locator(".tail li").nth(19).wait_for()
        hub.publish("live now")
        page.locator(".tail .data", has_text="live now").wait_for()
        # A type that is not wanted is filtered by the server.
        page.get_by_label("Types").fill("wanted")
        page.get_by_role("button", name="Open", exact=True).click()
        page.get_by_text("Live on sse").wait_for()
        hub.publish("one", kind="other")
        hub.publish("two", kind="wanted")
        page.locator(".tail .data", has_text="two").wait_for()
        self.assertEqual(page.locator(".tail li").count(), 1)
        # While it is paused, events wait.
        page.get_by_role("button", name="Pause").click()
        hub.publish("three", kind="wanted")
        page.get_by_text("1 waiting").wait_for()
        self.assertEqual(page.locator(".tail li").count(), 1)
        page.get_by_role("button", name="Continue").click()
        page.locator(".tail .data", has_text="three").wait_for()
        # A replay begins with the event itself.
        page.locator(".tail li", has_text="two").get_by_role("button", name="Replay from here").click()
        page.locator(".tail li").nth(1).wait_for()
        self.assertEqual(page.locator(".tail .data").all_inner_texts(), ["three", "two"])
        # The publish form.
        page.get_by_label("Type", exact=True).fill("wanted")
        page.get_by_role("button", name="Publish").click()
        page.get_by_text("Published with id").wait_for()
        page.locator(".tail summary", has_text="hello").wait_for()

    def test_channels_are_found_closed_and_deleted(self):
        hub = self.hub()
        page = self.open(hub, "channels")
        page.get_by_text("No channel.").wait_for()
        page.get_by_text("Nothing was published").wait_for()
        names = [f"{first}.{number:03}" for first in ("orders", "users") for number in range(60)]
        publish_to(hub, names)
        search = page.get_by_label("Name begins with")
        page.get_by_role("button", name="Search").click()
        page.get_by_text("50 channels on this page, more follow").wait_for()
        search.fill("users.")
        search.press("Enter")
        page.get_by_role("link", name="users.000").first.wait_for()
        page.get_by_role("button", name="Next page").click()
        page.get_by_text("10 channels on this page").wait_for()
        self.assertTrue(page.get_by_role("button", name="Next page").is_disabled())
        search.fill("users.059")
        search.press("Enter")
        page.get_by_text("1 channel on this page").wait_for()
        page.get_by_role("button", name="Close users.059").click()
        page.get_by_role("button", name="Cancel").click()
        self.assertEqual(hub.request("/channels/users.059")["state"], "open")
        page.get_by_role("button", name="Close users.059").click()
        page.get_by_role("button", name="Close the channel").click()
        page.get_by_text("closed: closed").wait_for()
        page.get_by_role("button", name="Delete users.059").click()
        page.get_by_role("button", name="Delete the channel").click()
        page.get_by_text("users.059 is deleted").wait_for()
        page.get_by_text("No channel.").wait_for()
        busiest = page.get_by_role("region", name="Channels with the most publishes")
        busiest.get_by_role("link", name="orders.000").wait_for()

    def test_a_trace_shows_what_one_channel_does(self):
        hub = self.hub()
        page = self.open(hub, "trace/orders")
        page.get_by_text("No trace is open.").wait_for()
        page.get_by_role("button", name="Start").click()
        page.get_by_text("No open stream.").wait_for()
        hub.publish("secret", channel="orders")
        hub.publish("other", channel="users")
        entries = page.get_by_role("region", name="Entries, newest first").locator("tbody tr")
        entries.filter(has_text="published").wait_for()
        self.assertEqual(entries.count(), 1)
        self.assertNotIn("secret", page.locator("main").inner_text())
        page.get_by_role("button", name="Stop").click()
        page.get_by_text("Stopped").wait_for()
        page.locator("select").first.select_option("address")
        page.get_by_label("address", exact=True).fill("nonsense")
        page.get_by_role("button", name="Start").click()
        page.get_by_text("is no IP address").wait_for()
        page.errors[:] = [error for error in page.errors if "400" not in error]

    def test_a_fast_channel_is_shown_in_part(self):
        hub = self.hub()
        page = self.open(hub, "channel/fast")
        page.get_by_text("Live on fast").wait_for()
        lines = "\n".join(json.dumps({"event": "tick", "data": f"{number}"}) for number in range(500))
        hub.request("/events?channel=fast", lines, {"Content-Type": "application/x-ndjson"})
        page.get_by_text("omitted").filter(has_text="shown").wait_for()
        until("all are counted", lambda: counted(page) == 500)
        self.assertLessEqual(page.locator(".tail li").count(), 150)

    def test_every_screen_fits_and_logs_nothing(self):
        hub = self.hub()
        hub.publish('{"a":1}')
        for width, scheme in ((360, "dark"), (1280, "light")):
            page = self.open(hub, viewport={"width": width, "height": 740}, color_scheme=scheme)
            for screen in SCREENS:
                page.evaluate("hash => { location.hash = hash }", screen)
                page.locator("main h2").first.wait_for()
                overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
                self.assertLessEqual(page.evaluate(overflow), 0, f"{screen} at {width}")
                unnamed = page.locator("main :is(button, input, select, textarea)").evaluate_all(
                    "all => all.filter(one => !(one.labels?.length || one.ariaLabel || one.textContent.trim())).length")
                self.assertEqual(unnamed, 0, f"fields without a name on {screen}")
            # The whole navigation works by keyboard.
            page.get_by_role("link", name="Overview").focus()
            page.keyboard.press("Tab")
            page.keyboard.press("Enter")
            page.get_by_role("heading", name="Channels", exact=True).wait_for()
            self.assertEqual(page.evaluate("document.activeElement.id"), "screen")

    def test_axe_finds_no_defect(self):
        if not AXE.exists():
            self.skipTest("axe-core is not installed")
        hub = self.hub()
        self.check_with_axe(hub)
        hub.publish('{"a":1}')
        self.check_with_axe(hub)

    def test_every_screen_works_with_very_many_channels(self):
        hub = self.hub("--channels-max", "150000")
        publish_to(hub, [f"users.{number:06}" for number in range(MANY)])
        page = self.open(hub, "channels")
        page.get_by_text("50 channels on this page, more follow").wait_for()
        page.get_by_label("Name begins with").fill("users.09999")
        page.get_by_role("button", name="Search").click()
        page.get_by_text("10 channels on this page").wait_for()
        busiest = page.get_by_role("region", name="Channels with the most publishes")
        until("the busiest", lambda: busiest.get_by_role("link").count() > 0)
        self.assertLessEqual(busiest.get_by_role("link").count(), 200)
        for screen in SCREENS:
            page.evaluate("hash => { location.hash = hash }", screen)
            page.locator("main h2").first.wait_for()
            overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            self.assertLessEqual(page.evaluate(overflow), 0, screen)
        page.evaluate("hash => { location.hash = hash }", "overview")
        page.get_by_text("100,000 channels").wait_for()
        if AXE.exists():
            self.check_with_axe(hub)

    def check_with_axe(self, hub):
        for width, scheme in ((360, "dark"), (1280, "light")):
            # The page's own policy forbids further scripts.
            page = self.open(hub, viewport={"width": width, "height": 740}, color_scheme=scheme, bypass_csp=True)
            page.evaluate(AXE.read_text())
            for screen in SCREENS:
                page.evaluate("hash => { location.hash = hash }", screen)
                page.locator("main :is(td, li, .figure, textarea)").first.wait_for()
                found = page.evaluate("axe.run().then(({ violations }) => violations.map(({ id, nodes }) => `${id}: ${nodes[0].html}`))")
                self.assertEqual(found, [], f"{screen}, {scheme}")

    def test_hostile_text_stays_text(self):
        hub = self.hub()
        context = self.context()
        page = self.page(context)
        requests, frames = [], []
        page.on("request", lambda request: requests.append(request.url))
        page.on("framenavigated", lambda frame: frames.append(frame.url))
        hostile = Hostile()
        context.route("**/*", hostile.answer)
        page.goto(f"{hub.url}/#overview")
        page.locator("#problems li").nth(len(PAYLOADS) - 1).wait_for()
        for screen in (*SCREENS, "channel/" + urllib.parse.quote(PAYLOADS[1], safe="")):
            page.evaluate("hash => { location.hash = hash }", screen)
            if screen == "channel/sse":
                page.locator(".tail li").nth(len(PAYLOADS) - 1).wait_for()
            if screen == "channels":
                page.get_by_role("button", name="Delete").nth(len(PAYLOADS) - 1).wait_for()
                page.get_by_role("region", name="Channels with the most").locator("td").nth(4 * len(PAYLOADS) - 1).wait_for()
                page.get_by_role("button", name="Delete").first.click()
                page.get_by_role("button", name="Cancel").click()
            if screen == "trace":
                page.get_by_label("channel", exact=True).fill("a")
                page.get_by_role("button", name="Start").click()
                page.get_by_role("region", name="Entries").locator("tbody tr").nth(2 * len(PAYLOADS) - 1).wait_for()
                page.get_by_role("region", name="Open streams of the trace").locator("tbody tr").nth(len(PAYLOADS) - 1).wait_for()
            if screen == "incidents":
                page.locator("main tbody tr").nth(len(PAYLOADS) - 1).wait_for()
            if screen == "streams":
                page.get_by_role("button", name="Close stream").first.wait_for()
            if screen == "access":
                page.get_by_label("Token or API key").fill(PAYLOADS[0])
                page.get_by_role("button", name="Check").click()
                page.get_by_text("The credential is accepted").wait_for()
            if screen == "settings":
                page.get_by_role("region", name="Settings").locator("tbody tr").nth(3).wait_for()
                page.get_by_role("region", name="Nodes").locator("tbody tr").nth(len(PAYLOADS) - 1).wait_for()
            self.assertEqual(page.locator(FOREIGN).count(), 0, screen)
            self.assertIsNone(page.evaluate("window.hit ?? null"), screen)
            shown = page.locator("main").inner_text() + page.locator("#problems").inner_text()
            self.assertEqual([c for c in HIDDEN if c in shown], [], screen)
            self.assertIn("<img src=x onerror=", shown, screen) if screen != "access" else None
            links = page.locator("a").evaluate_all("all => all.map(one => one.getAttribute('href'))")
            self.assertTrue(all(link.startswith("#") for link in links), links)
        self.assertEqual([url for url in requests if not url.startswith(hub.url + "/")], [])
        self.assertTrue(all(url.startswith(hub.url + "/#") for url in frames), frames)
        self.assertIsNone(page.evaluate("({}).polluted ?? null"))

    def test_each_copied_command_does_what_the_page_did(self):
        hub = self.hub()
        page = self.open(hub, "channel/sse")
        folder = pathlib.Path(tempfile.mkdtemp(prefix="browser-commands-"))
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        page.get_by_label("Data is").select_option("text")
        commands = []
        for payload in [*PAYLOADS, "several\nlines\n", "'", "\\", "%s %n", "ä 😀"]:
            page.get_by_label("Data", exact=True).fill(payload)
            page.get_by_role("button", name="Publish").click()
            copied = page.locator("pre[data-text]").evaluate_all("all => all.map(one => one.dataset.text)")
            commands.append((copied[2], copied[3]))
        until("all are published", lambda: len(hub.history()) == len(commands))
        expected = hub.history()
        for curl, script in commands:
            subprocess.run(["sh", "-c", curl], cwd=folder, check=True, capture_output=True, timeout=60)
        self.assertEqual(hub.history()[len(expected):], expected)
        self.assertEqual(list(folder.iterdir()), [])
        if shutil.which("node"):
            program = "\n".join(f"{{ {script} }}" for _, script in commands)
            subprocess.run(["node", "--input-type=module", "-e", program], cwd=folder, check=True, capture_output=True, timeout=60)
            self.assertEqual(hub.history()[2 * len(expected):], expected)
        stream = page.locator("pre[data-text]").first.evaluate("one => one.dataset.text")
        curl = subprocess.Popen(["sh", "-c", f"exec {stream}"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            self.assertTrue(curl.stdout.readline().startswith(b"retry:"))
        finally:
            curl.kill()
            curl.wait()
            curl.stdout.close()

    def test_a_credential_is_asked_for_and_forgotten(self):
        rules = Rules()
        key = rules.key
        hub = self.hub("--config", str(rules.path), folder=rules.folder)
        page = self.page()
        page.goto(hub.url)
        page.get_by_label("API key or token").fill("wrong")
        page.get_by_role("button", name="Continue").click()
        page.get_by_role("alert").wait_for()
        page.get_by_label("API key or token").fill(key)
        page.get_by_role("button", name="Continue").click()
        page.get_by_text("Live", exact=True).first.wait_for()
        page.get_by_role("link", name="Access").click()
        page.get_by_label("Token or API key").fill(key)
        page.get_by_role("button", name="Check").click()
        page.get_by_text("key operator").wait_for()
        stored = "[document.cookie, localStorage.length, sessionStorage.length].join()"
        self.assertEqual(page.evaluate(stored), ",0,0")
        # Chromium reports each 401 in the console.
        page.errors[:] = [error for error in page.errors if "401" not in error]
        page.reload()
        page.get_by_label("API key or token").wait_for()
        page.errors[:] = [error for error in page.errors if "401" not in error]


def publish_to(hub, channels):
    """Publishes one event to each channel."""
    for start in range(0, len(channels), 1000):
        lines = "\n".join(json.dumps({"event": "tick", "data": "x", "channel": name}) for name in channels[start:start + 1000])
        hub.request("/events", lines, {"Content-Type": "application/x-ndjson"})


def counted(page):
    text = page.get_by_text("omitted").filter(has_text="shown").inner_text()
    return sum(int(word.replace(",", "")) for word in text.split() if word.replace(",", "").isdigit())


class Hostile:
    """Answers requests of the dashboard with hostile text in every field."""

    def answer(self, route):
        path = urllib.parse.urlsplit(route.request.url).path
        known = {
            "/admin/events": self.feed, "/admin/streams": self.streams, "/admin/settings": self.settings,
            "/admin/access": self.access, "/stream": self.stream, "/channels": self.channels, "/admin/channels/busiest": self.busiest,
            "/admin/trace": self.trace, "/admin/nodes": self.nodes,
        }
        if path not in known:
            return route.fallback()
        body = known[path]()
        kind = "text/event-stream" if isinstance(body, str) else "application/json"
        route.fulfill(status=200, content_type=kind, body=body if isinstance(body, str) else json.dumps(body))
        return None

    def feed(self):
        texts = {payload: number for number, payload in enumerate(PAYLOADS, 1)}
        incidents = [{"kind": payload, "time_ms": payload, "reason": payload, "caller": payload, "detail": payload} for payload in PAYLOADS]
        stats = {
            "time_ms": 2, "started_ms": 1, "version": PAYLOADS[0], "broker": PAYLOADS[1], "ready": True, "problems": PAYLOADS,
            "streams": 1, "behind_tail": 1, "slow_streams": 1, "published_total": 1, "deliveries_total": 1, "sent_bytes_total": 1,
            "gaps_total": texts, "rejected_total": texts, "delivery_us": {"p50": 1, "p99": None},
            "budgets": [{"name": payload, "used": 1, "max": 2} for payload in PAYLOADS],
            "channels": 1, "log_events": 1, "log_bytes": 1, "dropped_total": 0,
        }
        blocks = {"history": {"columns": PAYLOADS, "rows": [], "budgets": []}, "incidents": incidents, "streams": incidents, "stats": stats}
        return "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in blocks.items())

    def streams(self):
        streams = [{
            "channels": [payload, payload], "lag_ms": 1, "id": payload, "address": payload, "since": payload, "bytes": 1,
            "principal": {"kind": payload, "key": payload, "sub": payload, "iss": payload, "by": payload},
        } for payload in PAYLOADS]
        return {"total": 1, "streams": streams}

    def channels(self):
        channels = [{
            "channel": payload, "state": state, "reason": payload, "events": payload, "bytes": payload, "newest": payload, "oldest": payload,
            "streams": payload, "expires": payload, "settings": payload,
        } for payload in PAYLOADS for state in ("open", payload)]
        return {"channels": channels, "more": True, "next": PAYLOADS[0]}

    def busiest(self):
        return {"channels": [{"channel": payload, "events_per_s": payload, "bytes_per_s": payload, "streams": payload} for payload in PAYLOADS]}

    def trace(self):
        texts = ["time_ms", "address", "caller", "method", "path", "status", "result", "message", "events", "bytes", "duplicates", "first_id", "last_id", "reason"]
        entries = [
            {"kind": kind, "channels": [payload, payload], **dict.fromkeys(texts, payload)}
            for payload in PAYLOADS for kind in (payload, "request", "published")
        ]
        blocks = [("entry", entry) for entry in entries]
        blocks += [("streams", self.streams()), ("status", {"dropped": PAYLOADS[0], "ends_ms": PAYLOADS[0]}), ("end", {})]
        return "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in blocks)

    def nodes(self):
        names = ["id", "host", "version", "started_ms", "streams", "behind_tail", "lag_ms", "age_ms"]
        nodes = [{**dict.fromkeys(names, payload), "addresses": [payload, payload], "is_self": True} for payload in PAYLOADS]
        return {"shared": True, "time_ms": PAYLOADS[0], "nodes": nodes}

    def settings(self):
        rows = [{"key": payload, "value": payload, "origin": payload} for payload in PAYLOADS]
        return {"settings": rows, "tls": "\n".join(PAYLOADS), "access": "\n".join(PAYLOADS)}

    def access(self):
        return {"accepted": True, "caller": PAYLOADS, "publish": PAYLOADS}

    def stream(self):
        blocks = []
        for payload in PAYLOADS:
            line = payload.replace("\n", " ")
            blocks.append(f"event: {line}\nid: {line}\ndata: {line}\n\n")
        return "".join(blocks)
