"""The page of `examples/browser`, as its README starts it."""

import functools
import http.server
import pathlib
import threading

from hub import BrowserCase

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "examples" / "browser"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class Example(BrowserCase):
    def test_the_page_shows_what_it_publishes_in_every_tab(self):
        pages = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=FOLDER))
        threading.Thread(target=pages.serve_forever, daemon=True).start()
        self.addCleanup(pages.server_close)
        self.addCleanup(pages.shutdown)
        origin = f"http://127.0.0.1:{pages.server_port}"
        hub = self.hub("--publish-origin", origin)
        context = self.context()
        tabs = [self.page(context) for _ in range(2)]
        for tab in tabs:
            tab.goto(f"{origin}/?server={hub.url}")
            tab.get_by_text("open", exact=True).wait_for()
        tabs[0].get_by_label("Message").fill("<b>to all</b>")
        tabs[0].get_by_role("button", name="Publish").click()
        for tab in tabs:
            tab.get_by_text("message: <b>to all</b>").wait_for()
