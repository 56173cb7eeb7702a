//! Which names a list examines: those that a pattern of the caller can match.
//!
//! A request examines a limited number of channels. If others counted too, the end of a page would
//! show how many of them exist, and where.
//!
//! ```text
//! patterns  public.*   users.42   users.*.status
//! ranges    public.…   users.…                     users.42 lies in users.…
//! ```
//!
//! Only in a range such as `users.…` there can be channels that the caller may not see.

use sse_proto::{Channel, pattern::Pattern};

/// Names that begin with a text, or one name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NameRange {
    /// What the names begin with. It is the whole name if there is only one.
    pub(super) start: String,
    pub(super) is_one_name: bool,
}

impl NameRange {
    /// Returns the ranges of the names that begin with `prefix` and that one of `patterns` can match,
    /// in the order of the names. No name is in two of them.
    pub(super) fn of_patterns(patterns: &[Pattern], prefix: &str) -> Vec<Self> {
        let ranges = patterns.iter();
        let mut ranges: Vec<Self> = ranges
            .filter_map(|pattern| Self::of_pattern(pattern, prefix))
            .collect();
        ranges.sort_unstable();
        ranges.dedup_by(|range, before| before.contains(&range.start));
        ranges
    }

    fn of_pattern(pattern: &Pattern, prefix: &str) -> Option<Self> {
        let (start, is_one_name) = match pattern.as_str().split_once('*') {
            Some((start, _)) => (start, false),
            None => (pattern.as_str(), true),
        };
        if start.starts_with(prefix) {
            let start = start.to_owned();
            return Some(Self { start, is_one_name });
        }
        let is_within = !is_one_name && prefix.starts_with(start);
        is_within.then(|| Self {
            start: prefix.to_owned(),
            is_one_name,
        })
    }

    fn contains(&self, name: &str) -> bool {
        if self.is_one_name {
            name == self.start
        } else {
            name.starts_with(&self.start)
        }
    }

    /// Whether all names of the range are before a page that begins after `after`.
    pub(super) fn is_before(&self, after: &Channel) -> bool {
        let after = after.as_str();
        after >= self.start.as_str() && (self.is_one_name || !self.contains(after))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ranges(patterns: &[&str], prefix: &str) -> Vec<String> {
        let patterns: Vec<Pattern> = patterns.iter().map(|text| text.parse().unwrap()).collect();
        let ranges = NameRange::of_patterns(&patterns, prefix).into_iter();
        let text = |range: NameRange| {
            let end = if range.is_one_name { "" } else { "…" };
            format!("{}{end}", range.start)
        };
        ranges.map(text).collect()
    }

    #[test]
    fn ranges_are_what_the_patterns_can_match() {
        for (patterns, prefix, expected) in [
            (&["*"][..], "", &["…"][..]),
            (&["*"], "a", &["a…"]),
            (&["*.b", "a.*"], "", &["…"]),
            (&["z.*", "a.*", "a.b.*", "a.1"], "", &["a.…", "z.…"]),
            (&["a", "a.*", "a"], "", &["a", "a.…"]),
            (&["ab", "a*", "a"], "", &["a…"]),
            (&["a.*", "b"], "a.x", &["a.x…"]),
            (&["a.*", "b"], "secret", &[]),
            (&["users.42"], "users.", &["users.42"]),
            (&["users.42"], "users.42.", &[]),
            (&[], "", &[]),
        ] {
            assert_eq!(ranges(patterns, prefix), expected, "{patterns:?} {prefix}");
        }
    }

    #[test]
    fn a_page_leaves_out_the_ranges_before_it() {
        let range = |start: &str, is_one_name| NameRange {
            start: start.to_owned(),
            is_one_name,
        };
        for (range, after, expected) in [
            (range("b.", false), "a", false),
            (range("b.", false), "b.", false),
            (range("b.", false), "b.1", false),
            (range("b.", false), "b1", true),
            (range("b.", false), "c", true),
            (range("", false), "c", false),
            (range("b", true), "a", false),
            (range("b", true), "b", true),
            (range("b", true), "b.1", true),
        ] {
            let after: Channel = after.parse().unwrap();
            assert_eq!(range.is_before(&after), expected, "{range:?} {after}");
        }
    }

    proptest! {
        #[test]
        fn each_name_that_a_pattern_matches_is_in_one_range(
            patterns in prop::collection::vec("[ab.*]{1,4}", 0..5), prefix in "[ab.]{0,2}",
            name in "[ab.]{1,5}",
        ) {
            let patterns: Vec<Pattern> = patterns.iter().map(|text| text.parse().unwrap()).collect();
            let channel: Channel = name.parse().unwrap();
            let ranges = NameRange::of_patterns(&patterns, &prefix);
            let found = ranges.iter().filter(|range| range.contains(&name)).count();
            let is_matched = patterns.iter().any(|pattern| pattern.matches(&channel));
            prop_assert!(found <= 1);
            prop_assert!(found == 1 || !is_matched || !name.starts_with(&prefix));
            prop_assert!(ranges.is_sorted());
        }
    }
}
