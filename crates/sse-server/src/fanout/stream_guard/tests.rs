//! The end of a stream, and what a guard reports.

use super::*;
use crate::{
    fanout::admission::{Admission, AdmissionDecision},
    metrics::Metrics,
};

#[test]
fn a_guard_is_small() {
    assert_eq!(size_of::<StreamGuard>(), 16);
}

#[test]
fn the_earliest_moment_ends_the_stream() {
    let admission = Admission::new(1, Metrics::new());
    let AdmissionDecision::Admitted(mut guard) = admission.admit(false, None) else {
        panic!("the first stream is admitted")
    };
    let now = Instant::now();
    assert_eq!((guard.ends_at(), guard.due_end(now)), (None, None));
    let at = |seconds| now + Duration::from_secs(seconds);
    guard.end_by(at(20), CloseReason::Life);
    guard.end_by(at(10), CloseReason::Drain);
    guard.end_by(at(30), CloseReason::Life);
    let moved = guard.transfer();
    assert_eq!(moved.due_end(at(9)), None);
    assert_eq!(moved.due_end(at(11)), Some(CloseReason::Drain));
}

#[test]
fn a_dropped_guard_reports_its_close_reason_and_the_end_of_the_lag() {
    let metrics = Metrics::new();
    let admission = Admission::new(1, metrics.clone());
    let AdmissionDecision::Admitted(mut guard) = admission.admit(true, None) else {
        panic!("the first stream is admitted")
    };
    guard.set_behind(true);
    guard.set_close_reason(CloseReason::Stalled);
    assert!(metrics.render().contains("sse_subscribers_behind_tail 1\n"));
    drop(guard);
    let text = metrics.render();
    assert!(text.contains("sse_subscribers_behind_tail 0\n"));
    assert!(text.contains("sse_subscribers 0\n"));
    assert!(text.contains("sse_streams_closed_total{reason=\"stalled\"} 1\n"));
}

#[test]
fn a_client_is_warned_once_before_its_right_expires() {
    let admission = Admission::new(1, Metrics::new());
    let AdmissionDecision::Admitted(mut guard) = admission.admit(false, None) else {
        panic!("the first stream is admitted")
    };
    let now = Instant::now();
    let at = |seconds| now + Duration::from_secs(seconds);
    guard.end_by(at(200), CloseReason::Life);
    assert_eq!(guard.take_warning(at(199)), None);
    guard.expire_at(at(100), CloseReason::Life);
    assert_eq!(guard.take_warning(at(30)), None);
    assert!(guard.next_moment().unwrap() < at(41));
    let left = guard.take_warning(at(70)).unwrap();
    assert!(left >= Duration::from_secs(30) && left < Duration::from_secs(31));
    assert_eq!(guard.take_warning(at(80)), None);
    assert_eq!(guard.next_moment(), guard.ends_at());
    guard.end_by(at(90), CloseReason::Drain);
    assert_eq!(guard.take_warning(at(85)), None);
}
