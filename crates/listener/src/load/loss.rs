//! What the books of all connections come to.

use std::ops::Range;

use serde::Serialize;

use super::{
    engine::Finished,
    sequence_tracker::{Circumstance, Hole, LostCounts, Verdict},
};

/// Connections with trouble, for each publisher, that are listed one by one.
const CONNECTIONS_LISTED_MAX: usize = 100;
/// Runs of numbers that are listed for each.
const RANGES_LISTED_MAX: usize = 20;

/// What was lost, doubled or out of order, over all.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Loss {
    /// Numbers were judged, and if not, why not.
    pub(crate) judged: bool,
    pub(crate) why_not: Option<&'static str>,
    #[serde(flatten)]
    pub(crate) totals: Totals,
    pub(crate) publishers: Vec<OfPublisher>,
    /// Events of publishers beyond those that are told apart.
    pub(crate) events_of_further_publishers: u64,
    pub(crate) connections: Vec<OfConnection>,
    /// Pairs of connection and publisher with trouble that are not in `connections`.
    pub(crate) connections_unlisted: u64,
}

/// Sums.
#[derive(Debug, Default, Clone, Serialize)]
pub(crate) struct Totals {
    pub(crate) lost: LostCounts,
    pub(crate) twice: u64,
    pub(crate) out_of_order: u64,
    /// Events that came too late to tell whether they had come before.
    pub(crate) unjudged: u64,
}

/// One publisher on all connections.
#[derive(Debug, Serialize)]
pub(crate) struct OfPublisher {
    pub(crate) publisher: String,
    /// What each connection had to see: the highest number that any had seen when the time was up.
    pub(crate) target: Option<u64>,
    /// Connections that got its events, or were to get them: they were open before the first one was sent.
    pub(crate) connections: u64,
    /// Of these, those on which each event came once and in order.
    pub(crate) clean_connections: u64,
    #[serde(flatten)]
    pub(crate) totals: Totals,
}

/// One publisher on one connection with trouble.
#[derive(Debug, Serialize)]
pub(crate) struct OfConnection {
    /// Counted from 0.
    pub(crate) connection: usize,
    pub(crate) publisher: String,
    pub(crate) lost: LostCounts,
    pub(crate) lost_ranges: Vec<Run>,
    pub(crate) lost_ranges_unlisted: u64,
    pub(crate) twice: u64,
    pub(crate) twice_ranges: Vec<Run>,
    pub(crate) out_of_order: u64,
    pub(crate) unjudged: u64,
}

/// Numbers, both ends included.
#[derive(Debug, Serialize)]
pub(crate) struct Run {
    pub(crate) first: u64,
    pub(crate) last: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) circumstance: Option<Circumstance>,
}

impl Loss {
    /// Adds up the books.
    pub(crate) fn of(finished: &Finished, why_not: Option<&'static str>) -> Self {
        let publishers = &finished.collector.publishers;
        let mut loss = Self {
            judged: why_not.is_none(),
            why_not,
            events_of_further_publishers: publishers.unjudged_events,
            ..Self::default()
        };
        for nth in 0..publishers.list().len() {
            loss.add_publisher(finished, nth);
        }
        loss
    }

    /// Nothing was lost, doubled or out of order, as far as it was judged, and nothing was left unjudged.
    pub(crate) fn is_clean(&self) -> bool {
        self.judged && self.totals.is_clean() && self.events_of_further_publishers == 0
    }

    fn add_publisher(&mut self, finished: &Finished, nth: usize) {
        let publisher = &finished.collector.publishers.list()[nth];
        let rules = &finished.collector.rules;
        let mut of_publisher = OfPublisher {
            publisher: publisher.name.to_string(),
            target: publisher.target,
            connections: 0,
            clean_connections: 0,
            totals: Totals::default(),
        };
        for (number, connection) in finished.connections.iter().enumerate() {
            let enough = connection.received.has_enough(rules);
            // Whoever was closed because it had enough did not have to see what came after.
            let target = publisher.target.filter(|_| !enough);
            let received = &connection.received;
            if let Some(verdict) = received.sequences.assess(
                (nth, publisher),
                connection.first_opened,
                target,
                received.interruptions,
            ) {
                of_publisher.connections += 1;
                of_publisher.clean_connections += u64::from(verdict.is_clean());
                of_publisher.totals.add(&verdict);
                if !verdict.is_clean() {
                    self.list(number, &publisher.name, &verdict);
                }
            }
        }
        self.totals.add_all(&of_publisher.totals);
        self.publishers.push(of_publisher);
    }

    fn list(&mut self, connection: usize, publisher: &str, verdict: &Verdict) {
        if self.connections.len() == CONNECTIONS_LISTED_MAX {
            self.connections_unlisted += 1;
            // Those that only received events out of order make room for those that lost some.
            let minor = |listed: &OfConnection| listed.lost.total == 0 && listed.twice == 0;
            let is_minor = verdict.lost.total == 0 && verdict.twice == 0;
            match self
                .connections
                .iter()
                .rposition(minor)
                .filter(|_| !is_minor)
            {
                Some(at) => drop(self.connections.remove(at)),
                None => return,
            }
        }
        let listed = verdict.holes.len().min(RANGES_LISTED_MAX);
        self.connections.push(OfConnection {
            connection,
            publisher: publisher.to_owned(),
            lost: verdict.lost,
            lost_ranges: verdict.holes[..listed].iter().map(Run::of_hole).collect(),
            lost_ranges_unlisted: verdict.holes_unlisted + (verdict.holes.len() - listed) as u64,
            twice: verdict.twice,
            twice_ranges: verdict
                .twice_listed
                .iter()
                .map(|numbers| Run::of(numbers, None))
                .collect(),
            out_of_order: verdict.out_of_order,
            unjudged: verdict.unjudged,
        });
    }
}

impl Totals {
    fn add(&mut self, verdict: &Verdict) {
        self.lost.add_counts(&verdict.lost);
        self.twice += verdict.twice;
        self.out_of_order += verdict.out_of_order;
        self.unjudged += verdict.unjudged;
    }

    fn add_all(&mut self, other: &Self) {
        self.lost.add_counts(&other.lost);
        self.twice += other.twice;
        self.out_of_order += other.out_of_order;
        self.unjudged += other.unjudged;
    }

    /// Nothing is wrong.
    pub(crate) const fn is_clean(&self) -> bool {
        self.lost.total == 0 && self.twice == 0 && self.out_of_order == 0 && self.unjudged == 0
    }
}

impl Run {
    fn of(numbers: &Range<u64>, circumstance: Option<Circumstance>) -> Self {
        Self {
            first: numbers.start,
            last: numbers.end - 1,
            circumstance,
        }
    }

    fn of_hole(hole: &Hole) -> Self {
        Self::of(&hole.numbers, Some(hole.circumstance))
    }
}
