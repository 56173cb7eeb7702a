"""Makes the pictures of the dashboard: python scripts/browser/pictures.py [--seconds N] FOLDER."""

import argparse
import http.client
import json
import math
import pathlib
import threading
import time
import urllib.request

from playwright.sync_api import sync_playwright

from hub import CHROMIUM, Hub, until

BYTES_MAX = 150_000
CHANNELS = [f"{kind}.{region}" for kind in ("orders", "payments", "prices", "users") for region in ("eu", "us", "asia")]
SUBSCRIBERS = 40


class Load:
    """Publishes to some channels, with a rate that goes up and down, and reads them."""

    def __init__(self, hub):
        self.hub = hub
        self.is_over = threading.Event()
        self.streams = [urllib.request.urlopen(f"{hub.url}/stream?channel={CHANNELS[number % len(CHANNELS)]}") for number in range(SUBSCRIBERS)]
        self.threads = [threading.Thread(target=self.publish, daemon=True)]
        self.threads += [threading.Thread(target=self.read, args=(stream,), daemon=True) for stream in self.streams]
        for thread in self.threads:
            thread.start()

    def publish(self):
        number = 0
        while not self.is_over.wait(0.1):
            lines = []
            for place, channel in enumerate(CHANNELS):
                for _ in range(round((2 + math.sin(number / 40 + place)) * 3 / (place + 1))):
                    data = {"id": 1000 + number, "total": round(20 + 15 * math.sin(number), 2), "currency": "EUR"}
                    lines.append(json.dumps({"event": ("created", "paid", "shipped")[number % 3], "data": data, "channel": channel}))
            number += 1
            if lines:
                self.hub.request("/events", "\n".join(lines), {"Content-Type": "application/x-ndjson"})

    def read(self, stream):
        try:
            while stream.read(4096):
                pass
        except (OSError, ValueError, http.client.HTTPException):
            # The server is killed at the end.
            pass

    def stop(self):
        self.is_over.set()
        self.threads[0].join()


def take(page, folder, name):
    page.evaluate("scrollTo(0, 0)")
    path = folder / f"{name}.png"
    page.screenshot(path=path)
    size = path.stat().st_size
    print(f"{path}: {size} bytes")
    if size > BYTES_MAX:
        raise SystemExit(f"{path} has more than {BYTES_MAX} bytes")


def take_all(hub, page, dark, folder):
    page.goto(f"{hub.url}/#overview")
    page.get_by_text("Live", exact=True).first.wait_for()
    page.wait_for_timeout(7000)
    take(page, folder, "overview")
    page.goto(f"{hub.url}/#channels")
    page.get_by_role("region", name="Channels with the most publishes").get_by_role("link").first.wait_for()
    take(page, folder, "channels")
    dark.goto(f"{hub.url}/#channel/orders.eu")
    dark.locator(".tail li").nth(30).wait_for()
    dark.get_by_role("button", name="Pause").click()
    dark.locator(".tail summary").first.click()
    take(dark, folder, "channel")
    # A table of very different ids makes a large file.
    page.set_viewport_size({"width": 1200, "height": 520})
    page.goto(f"{hub.url}/#trace/payments.us")
    page.get_by_role("button", name="Start").click()
    page.get_by_role("region", name="Entries, newest first").locator("tbody tr").nth(4).wait_for()
    take(page, folder, "trace")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=90)
    parser.add_argument("folder", type=pathlib.Path)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    hub = Hub("--history-events", "5000")
    load = Load(hub)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            light, dark = (browser.new_page(viewport={"width": 1200, "height": 760}, color_scheme=scheme) for scheme in ("light", "dark"))
            light.goto(hub.url)
            until("events", lambda: hub.request("/admin/stats")["published_total"] > 0)
            time.sleep(options.seconds)
            take_all(hub, light, dark, options.folder)
            browser.close()
    finally:
        load.stop()
        hub.stop()


if __name__ == "__main__":
    main()
