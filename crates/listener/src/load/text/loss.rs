//! The lines about lost, repeated and late events.

use std::fmt::{self, Display, Formatter};

use sse_cli::terminal::visible;

use super::{
    SHOWN_MAX,
    units::{Grouped, write_count, write_line},
};
use crate::load::{
    loss::{ConnectionLoss, LossReport, NumberRange, PublisherLoss},
    sequence_tracker::LostCounts,
};

impl Display for LossReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(why) = self.why_not_judged() {
            return write_line(f, "loss", format_args!("not judged: {why}"));
        }
        self.write_publishers(f)?;
        self.write_totals(f)?;
        self.write_connections(f)
    }
}

impl LossReport {
    fn why_not_judged(&self) -> Option<&'static str> {
        let is_empty = self.publishers.is_empty();
        let nothing_received = is_empty.then_some("no numbered events were received");
        self.why_not.or(nothing_received)
    }

    fn write_publishers(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for publisher in self.publishers.iter().take(SHOWN_MAX) {
            write_line(f, "publisher", publisher)?;
        }
        let unlisted = self.publishers.len().saturating_sub(SHOWN_MAX) as u64;
        let what = "more, not listed here but counted below";
        write_count(f, "publisher", unlisted, what)
    }

    fn write_totals(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let totals = &self.totals;
        write_line(f, "lost", LostText(&totals.lost))?;
        write_line(f, "twice", Grouped(totals.twice))?;
        write_line(f, "out of order", Grouped(totals.out_of_order))?;
        let what = "events came too late to know whether they are repeated";
        write_count(f, "also", totals.unjudged, what)?;
        let what = "events of further publishers were not judged";
        write_count(f, "also", self.events_of_further_publishers, what)
    }

    fn write_connections(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for connection in self.connections.iter().take(SHOWN_MAX) {
            write_line(f, "affected", connection)?;
        }
        let unlisted = self.connections.len().saturating_sub(SHOWN_MAX) as u64;
        let unlisted = unlisted + self.connections_unlisted;
        write_count(f, "affected", unlisted, "more connections, not listed here")
    }
}

impl Display for PublisherLoss {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = visible(&self.publisher);
        let target = self
            .target
            .map(|target| format!(" up to {}", Grouped(target)))
            .unwrap_or_default();
        let (clean, all) = (Grouped(self.clean_connections), Grouped(self.connections));
        write!(
            f,
            "{name}{target}: whole, once and in order on {clean} of {all} connections"
        )
    }
}

impl Display for ConnectionLoss {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (connection, publisher) = (self.connection, visible(&self.publisher));
        write!(f, "connection {connection} of {publisher}:")?;
        let lost_ranges = RangeList(&self.lost_ranges, self.lost_ranges_unlisted);
        write_ranges(f, "lost", self.lost.total, &lost_ranges)?;
        write_ranges(f, "twice", self.twice, &RangeList(&self.twice_ranges, 0))?;
        if self.out_of_order > 0 {
            write!(f, " out of order {}", Grouped(self.out_of_order))?;
        }
        Ok(())
    }
}

fn write_ranges(
    f: &mut Formatter<'_>,
    what: &str,
    count: u64,
    ranges: &RangeList<'_>,
) -> fmt::Result {
    if count == 0 {
        return Ok(());
    }
    write!(f, " {what} {} ({ranges})", Grouped(count))
}

struct LostText<'a>(&'a LostCounts);

impl Display for LostText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let LostCounts {
            total,
            announced,
            across_reconnect,
            while_open,
        } = *self.0;
        Grouped(total).fmt(f)?;
        if total == 0 {
            return Ok(());
        }
        write!(
            f,
            ": {} across a reconnection, {} while the stream was open, {} in an announced gap",
            Grouped(across_reconnect),
            Grouped(while_open),
            Grouped(announced)
        )
    }
}

impl Display for NumberRange {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { first, last, .. } = self;
        if first == last {
            write!(f, "{first}")
        } else {
            write!(f, "{first}-{last}")
        }
    }
}

/// The first ranges, and the number of further ones that are not in the list.
struct RangeList<'a>(&'a [NumberRange], u64);

impl Display for RangeList<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(ranges, unlisted) = self;
        for (nth, range) in ranges.iter().take(SHOWN_MAX).enumerate() {
            let comma = if nth == 0 { "" } else { ", " };
            write!(f, "{comma}{range}")?;
        }
        match ranges.len().saturating_sub(SHOWN_MAX) as u64 + unlisted {
            0 => Ok(()),
            more => write!(f, ", {more} more ranges"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_ranges_is_short_and_counts_the_rest() {
        let ranges: Vec<_> = (0..12)
            .map(|n| NumberRange {
                first: 10 * n,
                last: 10 * n + n % 2,
                circumstance: None,
            })
            .collect();
        assert_eq!(
            RangeList(&ranges, 3).to_string(),
            "0, 10-11, 20, 30-31, 40, 50-51, 60, 70-71, 80, 90-91, 5 more ranges"
        );
    }

    #[test]
    fn lost_events_are_listed_by_circumstance() {
        let lost = LostCounts {
            total: 6,
            announced: 1,
            across_reconnect: 2,
            while_open: 3,
        };
        assert_eq!(
            LostText(&lost).to_string(),
            "6: 2 across a reconnection, 3 while the stream was open, 1 in an announced gap"
        );
        assert_eq!(LostText(&LostCounts::default()).to_string(), "0");
    }
}
