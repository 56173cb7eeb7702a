"""The soak: thousands of subscribers connect and disconnect for minutes; checks that no resource grows."""

import time
from statistics import median

import load
import servers
from subject import Measured, Subject

SUBSCRIBERS = 5000
RATE = 200
CUT_EVERY_S_MAX = 5.0
CUT_SHARE = "10%"
# Fill the history first, so that the log and its cache have almost their largest size before subscribers connect.
HISTORY_EVENTS = 8000
SAMPLE_EVERY_S = 1.0
# After the first minute, memory may vary with the allocator, and files with reconnecting clients.
RESIDENT_GROWTH_MAX = 0.05
RESIDENT_SLACK_BYTES = 4 << 20
FILES_SLACK = 32


def measure(place, seconds, count, rate):
    """Runs with a share of the streams being cut continuously, and compares the end with the first minute."""
    minute = min(60.0, seconds / 3)
    samples = []
    flags = ["--cut-every", f"{min(CUT_EVERY_S_MAX, seconds / 8):.1f}s", "--cut-share", CUT_SHARE]
    with (
        servers.ours(place, "--history-events", HISTORY_EVENTS, broker="durable") as server,
        place.directory("tools") as directory,
    ):
        load.publish(place, server, directory, rate="max", count=3 * HISTORY_EVENTS, batch=10, concurrency=16)
        files_before = server.open_files()
        with load.Subscribers(place, server, directory, count, flags) as subscribers:
            subscribers.wait_open()
            publishers = load.Publishers(place, server, directory, rate=rate, seconds=seconds)
            start = time.monotonic()
            while publishers.is_running():
                time.sleep(min(SAMPLE_EVERY_S, seconds / 20))
                samples.append((time.monotonic() - start, server.resident_bytes(), server.open_files()))
            published = publishers.report()
            subscribers.wait_events(published["acknowledged"] * count)
            subscribed = subscribers.finish()
        time.sleep(2.0)
        files_after = server.open_files()
    found = load.problems(subscribed, published, subscribers)
    figures = compare(samples, minute)
    figures |= {"files_before": files_before, "files_after": files_after, "cut": subscribed["ends"]["cut_by_us"]}
    found += growth(figures)
    return Measured(figures, found, {"samples": samples, "published": published, "subscribed": subscribed})


def compare(samples, minute):
    """Returns medians of the ten seconds after the first minute, and of the last ten seconds."""
    window, end = min(10.0, minute), samples[-1][0]
    # Use the last sample if the machine was too busy to take samples.
    first = [sample for sample in samples if minute <= sample[0] <= minute + window] or samples[-1:]
    last = [sample for sample in samples if end - window <= sample[0]]
    return {
        "resident_first_b": median(sample[1] for sample in first),
        "resident_last_b": median(sample[1] for sample in last),
        "files_first": median(sample[2] for sample in first),
        "files_last": median(sample[2] for sample in last),
    }


def growth(figures):
    """Returns a message per resource that has grown."""
    found = []
    allowed = figures["resident_first_b"] * (1 + RESIDENT_GROWTH_MAX) + RESIDENT_SLACK_BYTES
    if figures["resident_last_b"] > allowed:
        found.append("memory grew from {resident_first_b:.0f} to {resident_last_b:.0f} bytes".format(**figures))
    if figures["files_last"] > figures["files_first"] + FILES_SLACK:
        found.append("open files grew from {files_first:.0f} to {files_last:.0f}".format(**figures))
    if figures["files_after"] > figures["files_before"] + FILES_SLACK:
        found.append(
            "{files_after} files were open when all had gone, {files_before} before they came".format(**figures)
        )
    return found


def soak(options):
    """5 000 subscribers × 200 events/s, a tenth cut every 5 s: nothing grows after the first minute."""
    count, rate = (options.few(SUBSCRIBERS), 50) if options.is_quick else (SUBSCRIBERS, RATE)
    return [Subject("ours", lambda place: measure(place, options.soak_s, count, rate))]
