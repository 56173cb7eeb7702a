"""What the description does with text: placeholders, visible bytes, renames, wording."""

import unittest

import renames
import transcript
from masks import Masks, visible
from wire import Head, Response


class Placeholders(unittest.TestCase):
    def test_ids_are_numbered_in_the_order_in_which_they_come(self):
        masks = Masks()
        text = "1795980677984-3 @1795980677000-0 1795980677984-3"
        self.assertEqual(masks.apply(text), "<id 1> @<id 2> <id 1>")
        self.assertEqual(masks.apply("sse=1795980677000-0,b=5-5"), "sse=<id 2>,b=5-5")

    def test_a_time_is_that_of_an_id_or_another_one(self):
        masks = Masks()
        masks.apply("1795982400123-0")
        self.assertEqual(masks.apply("2026-11-29T20:00:00.123Z"), "<time of an id>")
        self.assertEqual(masks.apply("2026-11-29T20:00:00.124Z"), "<time>")

    def test_the_longest_name_is_replaced_first(self):
        masks = Masks()
        masks.name(":4000", ":<port>")
        masks.name("127.0.0.1:4000", "<server>")
        self.assertEqual(masks.apply("127.0.0.1:4000 a:4000"), "<server> a:<port>")

    def test_every_control_character_can_be_seen(self):
        self.assertEqual(visible(b"a\r\n\xff\xc3\xa9" + b"x" * 60), "a<U+000D>\n<0xFF>é<60 × x>")


class Renames(unittest.TestCase):
    def test_names_are_replaced_where_they_are_names(self):
        for old, new in (
            ("= sse_forks_total 1", "= sse_failover_losses_total 1"),
            ("= sse_subscribers 1", "= sse_subscribers 1"),
            ('{reason="chatty"}', '{reason="too_much_input"}'),
            ('{"error":{"code":"key_reused"', '{"error":{"code":"idempotency_key_reused"'),
            ("~ key_reused", "~ key_reused"),
            ("--max-subscribers 5", "--streams-max 5"),
        ):
            self.assertEqual(renames.apply(old), new)

    def test_samples_with_and_without_the_new_label_are_added_up(self):
        old = "= # TYPE sse_turned_away counter\n= sse_turned_away_total 3"
        new = (
            "= # TYPE sse_streams_rejected counter\n"
            '= sse_streams_rejected_total{reason="dropped"} 1\n'
            '= sse_streams_rejected_total{reason="limit"} 2'
        )
        self.assertEqual(renames.apply(old), renames.apply(new))
        unused = old.replace("total 3", "total 0")
        self.assertEqual(renames.apply(f"~ # HELP sse_turned_away x\n{unused}\n= x"), "= x")


class Wording(unittest.TestCase):
    def test_a_message_is_wording_and_its_code_is_not(self):
        body = b'{"error":{"code":"busy","message":"a \\"word\\""}}'
        head = Head(
            "HTTP/1.1 503 x", [("content-type", "application/json"), ("content-length", "49")]
        )
        described = transcript.Transcript("t")
        described.response(Response(head, body))
        text = described.text()
        self.assertIn('< {"error":{"code":"busy","message":"<wording>"}}\n', text)
        self.assertIn('~ a \\"word\\"\n', text)
        self.assertIn("< content-length: <length>\n", text)
        self.assertNotIn("word\\", transcript.without_wording(text))

    def test_a_wrong_length_is_a_fact(self):
        head = Head("HTTP/1.1 200 OK", [("content-length", "3")])
        described = transcript.Transcript("t")
        described.response(Response(head, b"ab", is_cut=True))
        self.assertIn("= the connection ended before the response was complete\n", described.text())

    def test_a_space_at_the_end_of_a_line_can_be_seen(self):
        described = transcript.Transcript("t")
        described.fact("data: ")
        self.assertIn("= data:<U+0020>\n", described.text())


if __name__ == "__main__":
    unittest.main()
