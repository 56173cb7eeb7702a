//! Lines, numbers and units of the report for people.

use std::{
    collections::BTreeMap,
    fmt::{self, Display, Formatter},
};

use crate::load::report::Percentiles;

/// Writes a line of the report, with its name in a column.
pub(super) fn write_line(f: &mut Formatter<'_>, name: &str, text: impl Display) -> fmt::Result {
    writeln!(f, "{name:<14}  {text}")
}

/// Writes a line with a count and what is counted, unless the count is 0.
pub(super) fn write_count(
    f: &mut Formatter<'_>,
    name: &str,
    count: u64,
    what: &str,
) -> fmt::Result {
    if count == 0 {
        return Ok(());
    }
    write_line(f, name, format_args!("{} {what}", Grouped(count)))
}

/// Writes a line per kind, with its count.
pub(super) fn write_kinds(
    f: &mut Formatter<'_>,
    name: &str,
    kinds: &BTreeMap<&str, u64>,
) -> fmt::Result {
    kinds.iter().try_for_each(|(kind, count)| {
        write_line(f, name, format_args!("{} × {kind}", Grouped(*count)))
    })
}

impl Display for Percentiles {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let durations = [
            ("p50", self.p50_us),
            (", p90", self.p90_us),
            (", p99", self.p99_us),
            (", p99.9", self.p99_9_us),
            (", max", self.max_us),
        ];
        durations
            .iter()
            .try_for_each(|(name, us)| write!(f, "{name} {}", Microseconds(*us)))
    }
}

/// A number in groups of three digits.
pub(super) struct Grouped(pub(super) u64);

impl Display for Grouped {
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

/// The first number as a percentage of the second.
pub(super) struct Percent(pub(super) u64, pub(super) u64);

impl Display for Percent {
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1}%", self.0 as f64 * 100.0 / self.1.max(1) as f64)
    }
}

/// Bytes, shown in megabytes.
pub(super) struct Megabytes(pub(super) u64);

impl Display for Megabytes {
    #[expect(clippy::cast_precision_loss, reason = "a size for people")]
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} MB", self.0 as f64 / 1e6)
    }
}

/// Microseconds, shown in a suitable unit.
struct Microseconds(u64);

impl Display for Microseconds {
    #[expect(clippy::cast_precision_loss, reason = "a duration for people")]
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
    fn numbers_are_grouped_and_durations_have_a_unit() {
        let grouped = |number| Grouped(number).to_string().replace('\u{202f}', " ");
        assert_eq!(
            [0, 999, 1_000, 1_234_567].map(grouped),
            ["0", "999", "1 000", "1 234 567"]
        );
        assert_eq!(
            [7, 1_500, 2_500_000].map(|us| Microseconds(us).to_string()),
            ["7 µs", "1.50 ms", "2.50 s"]
        );
        assert_eq!(Percent(1, 3).to_string(), "33.3%");
    }
}
