"""What each client of `docs/clients.md` does with heartbeats, and with ids that have no event.

The table of the page has these results.
"""

import json
import shutil
import tempfile
from pathlib import Path

import browser
import packages
from case import Case
from processes import wait_until
from proxies import find_program, substitute
from scripted_server import ScriptedServer
from trial import (
    CHANNEL,
    STREAM,
    NodeClient,
    PageClient,
    PythonClient,
    Trial,
    TutorialPythonClient,
)
from wire import chunked


class Clients(Case):
    def new_folder(self):
        folder = Path(tempfile.mkdtemp(prefix="interop-client-"))
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        return folder

    def trial(self, client_class, program, url=STREAM):
        """Starts a client on a new hub."""
        if client_class is PageClient:
            self.require(browser.find_chromium(), "Chromium is not installed")
        if client_class in (NodeClient, PageClient):
            self.require(find_program("node"), "Node is not installed")
        work = self.new_folder()
        self.addCleanup(self.stop_processes)
        flags = ("--heartbeat", "300ms", "--retry", "500ms", "--cors-origin", "*")
        hub = self.start_hub(work, *flags, broker="embedded")
        if callable(url):
            url = url(hub)
        trial = Trial(hub, client_class, program, work, url)
        self.addCleanup(trial.close)
        return trial

    def check(self, trial, keeps, shows_positions=False, extra_empty_events=0, first_ids=None):
        """Runs all steps. `keeps` is whether a reconnect sends a position that had no event."""
        first = trial.be_silent()
        position = trial.move_position()
        trial.interrupt(trial.restart_hub, "missed-1")
        sent = trial.stream().last_event_id()
        self.assertEqual(sent, position if keeps else first_ids and first)
        # Only a client without any position loses the event.
        is_lost = not keeps and not first_ids
        event_id = trial.publish("after-1")
        self.assertEqual(trial.data(), ["after-1"] if is_lost else ["missed-1", "after-1"])
        position = trial.move_position()
        trial.interrupt(trial.cut, "missed-2")
        self.assertEqual(trial.stream().last_event_id(), position if keeps else event_id)
        trial.wait_for("missed-2")
        shown = trial.position_blocks() + extra_empty_events if shows_positions else 0
        self.assertEqual(trial.empty_events(), shown)

    def test_chromium(self):
        self.check(self.trial(PageClient, "native"), keeps=True)

    def test_fetch_event_source_ends_with_the_stream(self):
        trial = self.trial(PageClient, "fetch-event-source")
        trial.be_silent()
        trial.move_position()
        trial.hub.stop()
        wait_until(lambda: {"ended": True} in trial.observed(), "the end of the subscription")
        blocks = [event for event in trial.observed() if "ended" not in event]
        self.assertEqual({(event["type"], event["data"]) for event in blocks}, {("", "")})
        self.assertEqual(len(blocks), trial.position_blocks())

    def test_fetch_event_source_with_the_recipe(self):
        self.check(self.trial(PageClient, "fetch-event-source-recipe", ""), keeps=True)

    def test_extended_eventsource(self):
        for client_class in (PageClient, NodeClient):
            program = "extended-eventsource" + (".mjs" if client_class is NodeClient else "")
            with self.subTest(client_class.__name__):
                self.check(self.trial(client_class, program), keeps=True, shows_positions=True)

    def test_event_source_polyfill(self):
        self.check(self.trial(PageClient, "event-source-polyfill"), keeps=False)

    def test_event_source_polyfill_from_a_known_position(self):
        trial = self.trial(PageClient, "event-source-polyfill", from_now)
        self.check(trial, keeps=False, first_ids=True)

    def test_npm_eventsource(self):
        self.check(self.trial(NodeClient, "eventsource.mjs"), keeps=False)

    def test_npm_eventsource_with_the_recipe(self):
        trial = self.trial(NodeClient, "examples/eventsource.mjs", "")
        self.check_example(trial, keeps=False)

    def test_eventsource_client(self):
        self.check(self.trial(NodeClient, "eventsource-client.mjs"), keeps=False)

    def test_eventsource_client_with_the_recipe(self):
        trial = self.trial(NodeClient, "examples/eventsource-client.mjs", "")
        self.check_example(trial, keeps=False)

    def test_launchdarkly_eventsource(self):
        self.check(self.trial(NodeClient, "launchdarkly-eventsource.mjs"), keeps=False)

    def test_launchdarkly_eventsource_from_a_known_position(self):
        trial = self.trial(NodeClient, "launchdarkly-eventsource.mjs", from_now)
        self.check(trial, keeps=False, first_ids=True)

    def test_undici(self):
        self.check(self.trial(NodeClient, "undici-alive.mjs"), keeps=True)

    def test_undici_does_not_keep_node_alive_between_two_connections(self):
        trial = self.trial(NodeClient, "undici.mjs")
        trial.be_silent()
        trial.hub.stop()
        self.assertEqual(trial.client.process.finish(), 0)
        self.assertEqual(len(trial.relay.streams()), 1)

    def test_python_sseclient(self):
        trial = self.trial(PythonClient, "plain_sseclient.py")
        # It reads the chunks of HTTP as lines, and takes the last one for an event.
        self.check(trial, keeps=True, shows_positions=True, extra_empty_events=1)

    def test_python_sseclient_fails_if_the_hub_is_away(self):
        trial = self.trial(PythonClient, "plain_sseclient.py")
        trial.be_silent()
        trial.hub.stop()
        self.assertEqual(trial.client.process.finish(), 1)

    def test_python_sseclient_damages_an_event_of_two_chunks(self):
        event = b"id: 1-0\nevent: step\ndata: " + b"x" * 100 + b"\n\n"
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
        head += b"Transfer-Encoding: chunked\r\n\r\n"
        server = ScriptedServer([head + chunked(event[:60], event[60:])])
        self.addCleanup(server.close)
        work = self.new_folder()
        client = PythonClient("plain_sseclient.py", work, server.url)
        self.addCleanup(client.close)
        wait_until(client.lines, "the event")
        self.assertNotEqual(json.loads(client.lines()[0])["data"], "x" * 100)

    def test_httpx_sse_with_the_recipe(self):
        trial = self.trial(PythonClient, "examples/receive_httpx.py", "")
        self.check_example(trial, keeps=True)

    def test_requests_sse(self):
        self.check(self.trial(PythonClient, "requests_sse_client.py"), keeps=True)

    def test_python_launchdarkly_eventsource(self):
        self.check(self.trial(PythonClient, "launchdarkly_eventsource.py"), keeps=False)

    def test_python_launchdarkly_eventsource_from_a_known_position(self):
        trial = self.trial(PythonClient, "launchdarkly_eventsource.py", from_now)
        self.check(trial, keeps=False, first_ids=True)

    def test_httpx_sse_shows_positions_and_ends_with_the_stream(self):
        trial = self.trial(PythonClient, "httpx_sse_client.py")
        trial.be_silent()
        position = trial.move_position()
        trial.hub.stop()
        self.assertEqual(trial.client.process.finish(), 0)
        self.assertEqual(trial.empty_events(), trial.position_blocks())
        self.assertEqual(trial.observed()[-1], {"type": "message", "id": position, "data": ""})

    def test_sseclient_py_shows_nothing_and_ends_with_the_stream(self):
        trial = self.trial(TutorialPythonClient, "sseclient_py.py")
        trial.be_silent()
        trial.move_position()
        trial.hub.stop()
        self.assertEqual(trial.client.process.finish(), 0, trial.client.process.errors())
        self.assertEqual(trial.observed(), [])

    def test_sseclient_py_with_the_program_of_the_page(self):
        page = (packages.EXAMPLES.parent / "docs" / "clients.md").read_text()
        program = next(code for code in page.split("```python\n") if "import sseclient" in code)
        changes = {
            "/stream\"": f"{STREAM}\"",
            '{"last": 0}': f'{{"last": 0, "channel": "{CHANNEL}"}}',
            '"http://127.0.0.1:5000"': "__import__('sys').argv[1]",
            "event.data)": "event.data, flush=True)",
        }
        file = self.new_folder() / "program.py"
        file.write_text(substitute(program.split("```")[0], changes))
        self.check(self.trial(TutorialPythonClient, file, ""), keeps=False, first_ids=True)

    def check_example(self, trial, keeps):
        """Runs all steps, and waits until the program ends by itself."""
        self.check(trial, keeps, first_ids=True)
        self.assertEqual(trial.client.process.finish(), 0, trial.client.process.errors())


def from_now(hub):
    """Returns the path of a stream that starts at the position of now."""
    position = hub.json(f"/events?channel={CHANNEL}&last=0")["next"]
    return f"{STREAM}&last_event_id={position}"
