"""The rows of the table: a figure of a scenario per row, with its goals."""

from dataclasses import dataclass, field

KIB = 1024
PEERS = ("nchan", "actix-web-lab", "flask-sse")


@dataclass
class Goal:
    """An upper (`at_most`) or lower bound; with `of`, a multiple of the same figure of that subject in the same run.

    With `is_added`, the bound is what may be added to that figure.
    """

    bound: float
    at_most: bool = True
    of: str = ""
    is_added: bool = False

    def __str__(self):
        sign = "≤" if self.at_most else "≥"
        if self.is_added:
            return f"{sign} {self.of} + {self.bound:g}"
        bound = f"1/{1 / self.bound:.0f}" if self.bound < 0.1 else f"{self.bound:,.10g}".replace(",", " ")
        return f"{sign} {bound} × {self.of}" if self.of else f"{sign} {bound}"

    def is_met(self, value):
        """Returns True if a figure meets the goal; if `of` is set, its ratio or difference."""
        return value <= self.bound if self.at_most else value >= self.bound


@dataclass
class Row:
    """A row with one figure of a scenario, for all subjects that have the figure."""

    scenario: str
    label: str
    figure: str
    goals: list = field(default_factory=list)
    ours: str = "ours"
    # The subject beside ours in the table.
    floor: str = "floor"
    # Peers that the row can compare.
    peers: tuple = PEERS


def most(bound, of=""):
    """Returns a goal with an upper bound."""
    return Goal(bound, True, of)


def least(bound, of=""):
    """Returns a goal with a lower bound."""
    return Goal(bound, False, of)


def added(bound, of):
    """Returns a goal with an upper bound of the difference from a subject."""
    return Goal(bound, True, of, is_added=True)


_CPU_A = [most(1.08, "floor"), most(0.65, "nchan")]
_P99_B = [most(1.2, "floor"), most(0.7, "actix-web-lab")]

