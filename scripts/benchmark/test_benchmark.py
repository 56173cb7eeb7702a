"""Tests of the benchmark's decisions: which runs are valid, the table, the end of the rate search, and growth."""

import base64
import hashlib
import hmac
import json
import unittest

import ceiling
import credentials
import load
import soak
import stalled_handshakes
import table
import validity
from goals import ROWS, Goal


def run(number, subject, problems=(), others=0.0, **figures):
    """Returns a run as it is stored."""
    return {"run": number, "subject": subject, "figures": figures, "problems": list(problems), "others_cores": others}


def scenario(letter, *runs):
    """Returns the stored runs of a scenario."""
    return {"scenario": letter, "title": "t", "quick": False, "date": "2026-11-25", "runs": list(runs)} | {
        "machine": {"cpu": "c", "cores": 2, "memory_gib": 1, "kernel": "k"},
        "versions": {},
    }


def line(text, label):
    """Returns the cells of a row of the table."""
    row = next(row for row in text.splitlines() if row.startswith(f"| {label} "))
    return [cell.strip() for cell in row.split("|")[1:-1]]


class Table(unittest.TestCase):
    def test_figures_are_medians_and_ratios_are_medians_of_those_within_a_run(self):
        data = scenario(
            "A",
            *(run(number, "ours", cpu_us=cpu) for number, cpu in ((1, 4.0), (2, 8.0), (3, 9.0))),
            *(run(number, "floor", cpu_us=cpu) for number, cpu in ((1, 4.0), (2, 4.0), (3, 9.0))),
        )
        cells = line(table.markdown({"A": data}), "CPU for a delivery, µs")
        self.assertEqual(
            cells, ["CPU for a delivery, µs", "8", "4", "1.00 ×", "≤ 1.08 × floor; ≤ 0.65 × nchan", "yes; not measured"]
        )

    def test_a_missed_goal_is_reported(self):
        text = table.markdown({"D": scenario("D", run(1, "ours", resident_b=301.0), run(1, "floor", resident_b=100.0))})
        self.assertEqual(line(text, "resident memory of an idle subscriber, B")[-2:], ["≤ 300", "**no**"])

    def test_a_run_with_loss_does_not_count_and_is_listed(self):
        data = scenario("D", run(1, "ours", ["3 lost"], resident_b=1.0), run(2, "ours", resident_b=200.0))
        text = table.markdown({"D": data})
        self.assertEqual(line(text, "resident memory of an idle subscriber, B")[1], "200")
        self.assertIn("- run 1, ours: invalid: 3 lost", text)

    def test_figures_of_a_busy_machine_are_shown_and_meet_nothing(self):
        text = table.markdown({"D": scenario("D", run(1, "ours", others=1.2, resident_b=200.0))})
        cells = line(text, "resident memory of an idle subscriber, B")
        self.assertEqual((cells[1], cells[-1]), ("200", "invalid: something else was running"))
        self.assertIn("others had 1.20 cores", text)

    def test_what_may_be_added_to_a_figure_is_compared_within_a_run(self):
        def runs(subject, *cpus):
            return (run(number, subject, publish_cpu_us=cpu) for number, cpu in enumerate(cpus))

        data = scenario("T", *runs("ours key", 10.5, 20.9, 12.0), *runs("ours anonymous", 10.0, 20.0, 11.4))
        cells = line(table.markdown({"T": data}), "an API key: CPU for a publish, µs")
        self.assertEqual(cells[1:3], ["12", "11.4"])
        self.assertEqual(cells[-2:], ["≤ ours anonymous + 0.7", "yes"])

    def test_the_column_beside_ours_names_its_subject(self):
        data = scenario("N", run(1, "ours", cpu_us=6.0), run(1, "ours plain", cpu_us=5.0))
        text = table.markdown({"N": data})
        self.assertIn("| figure | ours | ours plain | ours / it |", text)
        cells = line(text, "CPU for a delivery, µs")
        self.assertEqual(cells[1:4], ["6", "5", "1.20 ×"])
        self.assertEqual(cells[-1], "yes; not measured")

    def test_every_row_has_a_figure_of_a_scenario(self):
        self.assertEqual(len({(row.scenario, row.label) for row in ROWS}), len(ROWS))

    def test_goals_are_written_as_people_read_them(self):
        self.assertEqual(str(Goal(1_600_000, at_most=False)), "≥ 1 600 000")
        self.assertEqual(str(Goal(0.65, of="nchan")), "≤ 0.65 × nchan")
        self.assertEqual(str(Goal(1 / 25, of="flask-sse")), "≤ 1/25 × flask-sse")


