//! Which requests of a caller are within its quota.

use super::*;

fn quotas(limits: Limits) -> (CallerQuotas, Metrics) {
    let metrics = Metrics::new();
    (CallerQuotas::new(limits, metrics.clone()), metrics)
}

fn caller(quotas: &CallerQuotas, number: u64) -> CallerQuota {
    quotas.of_principal(number, &Limits::default())
}

#[test]
fn only_limits_that_are_set_apply() {
    let (quotas, metrics) = quotas(Limits {
        events: Rate::parse_count("1/h").ok(),
        ..Limits::default()
    });
    let quota = caller(&quotas, 1);
    assert!(quota.has_rate(LimitKind::Events) && !quota.has_rate(LimitKind::Channels));
    assert_eq!(quota.take(LimitKind::Events, 1), Ok(()));
    assert_eq!(quota.take(LimitKind::Bytes, usize::MAX), Ok(()));
    assert!(matches!(quota.open_stream(), Ok(None)));
    let exceeded = quota.take(LimitKind::Events, 1).unwrap_err();
    assert_eq!(exceeded.limit, LimitKind::Events);
    assert!(matches!(exceeded.remedy, Remedy::WaitFor(_)));
    assert_eq!(
        quotas
            .of_client(None, &Limits::default())
            .take(LimitKind::Events, 1),
        Ok(())
    );
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
    let quota = caller(&quotas, 1);
    let permit = quota.open_stream().unwrap();
    assert_eq!(quota.open_stream().unwrap_err().limit, LimitKind::Streams);
    drop(permit);
    assert_eq!(quota.open_stream().unwrap_err().limit, LimitKind::Opens);
    assert!(caller(&quotas, 2).open_stream().is_ok());
}
