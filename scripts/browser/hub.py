"""A server for one test, and a Chromium that shows its pages."""

import json
import os
import pathlib
import select
import shutil
import subprocess
import tempfile
import time
import unittest
import urllib.request

from playwright.sync_api import sync_playwright

SERVER = os.environ.get("HUB_PROGRAM", "target/debug/sse-server")
CHROMIUM = next((found for name in ("chromium", "google-chrome") if (found := shutil.which(name))), None)
SECONDS = 60


def until(what, condition, seconds=SECONDS):
    """Waits until the condition has a true value, and returns it."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"timed out waiting for: {what}")
        time.sleep(0.02)
    return value


class Hub:
    """A server on a free port of this machine."""

    def __init__(self, *flags, folder=None):
        self.folder = pathlib.Path(folder or tempfile.mkdtemp(prefix="browser-"))
        with open(self.folder / "stderr", "wb") as log:
            self.process = subprocess.Popen(
                [SERVER, "--memory", "--bind", "127.0.0.1:0", *flags],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
                env={"PATH": os.environ["PATH"]},
            )
        if not select.select([self.process.stdout], [], [], SECONDS)[0]:
            raise AssertionError("the server does not start")
        self.url = self.process.stdout.readline().decode().strip()

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def request(self, path, body=None, headers=(), method=None):
        """Sends a request; returns the JSON of the response."""
        data = body if body is None or isinstance(body, bytes) else body.encode()
        request = urllib.request.Request(self.url + path, data=data, headers=dict(headers), method=method)
        with urllib.request.urlopen(request, timeout=SECONDS) as response:
            return json.load(response)

    def publish(self, data, channel="sse", kind="click", **headers):
        headers = {"Content-Type": "text/plain", **headers}
        return self.request(f"/event/{kind}?channel={channel}", data, headers)["id"]

    def history(self, channel="sse", **headers):
        return [event["data"] for event in self.request(f"/events?channel={channel}&limit=1000", headers=headers)["events"]]


def is_problem(message):
    """Whether a message of the console is one. A page without an icon is none."""
    return message.type in ("error", "warning") and not message.location.get("url", "").endswith("/favicon.ico")


class Rules:
    """A configuration file with one API key, which may do everything."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="browser-rules-"))
        made = subprocess.run([SERVER, "key", "new", "--name", "operator"], capture_output=True, text=True, check=True)
        words = made.stdout.replace('"', " ").split()
        self.key = next(word for word in words if word.startswith("sse_"))
        digest = next(word for word in words if len(word) == 64)
        self.path = self.folder / "sse.toml"
        rights = 'admin = true\npublish = ["*"]\nsubscribe = ["*"]'
        self.path.write_text(f'[[access.key]]\nname = "operator"\nsha256 = "{digest}"\n{rights}\n')


@unittest.skipIf(CHROMIUM is None, "Chromium is not installed")
class BrowserCase(unittest.TestCase):
    """Cases that share a browser. Each page fails its case if it logs an error or throws."""

    @classmethod
    def setUpClass(cls):
        cls.playwright = sync_playwright().start()
        cls.addClassCleanup(cls.playwright.stop)
        flags = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        cls.browser = cls.playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        cls.addClassCleanup(cls.browser.close)

    def hub(self, *flags, **options):
        hub = Hub(*flags, **options)
        self.addCleanup(hub.stop)
        return hub

    def context(self, **options):
        context = self.browser.new_context(**options)
        context.set_default_timeout(SECONDS * 1000)
        self.addCleanup(context.close)
        return context

    def page(self, context=None, **options):
        """Opens an empty page. `page.errors` has what went wrong in it."""
        page = (context or self.context(**options)).new_page()
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("console", lambda message: is_problem(message) and page.errors.append(message.text))
        page.shows = lambda dialog: (page.errors.append(f"dialog {dialog.message}"), dialog.dismiss())
        page.on("dialog", lambda dialog: page.shows(dialog))
        self.addCleanup(lambda: self.assertEqual(page.errors, []))
        return page
