//! The report for people: one line per thing, with the name of the thing first.

mod loss;
mod units;

use std::{
    cmp::Reverse,
    fmt::{self, Display, Formatter},
};

use sse_cli::terminal::visible;

use self::units::{Grouped, Megabytes, Percent, write_count, write_kinds, write_line};
use super::report::{Bytes, Connects, Ends, Events, Rejected, Report};

/// Limit of listed items; the JSON report lists more.
const SHOWN_MAX: usize = 10;

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.write_time(f)?;
        self.write_connections(f)?;
        self.connects.fmt(f)?;
        self.ends.fmt(f)?;
        self.write_resumptions(f)?;
        self.write_durations(f)?;
        let from_the_future = self.events_from_the_future;
        let what = "events with a stamp in the future";
        write_count(f, "latency", from_the_future, what)?;
        self.events.fmt(f)?;
        self.bytes.fmt(f)?;
        self.write_comments_and_gaps(f)?;
        self.loss.fmt(f)?;
        self.hints
            .iter()
            .try_for_each(|hint| write_line(f, "hint", hint))
    }
}

impl Report {
    fn write_time(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let settled = if self.settled_s > 0.0 {
            format!(", and {:.1} s to catch up", self.settled_s)
        } else {
            String::new()
        };
        let (elapsed, ended_by) = (self.elapsed_s, self.ended_by);
        let time = format_args!("{elapsed:.1} s{settled}; ended by: {ended_by}");
        write_line(f, "time", time)
    }

    fn write_connections(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let all = &self.connections;
        let (opened, wanted) = (Grouped(all.opened), Grouped(all.wanted.into()));
        let percent = Percent(all.opened, all.wanted.into());
        let at_end = Grouped(all.streaming_at_the_end);
        let text =
            format_args!("{opened} of {wanted} ({percent}) opened; {at_end} streaming at the end");
        write_line(f, "connections", text)
    }

    fn write_resumptions(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.ends.total() == 0 {
            return Ok(());
        }
        let with = Grouped(self.connects.resumed_with_id);
        let without = Grouped(self.connects.reopened_without_id);
        let text = format_args!("{with} with their last event id, {without} without one");
        write_line(f, "resumed", text)
    }

    fn write_durations(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (name, durations) in [
            ("first byte", &self.first_byte),
            ("open", &self.open),
            ("back after cut", &self.back_after_cut),
            ("back after end", &self.back_after_end),
            ("latency", &self.latency),
        ] {
            if durations.count > 0 {
                write_line(f, name, durations)?;
            }
        }
        Ok(())
    }

    fn write_comments_and_gaps(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.comments > 0 {
            write_line(f, "comments", Grouped(self.comments))?;
        }
        write_kinds(f, "gaps", &self.gaps)
    }
}

impl Display for Connects {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (asked, opened) = (Grouped(self.asked), Grouped(self.opened));
        let (failed, rejected) = (Grouped(self.failed_total), Grouped(self.rejected_total));
        let unfinished = Grouped(self.unfinished);
        let text = format_args!(
            "{asked} tried: {opened} opened, {failed} failed, {rejected} rejected, {unfinished} unfinished"
        );
        write_line(f, "connects", text)?;
        write_kinds(f, "failed", &self.failed)?;
        self.rejected
            .iter()
            .try_for_each(|rejected| write_line(f, "rejected", rejected))?;
        let what = "× 204: the stream has ended for good";
        write_count(f, "ended", self.no_content, what)
    }
}

impl Display for Rejected {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} × {}", Grouped(self.count), visible(&self.response))?;
        match self.message.as_str() {
            "" => Ok(()),
            message => write!(f, ": {}", visible(message)),
        }
    }
}

impl Display for Ends {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.total() == 0 {
            return Ok(());
        }
        let (cut, by_server) = (Grouped(self.cut_by_us), Grouped(self.by_server));
        let broken = Grouped(self.broken_total);
        let text =
            format_args!("{cut} cut by us, {by_server} ended by the server, {broken} broken");
        write_line(f, "lost streams", text)?;
        write_kinds(f, "broken", &self.broken)
    }
}

impl Display for Events {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let rate = self
            .per_second
            .map(|rate| format!(", {rate:.0}/s"))
            .unwrap_or_default();
        let total = Grouped(self.total);
        write_line(f, "events", format_args!("{total}{rate}"))?;
        self.write_types(f)
    }
}

impl Events {
    fn write_types(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut types: Vec<_> = self.by_type.iter().collect();
        types.sort_by_key(|(_, count)| Reverse(**count));
        let listed = types.len().min(SHOWN_MAX);
        for (kind, count) in &types[..listed] {
            let count = Grouped(**count);
            write_line(f, "type", format_args!("{count} × {}", visible(kind)))?;
        }
        let unlisted: u64 = types[listed..].iter().map(|(_, count)| **count).sum();
        let others = unlisted + self.of_other_types;
        write_count(f, "type", others, "× other types")
    }
}

impl Display for Bytes {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let rate = self
            .wire_per_second
            .map(|rate| format!(", {:.1} MB/s", rate / 1e6))
            .unwrap_or_default();
        let (wire, data) = (Megabytes(self.wire), Megabytes(self.data));
        let text = format_args!("{wire} on the wire{rate}; {data} of event data");
        write_line(f, "bytes", text)
    }
}
