//! Sequences of sweeps over one connection.

use super::*;

const TIMEOUT: Duration = Duration::from_mins(1);

/// A connection that is judged once per sweep, as the sweep does it.
struct Sweeps {
    start: Instant,
    suspicion: Option<Suspicion>,
}

impl Sweeps {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            suspicion: None,
        }
    }

    /// Judges at `second`, when the last acknowledgement came at `acked`, before the start if
    /// negative. Returns whether the client is unreachable.
    fn is_unreachable(&mut self, second: u64, acked: i64, outstanding: Outstanding) -> bool {
        let since_ack = u64::try_from(i64::try_from(second).unwrap() - acked).unwrap();
        let state = TcpState {
            outstanding,
            since_ack: Duration::from_secs(since_ack),
        };
        let now = self.start + Duration::from_secs(second);
        let verdict = judge(state, self.suspicion, now, TIMEOUT);
        self.suspicion = match verdict {
            Verdict::Reachable => None,
            Verdict::Suspect(suspicion) | Verdict::Unreachable(suspicion) => Some(suspicion),
        };
        matches!(verdict, Verdict::Unreachable(_))
    }
}

fn window(unanswered_probes: u8) -> Outstanding {
    Outstanding::Window { unanswered_probes }
}

#[test]
fn a_silent_client_is_unreachable_after_the_write_timeout() {
    let mut sweeps = Sweeps::new();
    for second in [0, 15, 30, 45] {
        assert!(!sweeps.is_unreachable(second, -1, Outstanding::Retransmission));
    }
    assert!(sweeps.is_unreachable(60, -1, Outstanding::Retransmission));
    // The verdict stays the same until the connection is closed.
    assert!(sweeps.is_unreachable(75, -1, Outstanding::Retransmission));
}

#[test]
fn a_client_that_was_idle_for_long_gets_the_whole_write_timeout() {
    let mut sweeps = Sweeps::new();
    assert!(!sweeps.is_unreachable(0, -3600, Outstanding::Nothing));
    assert!(!sweeps.is_unreachable(15, -3600, Outstanding::Retransmission));
    assert!(!sweeps.is_unreachable(60, -3600, Outstanding::Retransmission));
    assert!(sweeps.is_unreachable(75, -3600, Outstanding::Retransmission));
}

#[test]
fn a_client_that_acknowledges_between_retransmissions_is_reachable() {
    let mut sweeps = Sweeps::new();
    // A lossy path: each sweep finds a retransmission, and each time something was acknowledged.
    for second in (0..600).step_by(15) {
        let acked = i64::try_from(second).unwrap() - 10;
        assert!(!sweeps.is_unreachable(second, acked, Outstanding::Retransmission));
    }
    // The silence counts from the first sweep after the last acknowledgement, at 585 s.
    assert!(!sweeps.is_unreachable(644, 575, Outstanding::Retransmission));
    assert!(sweeps.is_unreachable(645, 575, Outstanding::Retransmission));
}

#[test]
fn data_that_were_sent_once_are_no_reason() {
    let mut sweeps = Sweeps::new();
    for second in (0..600).step_by(15) {
        assert!(!sweeps.is_unreachable(second, -1, Outstanding::Nothing));
    }
}

#[test]
fn a_recovery_between_two_sweeps_ends_the_suspicion() {
    let mut sweeps = Sweeps::new();
    assert!(!sweeps.is_unreachable(0, -1, Outstanding::Retransmission));
    assert!(!sweeps.is_unreachable(30, 29, Outstanding::Nothing));
    assert!(!sweeps.is_unreachable(60, 29, Outstanding::Retransmission));
    assert!(!sweeps.is_unreachable(119, 29, Outstanding::Retransmission));
    assert!(sweeps.is_unreachable(120, 29, Outstanding::Retransmission));
}

#[test]
fn a_closed_window_with_answered_probes_is_no_reason() {
    let mut sweeps = Sweeps::new();
    // Probes at 0, 120, 240 … A sweep may come between a probe and its answer.
    for second in (0..1200).step_by(15) {
        let last_probe = second / 120 * 120;
        let is_on_its_way = second == last_probe;
        let answered = i64::try_from(last_probe).unwrap() - if is_on_its_way { 120 } else { 0 };
        let state = window(u8::from(is_on_its_way));
        assert!(!sweeps.is_unreachable(second, answered, state));
    }
}

#[test]
fn a_closed_window_with_one_unanswered_probe_is_no_reason() {
    let mut sweeps = Sweeps::new();
    for second in (0..240).step_by(15) {
        assert!(!sweeps.is_unreachable(second, -120, window(1)));
    }
    // The answer to the second probe comes at 241 s.
    assert!(!sweeps.is_unreachable(240, -120, window(2)));
    assert!(!sweeps.is_unreachable(255, 241, window(0)));
    assert_eq!(sweeps.suspicion, None);
}

#[test]
fn a_closed_window_with_two_unanswered_probes_is_unreachable() {
    let mut sweeps = Sweeps::new();
    for second in (0..120).step_by(15) {
        assert!(!sweeps.is_unreachable(second, -120, window(1)));
    }
    assert!(!sweeps.is_unreachable(120, -120, window(2)));
    assert!(!sweeps.is_unreachable(124, -120, window(2)));
    assert!(sweeps.is_unreachable(125, -120, window(2)));
}

#[test]
fn a_third_probe_proves_that_two_are_unanswered() {
    let mut sweeps = Sweeps::new();
    assert!(!sweeps.is_unreachable(0, -120, window(1)));
    assert!(sweeps.is_unreachable(60, -120, window(3)));
}

#[test]
fn frequent_probes_of_a_window_that_just_closed_do_not_shorten_the_write_timeout() {
    let mut sweeps = Sweeps::new();
    for second in [0, 15, 30, 45] {
        assert!(!sweeps.is_unreachable(second, -1, window(9)));
    }
    assert!(sweeps.is_unreachable(60, -1, window(9)));
}