ROWS = [
    Row("A", "CPU for a delivery, µs", "cpu_us", _CPU_A, peers=PEERS[:2]),
    Row("A", "of it in user space, µs", "user_us", peers=PEERS[:2]),
    Row("A", "p50 of a delivery, ms", "delivery_p50_ms", peers=PEERS[:2]),
    Row("A", "p99 of a delivery, ms", "delivery_p99_ms", peers=PEERS[:2]),
    Row("A", "p99.9 of a delivery, ms", "delivery_p99_9_ms", peers=PEERS[:2]),
    Row("A", "p99 of a publish, ms", "publish_p99_ms", peers=PEERS[:2]),
    Row("A", "durable log: CPU for a delivery, µs", "cpu_us", _CPU_A, ours="ours durable", peers=PEERS[:2]),
    Row("A", "durable log: p99 of a delivery, ms", "delivery_p99_ms", ours="ours durable", peers=PEERS[:2]),
    Row(
        "A",
        "100 subscribers × 30/s: CPU for a delivery, µs",
        "cpu_us",
        [most(1 / 25, "flask-sse")],
        "ours for flask-sse",
        "floor for flask-sse",
        PEERS[2:],
    ),
    Row("B", "of the CPU for a delivery in user space, µs", "user_us", [most(0.3)]),
    Row("B", "CPU for a delivery, µs", "cpu_us"),
    Row("B", "p50 of a delivery, ms", "delivery_p50_ms"),
    Row("B", "p99 of a delivery, ms", "delivery_p99_ms", _P99_B),
    Row("B", "p99.9 of a delivery, ms", "delivery_p99_9_ms"),
    Row("B", "p99 of a publish, ms", "publish_p99_ms", [most(5)]),
    Row("B", "events/s of 10 asked for", "rate"),
    Row("B", "durable log: in user space, µs", "user_us", [most(0.3)], ours="ours durable"),
    Row("B", "durable log: p99 of a delivery, ms", "delivery_p99_ms", _P99_B, ours="ours durable"),
    Row("B", "durable log: p99 of a publish, ms", "publish_p99_ms", [most(5)], ours="ours durable"),
    Row("C", "CPU for a delivery, µs", "cpu_us", [most(1.5, "floor")]),
    Row("C", "p99 of a delivery, ms", "delivery_p99_ms"),
    Row("C", "durable log: CPU for a delivery, µs", "cpu_us", [most(1.5, "floor")], ours="ours durable"),
    Row("D", "resident memory of an idle subscriber, B", "resident_b", [most(300)]),
    Row("D", "socket buffers in the kernel, both ends, B", "socket_buffers_b"),
    Row("D", "kernel objects, both ends, B", "kernel_objects_b"),
    Row("D", "CPU while idle, % of a core", "idle_cpu_percent"),
    Row("D", "durable log: resident memory, B", "resident_b", [most(300)], ours="ours durable"),
    Row("E", "deliveries/s held, 5 ms (the default)", "deliveries_per_s", [least(1_600_000)]),
    Row("E", "deliveries/s held, 20 ms", "deliveries_per_s", [least(4_000_000)], "ours 20 ms", "floor 20 ms", ()),
    Row("E", "durable log: deliveries/s held, 5 ms", "deliveries_per_s", [least(1_600_000)], "ours durable"),
    Row(
        "E",
        "durable log: deliveries/s held, 20 ms",
        "deliveries_per_s",
        [least(4_000_000)],
        "ours durable 20 ms",
        "floor 20 ms",
        (),
    ),
    Row("F", "single events/s, memory", "single_per_s", [least(45_000)], "ours memory"),
    Row("F", "single events/s, durable", "single_per_s", [least(10_000)], "ours durable"),
    Row(
        "F", "single events/s, durable, 512 publishers", "single_per_s", [least(30_000)], "ours durable 512 publishers"
    ),
    Row("F", "single events/s, Redis", "single_per_s", [least(30_000)], "ours redis"),
    Row("F", "batches of 100, events/s, memory", "batch_per_s", [least(500_000)], "ours memory"),
    Row("F", "batches of 100, events/s, durable", "batch_per_s", [least(80_000)], "ours durable"),
    Row("F", "batches of 100, events/s, Redis", "batch_per_s", [least(150_000)], "ours redis"),
    Row("G", "all are back, s", "back_max_s", [most(5)]),
    Row("G", "p50 of coming back, s", "back_p50_s"),
    Row("G", "durable log: all are back, s", "back_max_s", [most(5)], "ours durable"),
    Row("H", "events/s, memory", "replayed_per_s", [least(500_000)], "ours memory"),
    Row("H", "events/s, durable", "replayed_per_s", [least(500_000)], "ours durable"),
    Row("H", "events/s, Redis", "replayed_per_s", [least(500_000)], "ours redis"),
    Row("I", "p99 of a publish with / without slow readers", "publish_p99_ms_ratio", [most(1.2)]),
    Row("I", "p99 of a delivery with / without slow readers", "delivery_p99_ms_ratio", [most(1.2)]),
    Row("I", "p99 of a publish with them, ms", "publish_p99_ms_with"),
    Row("I", "p99 of a delivery with them, ms", "delivery_p99_ms_with"),
    Row("I", "durable log: p99 of a publish with / without", "publish_p99_ms_ratio", [most(1.2)], "ours durable"),
    Row("I", "durable log: p99 of a delivery with / without", "delivery_p99_ms_ratio", [most(1.2)], "ours durable"),
    Row("J", "CPU for a publish and delivery, µs", "cpu_us", [most(1.3, "floor"), most(0.8, "nchan")], peers=PEERS[:1]),
    Row("J", "p50 of a delivery, ms", "delivery_p50_ms", peers=PEERS[:1]),
    Row("J", "p99 of a delivery, ms", "delivery_p99_ms", peers=PEERS[:1]),
    Row("J", "durable log: CPU, µs", "cpu_us", ours="ours durable", peers=PEERS[:1]),
    Row("J", "durable log: p99 of a delivery, ms", "delivery_p99_ms", [most(10)], ours="ours durable", peers=PEERS[:1]),
    Row("J", "Redis: CPU without that of Redis, µs", "cpu_us", [most(50)], ours="ours redis", peers=PEERS[:1]),
    Row("J", "Redis: p99 of a delivery, ms", "delivery_p99_ms", ours="ours redis", peers=PEERS[:1]),
    Row("K", "CPU for a publish and delivery, µs", "cpu_us", peers=PEERS[:1]),
    Row("K", "p99 of a delivery, ms", "delivery_p99_ms", [most(2), most(0.5, "nchan")], peers=PEERS[:1]),
    Row(
        "K",
        "p99 of a delivery while channels are created, ms",
        "creating_delivery_p99_ms",
        [most(2), most(0.5, "nchan")],
        peers=PEERS[:1],
    ),
    Row("K", "durable log: p99 of a delivery, ms", "delivery_p99_ms", [most(12)], ours="ours durable", peers=PEERS[:1]),
    Row(
        "K",
        "durable log: p99 while channels are created, ms",
        "creating_delivery_p99_ms",
        [most(12)],
        ours="ours durable",
        peers=PEERS[:1],
    ),
    Row("K", "Redis: p99 of a delivery, ms", "delivery_p99_ms", ours="ours redis", peers=PEERS[:1]),
    Row("L", "lives per second, memory", "lives_per_s", ours="ours memory"),
    Row("L", "lives per second, durable", "lives_per_s", [least(1000)], ours="ours durable"),
    Row("L", "memory: growth of resident memory for a life, B", "resident_growth_b", ours="ours memory"),
    Row("L", "durable: growth of resident memory for a life, B", "resident_growth_b", ours="ours durable"),
    Row("L", "durable: growth of the file for a life, B", "file_growth_b", ours="ours durable"),
    Row("M", "channels created per second, durable", "created_per_s", [least(25_000)], ours="ours durable"),
    Row("M", "of it the last tenth / the first", "last_to_first", [least(0.8)], ours="ours durable"),
    Row("M", "channels created per second, memory", "created_per_s", ours="ours memory"),
    Row("M", "resident memory of a quiet channel, durable, B", "resident_b", [most(200)], ours="ours durable"),
    Row("M", "resident memory of a quiet channel, memory, B", "resident_b", [most(400)], ours="ours memory"),
    Row("M", "file of a quiet channel, B", "file_b", ours="ours durable"),
    Row("M", "opening after a clean close, s", "opening_clean_s", [most(4)], ours="ours durable"),
    Row("M", "opening after kill -9, s", "opening_killed_s", [most(15)], ours="ours durable"),
    *(
        row
        for credential, name in (("key", "an API key"), ("token", "a token"))
        for row in (
            Row(
                "T",
                f"{name}: CPU for a publish, µs",
                "publish_cpu_us",
                [added(0.7, "ours anonymous")],
                f"ours {credential}",
                "ours anonymous",
            ),
            Row(
                "T",
                f"{name}: events/s",
                "single_per_s",
                [least(0.93, "ours anonymous")],
                f"ours {credential}",
                "ours anonymous",
            ),
        )
    ),
    Row("T", "without rules: CPU for a publish, µs", "publish_cpu_us", [], "ours without rules", "ours anonymous"),
    Row("T", "without rules: events/s", "single_per_s", [], "ours without rules", "ours anonymous"),
    Row(
        "U",
        "resident memory of an idle subscriber, B",
        "resident_b",
        [most(9 * KIB), most(0.3, "nchan")],
        floor="ours plain",
    ),
    Row("U", "kernel objects, both ends, B", "kernel_objects_b", floor="ours plain"),
    Row("N", "CPU for a delivery, µs", "cpu_us", [most(1.25, "ours plain"), most(0.65, "nchan")], floor="ours plain"),
    Row("N", "of it in user space, µs", "user_us", floor="ours plain"),
    Row("N", "p99 of a delivery, ms", "delivery_p99_ms", floor="ours plain"),
    Row("O", "deliveries/s held", "deliveries_per_s", [least(0.4, "ours plain")], floor="ours plain"),
    Row("P", "all are back, s", "back_max_s", [most(6)], floor="ours plain"),
    Row("P", "p50 of coming back, s", "back_p50_s", floor="ours plain"),
    Row("P", "p99 of a publish meanwhile, ms", "meanwhile_publish_p99_ms", [most(25)], floor="ours plain"),
    Row("Q", "one per connection: resident memory, B", "resident_b", [most(40 * KIB), most(1, "nchan")], floor=""),
    Row("Q", "100 per connection: resident memory, B", "resident_b", [most(4 * KIB)], "ours 100 per connection", ""),
    Row("R", "CPU for a delivery, µs", "cpu_us", [most(1.2, "ours plain")], floor="ours plain"),
    Row("R", "of it in user space, µs", "user_us", floor="ours plain"),
    Row("R", "p99 of a delivery, ms", "delivery_p99_ms", floor="ours plain"),
    Row("S", "publishes over TLS: p99 with / without them", "publish_p99_ms_ratio", [most(1.2)], floor=""),
    Row("S", "publishes over TLS: p99 with them, ms", "publish_p99_ms_with", floor=""),
    Row("S", "plain publishes: p99 with / without them", "publish_p99_ms_ratio", [most(1.2)], "ours plain", ""),
    Row("S", "plain publishes: p99 with them, ms", "publish_p99_ms_with", [], "ours plain", ""),
    Row("soak", "resident memory after a minute, B", "resident_first_b"),
    Row("soak", "resident memory at the end, B", "resident_last_b"),
    Row("soak", "open files after a minute", "files_first"),
    Row("soak", "open files at the end", "files_last"),
]
