//! Loss over all connections, from their sequences.

use std::ops::Range;

use serde::Serialize;

use super::{
    engine::Finished,
    publishers::Publisher,
    sequence_tracker::{Circumstance, LostCounts, Verdict},
};

/// Limit of listed pairs of connection and publisher.
const CONNECTIONS_LISTED_MAX: usize = 100;
/// Limit of listed ranges per pair.
const RANGES_LISTED_MAX: usize = 20;

/// What was lost, received twice or out of order, over all connections.
#[derive(Debug, Default, Serialize)]
pub(crate) struct LossReport {
    /// Loss was judged; if not, `why_not` is the reason.
    pub(crate) judged: bool,
    pub(crate) why_not: Option<&'static str>,
    #[serde(flatten)]
    pub(crate) totals: LossTotals,
    pub(crate) publishers: Vec<PublisherLoss>,
    /// Events of publishers beyond the limit.
    pub(crate) events_of_further_publishers: u64,
    pub(crate) connections: Vec<ConnectionLoss>,
    /// Number of affected pairs of connection and publisher that are not in `connections`.
    pub(crate) connections_unlisted: u64,
}

/// Sums over connections.
#[derive(Debug, Default, Clone, Serialize)]
pub(crate) struct LossTotals {
    pub(crate) lost: LostCounts,
    pub(crate) twice: u64,
    pub(crate) out_of_order: u64,
    /// Events that came too late to know whether they are repeated.
    pub(crate) unjudged: u64,
}

/// One publisher on all connections.
#[derive(Debug, Serialize)]
pub(crate) struct PublisherLoss {
    pub(crate) publisher: String,
    /// The number that each connection had to reach: the highest that any had received at the end.
    pub(crate) target: Option<u64>,
    /// Connections that received events of the publisher, or were entitled to them.
    pub(crate) connections: u64,
    /// Connections on which each event arrived once and in order.
    pub(crate) clean_connections: u64,
    #[serde(flatten)]
    pub(crate) totals: LossTotals,
}

/// One publisher on one affected connection.
#[derive(Debug, Serialize)]
pub(crate) struct ConnectionLoss {
    /// Index of the connection.
    pub(crate) connection: usize,
    pub(crate) publisher: String,
    pub(crate) lost: LostCounts,
    pub(crate) lost_ranges: Vec<NumberRange>,
    pub(crate) lost_ranges_unlisted: u64,
    pub(crate) twice: u64,
    pub(crate) twice_ranges: Vec<NumberRange>,
    pub(crate) out_of_order: u64,
    pub(crate) unjudged: u64,
}

/// A range of sequence numbers, both ends included.
#[derive(Debug, Serialize)]
pub(crate) struct NumberRange {
    pub(crate) first: u64,
    pub(crate) last: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) circumstance: Option<Circumstance>,
}

impl LossReport {
    /// Judges a finished run. `why_not` is the reason if loss cannot be judged.
    pub(crate) fn new(finished: &Finished, why_not: Option<&'static str>) -> Self {
        let publishers = &finished.collector.publishers;
        let mut report = Self {
            judged: why_not.is_none(),
            why_not,
            events_of_further_publishers: publishers.unjudged_events,
            ..Self::default()
        };
        for publisher in publishers.list().iter().enumerate() {
            report.add_publisher(finished, publisher);
        }
        report
    }

    /// Returns `true` if everything was judged, and each event arrived once and in order.
    pub(crate) fn is_clean(&self) -> bool {
        self.judged && self.totals.is_clean() && self.events_of_further_publishers == 0
    }

    fn add_publisher(&mut self, finished: &Finished, (index, publisher): (usize, &Publisher)) {
        let mut loss = PublisherLoss {
            publisher: publisher.name.to_string(),
            target: publisher.target,
            connections: 0,
            clean_connections: 0,
            totals: LossTotals::default(),
        };
        for (number, connection) in finished.connections.iter().enumerate() {
            let received = &connection.received;
            // A connection that was closed because it had enough events need not reach the target.
            let has_enough = received.has_enough(&finished.collector.rules);
            let target = publisher.target.filter(|_| !has_enough);
            let Some(verdict) = received.sequences.assess(
                (index, publisher),
                connection.first_opened,
                target,
                received.interruptions,
            ) else {
                continue;
            };
            loss.add_connection(&verdict);
            if !verdict.is_clean() {
                self.list_connection(number, &publisher.name, &verdict);
            }
        }
        self.totals.add_totals(&loss.totals);
        self.publishers.push(loss);
    }

