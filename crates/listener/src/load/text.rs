//! The report for people: a line for each thing, its name in front.

use std::{
    collections::BTreeMap,
    fmt::{self, Display, Formatter},
};

use sse_cli::terminal::visible;

use super::{
    loss::{Loss, OfConnection, Run},
    report::{Percentiles, Report},
    sequence_tracker::LostCounts,
};

/// EventTypeCounts, publishers and connections with trouble that are shown; the JSON report has more.
const SHOWN_MAX: usize = 10;

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.connections(f)?;
        self.times(f)?;
        self.events(f)?;
        self.loss.fmt(f)?;
        self.hints.iter().try_for_each(|hint| line(f, "hint", hint))
    }
}

impl Report {
    fn connections(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let settled = if self.settled_s > 0.0 {
            format!(", and {:.1} s for those behind", self.settled_s)
        } else {
            String::new()
        };
        line(
            f,
            "time",
            format_args!(
                "{:.1} s{settled}; ended by: {}",
                self.elapsed_s, self.ended_by
            ),
        )?;
        let all = &self.connections;
        let (wanted, opened, at_end) = (all.wanted.into(), all.opened, all.streaming_at_the_end);
        let ratio = format_args!(
            "{} of {} ({})",
            N(opened),
            N(wanted),
            Percent(opened, wanted)
        );
        line(
            f,
            "connections",
            format_args!("{ratio} opened; {} streaming at the end", N(at_end)),
        )?;
        let c = &self.connects;
        let (failed, refused, unfinished) =
            (N(c.failed_total), N(c.refused_total), N(c.unfinished));
        line(
            f,
            "connects",
            format_args!(
                "{} asked: {} opened, {failed} failed, {refused} refused, {unfinished} unfinished",
                N(c.asked),
                N(c.opened)
            ),
        )?;
        kinds(f, "failed", &c.failed)?;
        for refused in &c.refused {
            let message = if refused.message.is_empty() {
                String::new()
            } else {
                format!(": {}", visible(&refused.message))
            };
            line(
                f,
                "refused",
                format_args!(
                    "{} × {}{message}",
                    N(refused.count),
                    visible(&refused.response)
                ),
            )?;
        }
        if c.no_content > 0 {
            line(
                f,
                "ended",
                format_args!("{} × 204: the server has nothing more", N(c.no_content)),
            )?;
        }
        let e = &self.ends;
        if e.cut_by_us + e.by_server + e.broken_total == 0 {
            return Ok(());
        }
        let (cut, by_server, broken) = (N(e.cut_by_us), N(e.by_server), N(e.broken_total));
        line(
            f,
            "lost streams",
            format_args!("{cut} cut by us, {by_server} ended by the server, {broken} broken"),
        )?;
        kinds(f, "broken", &e.broken)?;
        let (with, without) = (N(c.resumed_with_id), N(c.reopened_without_id));
        line(
            f,
            "resumed",
            format_args!("{with} with their last event id, {without} without one"),
        )
    }

    fn times(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (name, times) in [
            ("first byte", &self.first_byte),
            ("open", &self.open),
            ("back after cut", &self.back_after_cut),
            ("back after end", &self.back_after_end),
            ("latency", &self.latency),
        ] {
            if times.count > 0 {
                line(f, name, times)?;
            }
        }
        if self.events_from_the_future > 0 {
            line(
                f,
                "latency",
                format_args!(
                    "{} events with a time that is yet to come",
                    N(self.events_from_the_future)
                ),
            )?;
        }
        Ok(())
    }

    fn events(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let rate = self
            .events
            .per_second
            .map(|rate| format!(", {rate:.0}/s"))
            .unwrap_or_default();
        line(f, "events", format_args!("{}{rate}", N(self.events.total)))?;
        let mut types: Vec<_> = self.events.by_type.iter().collect();
        types.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for (kind, count) in types.iter().take(SHOWN_MAX) {
            line(
                f,
                "type",
                format_args!("{} × {}", N(**count), visible(kind)),
            )?;
        }
        let rest = types
            .iter()
            .skip(SHOWN_MAX)
            .map(|(_, count)| **count)
            .sum::<u64>()
            + self.events.of_other_types;
        if rest > 0 {
            line(f, "type", format_args!("{} × other types", N(rest)))?;
        }
        let wire_rate = self
            .bytes
            .wire_per_second
            .map(|rate| format!(", {:.1} MB/s", rate / 1e6))
            .unwrap_or_default();
        let (wire, data) = (Megabytes(self.bytes.wire), Megabytes(self.bytes.data));
        line(
            f,
            "bytes",
            format_args!("{wire} on the wire{wire_rate}; {data} of event data"),
        )?;
        if self.comments > 0 {
            line(f, "comments", N(self.comments))?;
        }
        self.gaps.iter().try_for_each(|(reason, count)| {
            line(f, "gaps", format_args!("{} × {reason}", N(*count)))
        })
    }
}

