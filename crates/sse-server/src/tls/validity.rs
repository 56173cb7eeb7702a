//! How long certificates can still be used.

use std::{
    fmt,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

/// A certificate that expires within this time is reported.
const WARN_S: i64 = 14 * DAY_S;
pub(super) const DAY_S: i64 = 24 * 60 * 60;

/// How long a certificate can still be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Validity {
    Long,
    /// Complete days, less than 14.
    Days(i64),
    Expired,
}

impl Validity {
    /// Returns how long a certificate is valid that expires `expires_s` after the Unix epoch.
    pub(super) fn now(expires_s: i64) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now_s = now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        Self::at(now_s, expires_s)
    }

    pub(super) const fn at(now_s: i64, expires_s: i64) -> Self {
        match expires_s.saturating_sub(now_s) {
            ..=0 => Self::Expired,
            left_s if left_s < WARN_S => Self::Days(left_s / DAY_S),
            _ => Self::Long,
        }
    }
}

/// A certificate that expires soon or has expired. Its text is for an operator.
#[derive(Debug, PartialEq, Eq)]
pub struct ExpiryWarning<'a> {
    certificate: &'a Path,
    /// Complete days; `None` if the certificate has expired.
    days: Option<i64>,
}

impl<'a> ExpiryWarning<'a> {
    /// Returns a warning; `None` if the certificate is valid for long.
    pub(super) fn new(certificate: &'a Path, validity: Validity) -> Option<Self> {
        let days = match validity {
            Validity::Long => return None,
            Validity::Days(days) => Some(days),
            Validity::Expired => None,
        };
        Some(Self { certificate, days })
    }

    /// Whether clients reject the certificate already.
    pub(super) const fn has_expired(&self) -> bool {
        self.days.is_none()
    }
}

impl fmt::Display for ExpiryWarning<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let certificate = self.certificate.display();
        match self.days {
            Some(days) => write!(
                f,
                "the certificate {certificate} expires in {days} days: renew it"
            ),
            None => write!(
                f,
                "the certificate {certificate} has expired: clients reject it"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_reported_from_14_days_before_it_expires() {
        let now_s = 1_800_000_000_i64;
        for (left_s, expected) in [
            (14 * DAY_S, Validity::Long),
            (14 * DAY_S - 1, Validity::Days(13)),
            (1, Validity::Days(0)),
            (0, Validity::Expired),
            (i64::MIN, Validity::Expired),
            (i64::MAX, Validity::Long),
        ] {
            let expires_s = now_s.saturating_add(left_s);
            assert_eq!(Validity::at(now_s, expires_s), expected, "{left_s}");
        }
    }
}