class Validity(unittest.TestCase):
    def test_a_slow_floor_spoils_all_of_its_run(self):
        data = scenario("A", run(1, "floor", cpu_us=10.5), run(1, "ours", cpu_us=5.0), run(2, "ours", cpu_us=5.0))
        self.assertIn("10.5 µs", validity.of_run(data, data["runs"][1]))
        self.assertEqual(validity.of_run(data, data["runs"][2]), "")

    def test_a_peer_that_is_slower_than_before_is_a_sign_of_others_at_work(self):
        worse, fine = run(1, "nchan", cpu_us=13.95 * 1.3), run(2, "nchan", cpu_us=13.95 * 1.2)
        data = scenario("A", worse, fine, run(1, "ours", cpu_us=5.0))
        self.assertIn("nchan", validity.of_run(data, worse))
        self.assertIn("nchan", validity.of_run(data, data["runs"][2]))
        self.assertEqual(validity.of_run(data, fine), "")


class Credentials(unittest.TestCase):
    def test_a_token_is_signed_with_the_secret(self):
        head, claims, signature = credentials.create_token(b"s" * 32).split(".")
        expected = hmac.new(b"s" * 32, f"{head}.{claims}".encode(), hashlib.sha256).digest()
        self.assertEqual(base64.urlsafe_b64decode(signature + "="), expected)
        claims = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
        self.assertEqual((claims["iss"], claims["sse"]), (credentials.ISSUER, {"publish": ["*"]}))


class StalledHandshakes(unittest.TestCase):
    def test_the_first_message_is_a_complete_record(self):
        message = stalled_handshakes.first_message()
        self.assertEqual((message[0], len(message)), (22, 5 + int.from_bytes(message[3:5], "big")))


class Climb(unittest.TestCase):
    def test_it_ends_close_below_what_is_held(self):
        for limit in (30, 1000, 1600, 5000):
            found = ceiling.climb(lambda rate, limit=limit: rate <= limit, 400)
            self.assertTrue(limit / ceiling.CLOSE_ENOUGH <= found <= limit, (limit, found))

    def test_it_gives_up_where_nothing_is_held(self):
        self.assertEqual(ceiling.climb(lambda rate: False, 400), 0)

    def test_it_does_not_go_beyond_the_highest_rate(self):
        self.assertTrue(50_000 < ceiling.climb(lambda rate: True, 400) < ceiling.RATE_MAX)


class Loss(unittest.TestCase):
    class Subscribers:
        count, before = 2, 7

    def judged(self, lost=0, came=17, gaps=None, streaming=2, cut=0, **kinds):
        loss = {"judged": True, "publishers": [{}], "lost": {"total": lost, "while_open": 0}}
        loss |= {"twice": 0, "out_of_order": 0, "unjudged": 0} | kinds
        report = {"loss": loss, "connections": {"streaming_at_the_end": streaming}, "gaps": gaps or {}}
        report["ends"] = {"cut_by_us": cut}
        return load.problems(report | {"events": {"total": came}}, {"acknowledged": 5, "unknown": 0}, self.Subscribers)

    def test_each_event_once_and_in_order_is_well(self):
        self.assertEqual(self.judged(), [])
        self.assertEqual(self.judged(streaming=1, cut=1), [])

    def test_what_is_reported_besides(self):
        for wrong in (
            {"lost": 1},
            {"came": 16},
            {"came": 18},
            {"gaps": {"trimmed": 1}},
            {"streaming": 1},
            {"twice": 1},
        ):
            self.assertEqual(len(self.judged(**wrong)), 1, wrong)


class Growth(unittest.TestCase):
    def figures(self, resident=100e6, files=5000, after=40):
        samples = [(at, 100e6 if at < 80 else resident, 5000 if at < 80 else files) for at in range(1, 600)]
        return soak.compare(samples, 60.0) | {"files_before": 40, "files_after": after}

    def test_what_stays_has_not_grown(self):
        self.assertEqual(soak.growth(self.figures(resident=105e6, files=5010)), [])

    def test_what_grows_is_named(self):
        for wrong, word in (
            ({"resident": 120e6}, "memory"),
            ({"files": 5200}, "open files"),
            ({"after": 99}, "all had gone"),
        ):
            self.assertIn(word, "".join(soak.growth(self.figures(**wrong))), wrong)


if __name__ == "__main__":
    unittest.main()
