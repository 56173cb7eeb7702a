//! Whether Redis responds, and is set up to keep what it acknowledges.

use std::time::Duration;

use super::report::Report;
use crate::{
    broker::redis::{RedisFacts, inspect},
    config::{BrokerKind, Config},
};

const AREA: &str = "redis";
/// Clocks that differ by more confuse people who compare times, and retention by age.
const SKEW_MAX: Duration = Duration::from_secs(2);

pub(super) async fn check(config: &Config, report: &mut Report) {
    let BrokerKind::Redis {
        url,
        login,
        timeout,
        ..
    } = &config.broker.kind
    else {
        return;
    };
    match inspect(url, login, *timeout).await {
        Err(why) => report.fail(AREA, why),
        Ok(facts) => judge(&facts, report),
    }
}

fn judge(facts: &RedisFacts, report: &mut Report) {
    if let Some(version) = &facts.unsupported_version {
        return report.fail(
            AREA,
            format_args!("version {version} of Redis is not supported; 6.2 or later is required"),
        );
    }
    report.ok(AREA, format_args!("{} responds", facts.address));
    for warning in &facts.warnings {
        report.warn(AREA, &warning.message);
    }
    if facts.is_replica {
        report.fail(
            AREA,
            "this Redis is a replica, which accepts no publish: name the primary",
        );
    }
    if facts.maxmemory == Some(0) {
        report.warn(
            AREA,
            "this Redis has no maxmemory, so the kernel may end it when its memory is used up: set \
             maxmemory, and maxmemory-policy noeviction",
        );
    }
    if facts.clock_skew.is_some_and(|skew| skew > SKEW_MAX) {
        report.warn(
            AREA,
            format_args!(
                "the clocks of this machine and of Redis differ by {} s: synchronise both",
                facts.clock_skew.unwrap_or_default().as_secs()
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> RedisFacts {
        RedisFacts {
            address: "localhost:6379".to_owned(),
            unsupported_version: None,
            warnings: Vec::new(),
            is_replica: false,
            maxmemory: Some(1),
            clock_skew: Some(Duration::from_secs(1)),
        }
    }

    fn code(facts: &RedisFacts) -> u8 {
        let mut report = Report::default();
        judge(facts, &mut report);
        report.exit_code()
    }

    #[test]
    fn what_redis_reports_is_judged() {
        assert_eq!(code(&facts()), 0);
        let version = Some("6.0.1".to_owned());
        assert_eq!(
            code(&RedisFacts {
                unsupported_version: version,
                ..facts()
            }),
            2
        );
        assert_eq!(
            code(&RedisFacts {
                is_replica: true,
                ..facts()
            }),
            2
        );
        assert_eq!(
            code(&RedisFacts {
                maxmemory: Some(0),
                ..facts()
            }),
            1
        );
        assert_eq!(
            code(&RedisFacts {
                maxmemory: None,
                ..facts()
            }),
            0
        );
        let clock_skew = Some(Duration::from_mins(1));
        assert_eq!(
            code(&RedisFacts {
                clock_skew,
                ..facts()
            }),
            1
        );
    }
}
