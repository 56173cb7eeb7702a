//! Sentences about what is wrong now, for the dashboard. They contain no text of clients.

use chrono::{DateTime, Utc};

use super::stats::{Budget, Health};
use crate::metrics::totals::Totals;

/// A budget that is used this much is reported, in percent.
const FULL_PERCENT: u64 = 90;
/// Codes of rejected requests that concern the operator, and what they mean.
const CODES: [(&str, &str); 6] = [
    ("log_full", "the log is full"),
    ("busy", "a budget of memory was used up"),
    ("broker_unavailable", "the broker was unavailable"),
    ("outcome_unknown", "their outcome is unknown"),
    ("access_unavailable", "a credential could not be verified"),
    ("too_many_new_channels", "they opened too many new channels"),
];

/// What the sentences are made from.
pub(super) struct Facts<'a> {
    pub(super) health: &'a Health,
    pub(super) budgets: &'a [Budget],
    /// Streams that are more than a minute behind.
    pub(super) slow_streams: usize,
    pub(super) is_draining: bool,
    pub(super) now: &'a Totals,
    /// The totals of a minute ago.
    pub(super) before: Option<&'a Totals>,
    pub(super) broker: &'a str,
}

impl Facts<'_> {
    /// Returns the sentences, the worst first.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        problems.extend(self.outage());
        if self.is_draining {
            problems.push("The server is draining: its streams end, and then it stops.".into());
        }
        problems.extend(
            self.health
                .warnings
                .iter()
                .map(|warning| warning.message.clone()),
        );
        problems.extend(self.slow());
        problems.extend(self.gaps());
        problems.extend(
            CODES
                .iter()
                .filter_map(|(code, why)| self.rejections(code, why)),
        );
        problems.extend(self.budgets.iter().filter_map(full));
        problems
    }

    fn outage(&self) -> Option<String> {
        let failure = self.health.failure.as_ref()?;
        let name = if self.broker == "redis" {
            "Redis"
        } else {
            "The log"
        };
        let since = i64::try_from(failure.since_ms)
            .ok()
            .and_then(DateTime::<Utc>::from_timestamp_millis);
        let since = since.map(|since| since.format("%H:%M UTC").to_string());
        Some(format!(
            "{name} has been unavailable since {}: {}.",
            since.unwrap_or_default(),
            failure.message
        ))
    }

    fn slow(&self) -> Option<String> {
        let count = self.slow_streams;
        let (noun, verb) = if count == 1 {
            ("stream", "is")
        } else {
            ("streams", "are")
        };
        (count > 0).then(|| format!("{count} {noun} {verb} more than 60 s behind."))
    }

    fn gaps(&self) -> Option<String> {
        let sum = |totals: &Totals| totals.gaps.values().sum::<u64>();
        let new = sum(self.now).saturating_sub(sum(self.before?));
        let noun = if new == 1 { "gap was" } else { "gaps were" };
        (new > 0).then(|| format!("{new} {noun} sent in the last minute."))
    }

    fn rejections(&self, code: &str, why: &str) -> Option<String> {
        let count = |totals: &Totals| totals.rejected.get(code).copied().unwrap_or(0);
        let new = count(self.now).saturating_sub(count(self.before?));
        let noun = if new == 1 {
            "request was"
        } else {
            "requests were"
        };
        (new > 0).then(|| format!("{new} {noun} rejected in the last minute, because {why}."))
    }
}

fn full(budget: &Budget) -> Option<String> {
    let percent = budget.used.saturating_mul(100).checked_div(budget.max)?;
    (percent >= FULL_PERCENT)
        .then(|| format!("{percent} % of the budget \"{}\" is used.", budget.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::admin::stats::Failure;

    fn totals(code: &'static str, count: u64, gaps: u64) -> Totals {
        Totals {
            rejected: [(code, count)].into(),
            gaps: [("trimmed", gaps)].into(),
            ..Totals::default()
        }
    }

    #[test]
    fn each_problem_is_a_sentence() {
        let health = Health {
            failure: Some(Failure {
                since_ms: 12 * 3_600_000 + 3 * 60_000,
                message: "it does not answer".to_owned(),
            }),
            warnings: Vec::new(),
        };
        let budgets = [("streams", 9, 10), ("log", 1, 10)].map(|(name, used, max)| Budget {
            name,
            used,
            max,
        });
        let facts = Facts {
            health: &health,
            budgets: &budgets,
            slow_streams: 3,
            is_draining: true,
            now: &totals("log_full", 5, 8),
            before: Some(&totals("log_full", 4, 6)),
            broker: "redis",
        };
        assert_eq!(
            facts.problems(),
            [
                "Redis has been unavailable since 12:03 UTC: it does not answer.",
                "The server is draining: its streams end, and then it stops.",
                "3 streams are more than 60 s behind.",
                "2 gaps were sent in the last minute.",
                "1 request was rejected in the last minute, because the log is full.",
                "90 % of the budget \"streams\" is used.",
            ]
        );
    }

    #[test]
    fn a_healthy_server_has_no_problem() {
        let facts = Facts {
            health: &Health::default(),
            budgets: &[],
            slow_streams: 0,
            is_draining: false,
            now: &totals("log_full", 5, 8),
            before: Some(&totals("log_full", 5, 8)),
            broker: "embedded",
        };
        assert!(facts.problems().is_empty());
    }
}
