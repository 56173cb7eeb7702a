//! Which requests of a caller are within its quota.

use super::*;

fn quotas(limits: Limits) -> (Quotas, Metrics) {
    let metrics = Metrics::new();
    (Quotas::new(&limits, metrics.clone()), metrics)
}

fn key(name: &str) -> QuotaKey {
    QuotaKey::Principal(name.into())
}

#[test]
fn only_limits_that_are_set_apply() {
    let (quotas, metrics) = quotas(Limits {
        events: Rate::parse_count("1/h").ok(),
        ..Limits::default()
    });
    let caller = quotas.of(Some(key("a")));
    assert!(caller.has_rate(LimitKind::Events) && !caller.has_rate(LimitKind::Channels));
    assert_eq!(caller.take(LimitKind::Events, 1), Ok(()));
    assert_eq!(caller.take(LimitKind::Bytes, usize::MAX), Ok(()));
    assert!(matches!(caller.open_stream(), Ok(None)));
    let exceeded = caller.take(LimitKind::Events, 1).unwrap_err();
    assert_eq!(exceeded.limit, LimitKind::Events);
    assert!(matches!(exceeded.remedy, Remedy::WaitFor(_)));
    assert_eq!(quotas.of(None).take(LimitKind::Events, 1), Ok(()));
    let text = metrics.render();
    assert!(
        text.contains("sse_rate_limited_total{limit=\"events\"} 1\n"),
        "{text}"
    );
    assert!(
        text.contains("sse_rate_limited_total{limit=\"searches\"} 0\n"),
        "{text}"
    );
}

#[test]
fn streams_have_a_limit_and_a_rate() {
    let (quotas, _) = quotas(Limits {
        streams: std::num::NonZeroUsize::new(1),
        opens: Rate::parse_count("2/h").ok(),
        ..Limits::default()
    });
    let caller = quotas.of(Some(key("a")));
    let permit = caller.open_stream().unwrap();
    assert_eq!(caller.open_stream().unwrap_err().limit, LimitKind::Streams);
    drop(permit);
    assert_eq!(caller.open_stream().unwrap_err().limit, LimitKind::Opens);
    assert!(quotas.of(Some(key("b"))).open_stream().is_ok());
}
