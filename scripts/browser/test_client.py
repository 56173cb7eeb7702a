"""`client.js` in many tabs of Chromium: each tab gets each event once, whatever happens to the leader."""

import threading

from playwright.sync_api import Error

from hub import BrowserCase, Rules, until

TABS = 12
SUBSCRIBE = """async (options) => {
  const { subscribe } = await import('./client.js');
  window.got = [];
  window.gaps = [];
  window.states = [];
  window.tokens = 0;
  if (options.tokens) {
    options.token = async ({ rejected }) => { window.tokens += 1; return rejected ? options.tokens[1] : options.tokens[0]; };
  }
  window.subscription = subscribe({
    channels: ['c'], ...options,
    onEvent: ({ data }) => window.got.push(Number(data)),
    onGap: (gap) => window.gaps.push(gap),
    onState: (state) => window.states.push(state),
    onError: (error) => window.states.push(String(error)),
  });
}"""


class Client(BrowserCase):
    def setUp(self):
        self.server = self.hub("--history-events", "100000")
        self.profile = self.context()
        self.profile.route("**/tab", lambda route: route.fulfill(content_type="text/html", body="<title>tab</title>"))
        self.next = 0

    def tab(self, **options):
        tab = self.page(self.profile)
        tab.options = options
        self.subscribe(tab)
        return tab

    def subscribe(self, tab):
        tab.goto(f"{self.server.url}/tab")
        tab.evaluate(SUBSCRIBE, tab.options)

    def tabs(self, count=TABS, **options):
        tabs = [self.tab(**options) for _ in range(count)]
        until("one tab leads", lambda: self.leader(tabs))
        for tab in tabs:
            until("a position", lambda tab=tab: tab.evaluate("Object.keys(subscription.positions).length"))
        return tabs

    def leader(self, tabs):
        leading = [tab for tab in tabs if tab.evaluate("subscription.isLeader")]
        return leading[0] if len(leading) == 1 else None

    def publish(self, count=20):
        for _ in range(count):
            self.server.publish(str(self.next), channel="c")
            self.next += 1

    def check(self, tabs, first=0):
        """Each tab gets every number from `first` on, once and in order."""
        expected = list(range(first, self.next))
        for tab in tabs:
            until("all events", lambda tab=tab: tab.evaluate("got.length") >= len(expected))
            self.assertEqual(tab.evaluate("got"), expected)
            self.assertEqual(tab.evaluate("gaps"), [])

    def test_all_tabs_share_one_connection(self):
        tabs = self.tabs()
        self.publish()
        self.check(tabs)
        until("one stream", lambda: self.server.request("/admin/streams")["total"] == 1)
        alone = self.tab(shareKey="other")
        until("a stream of its own", lambda: self.server.request("/admin/streams")["total"] == 2)
        self.publish()
        self.check(tabs)
        self.check([alone], 20)

    def test_a_leader_may_close_crash_or_reload(self):
        tabs = self.tabs()
        for end in (lambda tab: tab.close(), self.crash):
            self.publish()
            leader = self.leader(tabs)
            tabs.remove(leader)
            end(leader)
            self.publish()
            self.check(tabs)
            until("another tab leads", lambda: self.leader(tabs))
        leader = self.leader(tabs)
        tabs.remove(leader)
        self.subscribe(leader)
        first = self.next
        until("a position", lambda: leader.evaluate("Object.keys(subscription.positions).length"))
        self.publish()
        self.check(tabs)
        self.check([leader], first)

    def crash(self, tab):
        crashes = []
        tab.on("crash", lambda page: crashes.append(page))
        # The page of this address ends its process.
        with self.assertRaises(Error):
            tab.goto("chrome://crash")
        until("the tab crashes", lambda: crashes or self.profile.cookies())

    def test_a_frozen_leader_is_deposed_and_misses_nothing(self):
        tabs = self.tabs(4)
        self.publish()
        leader = self.leader(tabs)
        # A dialog stops the page as a freeze does, and Chromium freezes no visible page.
        dialogs = []
        leader.shows = lambda dialog: dialogs.append(dialog)
        leader.evaluate("setTimeout(() => alert('frozen')) && 0")
        others = [tab for tab in tabs if tab is not leader]
        self.publish()
        until("another tab leads", lambda: self.leader(others))
        self.check(others)
        dialogs[0].dismiss()
        self.publish()
        self.check(tabs)

    def test_two_leaders_at_once_repeat_and_lose_nothing(self):
        tabs = self.tabs(4)
        self.publish()
        steal = """() => navigator.locks.query().then(({ held }) => {
          const { name } = held.find(({ name }) => name.endsWith('leader'));
          return navigator.locks.request(name, { steal: true }, () => {});
        })"""
        for tab in tabs:
            tab.evaluate(steal)
            self.publish()
        self.check(tabs)
        until("one tab leads", lambda: self.leader(tabs))

    def test_a_tab_that_joins_late_gets_what_it_asks_for(self):
        tabs = self.tabs(3)
        self.publish(80)
        publisher = threading.Thread(target=self.publish, args=(200,))
        publisher.start()
        late = [self.tab(last=50), self.tab(**{"from": "oldest"})]
        publisher.join()
        self.check(tabs)
        self.check(late[1:])
        first = until("an event", lambda: late[0].evaluate("got[0] ?? null"))
        self.assertGreaterEqual(first, 30)
        self.check(late[:1], first)

    def test_tabs_that_were_offline_continue(self):
        tabs = self.tabs(4)
        self.publish()
        self.check(tabs)
        self.profile.set_offline(True)
        self.publish()
        self.profile.set_offline(False)
        self.publish()
        self.check(tabs)


    def test_tabs_ask_once_for_a_new_token(self):
        config = Rules()
        server = self.hub("--config", str(config.path), folder=config.folder)
        self.server = server
        tabs = self.tabs(3, tokens=["sse_wrong", config.key])
        server.request("/events?channel=c", '{"event":"n","data":"0"}', {"Content-Type": "application/x-ndjson", "Authorization": f"Bearer {config.key}"})
        self.next = 1
        self.check(tabs)
        # Each tab asks once for its first token; only one of them asks again.
        self.assertLessEqual(sum(tab.evaluate("tokens") for tab in tabs), 2 * len(tabs))
        rejected = server.request("/admin/stats", headers={"Authorization": f"Bearer {config.key}"})["rejected_total"]
        self.assertLessEqual(rejected.get("unauthorized", 0), len(tabs))
        for tab in tabs:
            # Chromium reports each 401 in the console.
            tab.errors[:] = [error for error in tab.errors if "401" not in error]
