//! The effect of each stream event, and the size of the log.

use super::*;

#[test]
fn stream_events_change_the_metrics_that_they_are_about() {
    let metrics = Metrics::new();
    let (limit, client) = ("limit", Some("client"));
    for (event, line) in [
        (StreamEvent::Opened { resumes: false }, "sse_subscribers 1"),
        (StreamEvent::Opened { resumes: true }, "sse_resumes_total 1"),
        (
            StreamEvent::Rejected { reason: limit },
            "sse_streams_rejected_total{reason=\"limit\"} 1",
        ),
        (
            StreamEvent::Gap(GapReason::LostTail),
            "sse_gaps_total{reason=\"lost-tail\"} 1",
        ),
        (StreamEvent::FellBehind, "sse_subscribers_behind_tail 1"),
        (StreamEvent::CaughtUp, "sse_subscribers_behind_tail 0"),
        (
            StreamEvent::Closed { reason: client },
            "sse_streams_closed_total{reason=\"client\"} 1",
        ),
    ] {
        metrics.record_stream_event(event);
        let text = metrics.render();
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    let text = metrics.render();
    assert!(text.contains("sse_subscribers 1\n"), "{text}");
    assert!(
        text.contains("sse_subscribers_fell_behind_total 1\n"),
        "{text}"
    );
}

#[test]
fn the_size_of_the_log_is_what_the_broker_set_last() {
    let metrics = Metrics::new();
    let size = |channels, events, bytes| LogSize {
        channels,
        events,
        bytes,
        keys: events / 3,
    };
    metrics.set_log_size(size(7, 9, 1));
    metrics.set_log_size(size(2, 30, u64::MAX));
    let text = metrics.render();
    for line in [
        "sse_channels 2\n",
        "sse_log_events 30\n",
        "sse_idempotency_keys 10\n",
        &format!("sse_log_bytes {}\n", i64::MAX),
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
}
