//! The metrics page and the effect of each stream event.

use super::*;

#[test]
fn every_metric_is_on_the_metrics_page() {
    let page = include_str!("../../../../docs/operations/metrics.md");
    let text = Metrics::new().render();
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    assert!(names.len() > 10, "{text}");
    for name in names {
        assert!(page.contains(name), "metrics.md does not list {name}");
    }
}

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
