"""`examples/ai-stream` in Chromium: no part is missing or shown twice, and each end is correct."""

import json
import shutil
import sys
import tempfile
import urllib.parse
from pathlib import Path

import browser
from case import Case
from packages import EXAMPLES
from processes import Process, wait_until

TOKENS = 40
ALL = [str(number) for number in range(TOKENS)]


class AiStream(Case):
    def setUp(self):
        self.require(browser.find_chromium(), "Chromium is not installed")
        self.folder = Path(tempfile.mkdtemp(prefix="interop-ai-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.addCleanup(self.stop_processes)
        config = EXAMPLES / "ai-stream" / "sse.toml"
        flags = ("--config", str(config), "--cors-origin", "*", "--retry", "300ms")
        self.hub = self.start_hub(self.folder, *flags, broker="embedded")
        self.pages = browser.PageServer(None)
        self.addCleanup(self.pages.close)

    def answer(self, *flags):
        """Starts the publisher."""
        program = EXAMPLES / "ai-stream" / "answer.py"
        command = [sys.executable, program, self.hub.url, "answers.1", "--tokens", str(TOKENS)]
        return Process("answer", [*command, "--pause", "0.05", *flags], self.folder)

    def open_page(self, reload=0):
        query = {"hub": self.hub.url, "channel": "answers.1", "reload": reload}
        url = f"{self.pages.url}/ai-stream.html?{urllib.parse.urlencode(query)}"
        chromium = browser.start(self.folder, url)
        self.addCleanup(chromium.kill)
        wait_until(self.reports, "the page")

    def reports(self):
        return [json.loads(report) for report in self.pages.reports]

    def end(self):
        """Waits for the end of the answer, and returns what the page has shown."""
        wait_until(lambda: any("parts" in report for report in self.reports()), "the end of the answer")
        return next(report for report in self.reports() if "parts" in report)

    def test_a_page_that_is_reloaded_continues(self):
        self.open_page(reload=10)
        self.answer()
        end = self.end()
        self.assertEqual((end["parts"], end["reason"], end["loads"]), (ALL, "completed", 2))

    def test_kill_9_of_the_server_costs_no_part(self):
        self.open_page()
        self.answer()
        wait_until(lambda: len(self.history()) >= 10, "ten parts")
        self.hub.kill()
        self.hub.restart()
        end = self.end()
        self.assertEqual((end["parts"], end["reason"]), (ALL, "completed"))

    def test_an_aborted_answer_ends_without_done(self):
        self.open_page()
        self.answer("--abort")
        end = self.end()
        self.assertEqual((end["parts"], end["reason"]), (ALL[: TOKENS // 2], "aborted"))

    def history(self):
        return self.hub.json("/events?channel=answers.1")["events"]
