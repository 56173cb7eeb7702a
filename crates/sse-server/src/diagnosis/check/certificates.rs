//! The files of TLS: whether they belong together, and when they expire.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use rustls::crypto::ring;

use super::report::Report;
use crate::{config::Config, metrics::Metrics, tls::Certificates};

const AREA: &str = "certificates";
const DAY_S: i64 = 86_400;
/// A renewal that works would have happened by then.
const WARN_DAYS: i64 = 14;

pub(super) fn check(config: &Config, report: &mut Report) {
    if config.certificates.is_empty() {
        return;
    }
    let provider = Arc::new(ring::default_provider());
    let loaded = Certificates::load(&config.certificates, provider, Metrics::new());
    let certificates = match loaded {
        Ok(certificates) => certificates,
        Err(error) => return report.fail(AREA, error),
    };
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let now_s = i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX);
    for (files, expires_s) in certificates.expiries() {
        let path = files.certificate.display();
        let left = expires_s.saturating_sub(now_s);
        let days = left / DAY_S;
        if left <= 0 {
            report.fail(AREA, format_args!("{path} has expired: clients reject it"));
        } else if days < WARN_DAYS {
            report.warn(
                AREA,
                format_args!("{path} expires in {days} days: renew it"),
            );
        } else {
            report.ok(AREA, format_args!("{path} is valid for {days} days"));
        }
    }
}