impl Display for Loss {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(why) = self.why_not {
            return line(f, "loss", format_args!("not judged: {why}"));
        }
        if self.publishers.is_empty() {
            return line(f, "loss", "not judged: no numbered events came");
        }
        for one in self.publishers.iter().take(SHOWN_MAX) {
            let target = one
                .target
                .map(|target| format!(" up to {}", N(target)))
                .unwrap_or_default();
            let (clean, all) = (N(one.clean_connections), N(one.connections));
            let name = visible(&one.publisher);
            line(
                f,
                "publisher",
                format_args!(
                    "{name}{target}: whole, once and in order on {clean} of {all} connections"
                ),
            )?;
        }
        let more = self.publishers.len().saturating_sub(SHOWN_MAX) as u64;
        if more > 0 {
            line(
                f,
                "publisher",
                format_args!("{} more, not listed here but counted below", N(more)),
            )?;
        }
        let t = &self.totals;
        line(f, "lost", LostText(&t.lost))?;
        line(f, "twice", N(t.twice))?;
        line(f, "out of order", N(t.out_of_order))?;
        for (count, what) in [
            (
                t.unjudged,
                "events came too late to tell whether they had come before",
            ),
            (
                self.events_of_further_publishers,
                "events of still more publishers were not judged",
            ),
        ] {
            if count > 0 {
                line(f, "also", format_args!("{} {what}", N(count)))?;
            }
        }
        for one in self.connections.iter().take(SHOWN_MAX) {
            line(f, "trouble", one)?;
        }
        let more =
            self.connections.len().saturating_sub(SHOWN_MAX) as u64 + self.connections_unlisted;
        if more > 0 {
            line(
                f,
                "trouble",
                format_args!("{} more connections, not listed here", N(more)),
            )
        } else {
            Ok(())
        }
    }
}

impl Display for OfConnection {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "connection {} of {}:",
            self.connection,
            visible(&self.publisher)
        )?;
        if self.lost.total > 0 {
            write!(
                f,
                " lost {} ({})",
                N(self.lost.total),
                Runs(&self.lost_ranges, self.lost_ranges_unlisted)
            )?;
        }
        if self.twice > 0 {
            write!(
                f,
                " twice {} ({})",
                N(self.twice),
                Runs(&self.twice_ranges, 0)
            )?;
        }
        if self.out_of_order > 0 {
            write!(f, " out of order {}", N(self.out_of_order))?;
        }
        Ok(())
    }
}

struct LostText<'a>(&'a LostCounts);

impl Display for LostText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let LostCounts {
            total,
            announced,
            across_reconnect,
            while_open,
        } = self.0;
        write!(f, "{}", N(*total))?;
        if *total > 0 {
            let (announced, across, open) = (N(*announced), N(*across_reconnect), N(*while_open));
            write!(
                f,
                ": {across} across a reconnection, {open} while the stream was open, {announced} where the server told a gap"
            )?;
        }
        Ok(())
    }
}

struct Runs<'a>(&'a [Run], u64);

impl Display for Runs<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(runs, unlisted) = self;
        for (nth, Run { first, last, .. }) in runs.iter().take(SHOWN_MAX).enumerate() {
            let comma = if nth == 0 { "" } else { ", " };
            if first == last {
                write!(f, "{comma}{first}")?
            } else {
                write!(f, "{comma}{first}-{last}")?
            }
        }
        let more = runs.len().saturating_sub(SHOWN_MAX) as u64 + unlisted;
        if more > 0 {
            write!(f, ", {more} more runs")
        } else {
            Ok(())
        }
    }
}

impl Display for Percentiles {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let times = [
            ("p50", self.p50_us),
            (", p90", self.p90_us),
            (", p99", self.p99_us),
            (", p99.9", self.p99_9_us),
            (", max", self.max_us),
        ];
        times
            .iter()
            .try_for_each(|(name, us)| write!(f, "{name} {}", Time(*us)))
    }
}

fn line(f: &mut Formatter<'_>, name: &str, what: impl Display) -> fmt::Result {
    writeln!(f, "{name:<14}  {what}")
}

fn kinds(f: &mut Formatter<'_>, name: &str, kinds: &BTreeMap<&str, u64>) -> fmt::Result {
    kinds
        .iter()
        .try_for_each(|(kind, count)| line(f, name, format_args!("{} × {kind}", N(*count))))
}

/// A number in groups of three digits.
struct N(u64);

impl Display for N {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (nth, digit) in digits.chars().enumerate() {
            if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
                f.write_str("\u{202f}")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

struct Percent(u64, u64);

impl Display for Percent {
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1}%", self.0 as f64 * 100.0 / self.1.max(1) as f64)
    }
}

struct Megabytes(u64);

impl Display for Megabytes {
    #[expect(clippy::cast_precision_loss, reason = "a size for people")]
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} MB", self.0 as f64 / 1e6)
    }
}

/// Microseconds, in the unit that suits.
struct Time(u64);

impl Display for Time {
    #[expect(clippy::cast_precision_loss, reason = "a time for people")]
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            us @ 0..=999 => write!(f, "{us} µs"),
            us @ 1_000..=999_999 => write!(f, "{:.2} ms", us as f64 / 1e3),
            us => write!(f, "{:.2} s", us as f64 / 1e6),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_times_have_their_unit() {
        let n = |number| N(number).to_string().replace('\u{202f}', " ");
        assert_eq!(
            [0, 999, 1_000, 1_234_567].map(n),
            ["0", "999", "1 000", "1 234 567"]
        );
        assert_eq!(
            [7, 1_500, 2_500_000].map(|us| Time(us).to_string()),
            ["7 µs", "1.50 ms", "2.50 s"]
        );
        assert_eq!(Percent(1, 3).to_string(), "33.3%");
    }

    #[test]
    fn runs_are_short_and_say_what_is_left_out() {
        let runs: Vec<_> = (0..12)
            .map(|n| Run {
                first: 10 * n,
                last: 10 * n + n % 2,
                circumstance: None,
            })
            .collect();
        assert_eq!(
            Runs(&runs, 3).to_string(),
            "0, 10-11, 20, 30-31, 40, 50-51, 60, 70-71, 80, 90-91, 5 more runs"
        );
    }
}