    /// Lists an affected connection if there is room. Loss and repetition take the room of mere
    /// disorder.
    fn list_connection(&mut self, connection: usize, publisher: &str, verdict: &Verdict) {
        if self.connections.len() == CONNECTIONS_LISTED_MAX {
            self.connections_unlisted += 1;
            let is_minor = verdict.lost.total == 0 && verdict.twice == 0;
            let replaced = self
                .connections
                .iter()
                .rposition(ConnectionLoss::is_minor)
                .filter(|_| !is_minor);
            match replaced {
                Some(at) => drop(self.connections.remove(at)),
                None => return,
            }
        }
        self.connections
            .push(ConnectionLoss::new(connection, publisher, verdict));
    }
}

impl PublisherLoss {
    fn add_connection(&mut self, verdict: &Verdict) {
        self.connections += 1;
        self.clean_connections += u64::from(verdict.is_clean());
        self.totals.add_verdict(verdict);
    }
}

impl ConnectionLoss {
    fn new(connection: usize, publisher: &str, verdict: &Verdict) -> Self {
        let listed = verdict.holes.len().min(RANGES_LISTED_MAX);
        let lost_range = |hole: &super::sequence_tracker::Hole| {
            NumberRange::new(&hole.numbers, Some(hole.circumstance))
        };
        let twice_range = |numbers| NumberRange::new(numbers, None);
        Self {
            connection,
            publisher: publisher.to_owned(),
            lost: verdict.lost,
            lost_ranges: verdict.holes[..listed].iter().map(lost_range).collect(),
            lost_ranges_unlisted: verdict.holes_unlisted + (verdict.holes.len() - listed) as u64,
            twice: verdict.twice,
            twice_ranges: verdict.twice_listed.iter().map(twice_range).collect(),
            out_of_order: verdict.out_of_order,
            unjudged: verdict.unjudged,
        }
    }

    /// Returns `true` if the events were only out of order.
    const fn is_minor(&self) -> bool {
        self.lost.total == 0 && self.twice == 0
    }
}

impl LossTotals {
    fn add_verdict(&mut self, verdict: &Verdict) {
        self.lost.add_counts(&verdict.lost);
        self.twice += verdict.twice;
        self.out_of_order += verdict.out_of_order;
        self.unjudged += verdict.unjudged;
    }

    fn add_totals(&mut self, other: &Self) {
        self.lost.add_counts(&other.lost);
        self.twice += other.twice;
        self.out_of_order += other.out_of_order;
        self.unjudged += other.unjudged;
    }

    const fn is_clean(&self) -> bool {
        self.lost.total == 0 && self.twice == 0 && self.out_of_order == 0 && self.unjudged == 0
    }
}

impl NumberRange {
    const fn new(numbers: &Range<u64>, circumstance: Option<Circumstance>) -> Self {
        Self {
            first: numbers.start,
            last: numbers.end - 1,
            circumstance,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(lost: u64, out_of_order: u64) -> Verdict {
        Verdict {
            lost: LostCounts {
                total: lost,
                ..LostCounts::default()
            },
            out_of_order,
            ..Verdict::default()
        }
    }

    #[test]
    fn connections_with_loss_are_listed_before_those_with_mere_disorder() {
        let mut report = LossReport::default();
        for connection in 0..CONNECTIONS_LISTED_MAX {
            report.list_connection(connection, "p", &verdict(0, 1));
        }
        report.list_connection(1_000, "p", &verdict(0, 1));
        report.list_connection(1_001, "p", &verdict(7, 0));
        assert_eq!(report.connections.len(), CONNECTIONS_LISTED_MAX);
        assert_eq!(report.connections_unlisted, 2);
        let last = report.connections.last().map(|listed| listed.connection);
        assert_eq!(last, Some(1_001));
    }

    #[test]
    fn unjudged_events_are_no_proof_of_completeness() {
        let mut report = LossReport {
            judged: true,
            ..LossReport::default()
        };
        assert!(report.is_clean());
        report.events_of_further_publishers = 1;
        assert!(!report.is_clean());
    }
}
