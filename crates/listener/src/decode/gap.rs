//! A `gap` event, by which our server says that events may be missing, and how it is told to people.

use sse_proto::api::{Gap, GapReason};

use crate::decode::decoder::Event;

/// The gap that an event tells; none if it is an ordinary event, even one of the type `gap` of another server.
#[must_use]
pub fn parse_gap(event: &Event) -> Option<Gap> {
    if event.kind == "gap" && event.data.trim_start().starts_with('{') {
        serde_json::from_str(&event.data).ok()
    } else {
        None
    }
}

/// What was lost or may be missing, why, and where it goes on.
#[must_use]
pub fn describe_gap(gap: &Gap) -> String {
    if let Some(lost) = gap.lost {
        return format!(
            "gap: the server has lost events of channel {}, between {} and {}, by a fail-over or an older copy of its log; \
             going on with what came instead",
            gap.channel, lost.after, lost.before
        );
    }
    let after = if gap.after.is_empty() {
        String::new()
    } else {
        format!(" after {}", gap.after)
    };
    let why = match gap.reason {
        GapReason::Trimmed => "the server's history does not go back that far",
        GapReason::Unknown => {
            "the server does not know that position: its log is new, or the id is another server's"
        }
        GapReason::LostTail => {
            "the server itself lost events, by a fail-over or an older copy of its log"
        }
        GapReason::Damaged => "the server's log is damaged there",
    };
    let on = match gap.oldest {
        Some(oldest) => format!("going on with {oldest}, the oldest that is kept"),
        None => "nothing is kept, going on with what comes next".to_owned(),
    };
    format!(
        "gap: events of channel {}{after} may be missing, because {why}; {on}",
        gap.channel
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, data: &str) -> Event {
        Event {
            id: String::new(),
            kind: kind.to_owned(),
            data: data.to_owned(),
            end: 0,
        }
    }

    #[test]
    fn only_our_own_gap_is_one() {
        let data = r#"{"channel":"sse","after":"1-0","oldest":"5-0","reason":"trimmed"}"#;
        assert!(parse_gap(&event("gap", data)).is_some());
        assert!(parse_gap(&event("click", data)).is_none());
        for other in [
            "",
            "5 mm",
            "{}",
            r#"["sse","1-0","5-0","trimmed"]"#,
            r#"{"channel":"a b"}"#,
        ] {
            assert!(parse_gap(&event("gap", other)).is_none(), "{other:?}");
        }
    }

    #[test]
    fn a_sentence_says_what_and_why_and_where_it_goes_on() {
        let gap = |data| describe_gap(&parse_gap(&event("gap", data)).unwrap());
        assert_eq!(
            gap(r#"{"channel":"orders","after":"1-0","oldest":"5-0","reason":"trimmed"}"#),
            "gap: events of channel orders after 1-0 may be missing, because the server's history does not go back \
             that far; going on with 5-0, the oldest that is kept"
        );
        let damaged = gap(r#"{"channel":"sse","after":"1-0","oldest":"5-0","reason":"damaged"}"#);
        assert!(
            damaged.contains("after 1-0 may be missing, because the server's log is damaged there"),
            "{damaged}"
        );
        assert_eq!(
            gap(
                r#"{"channel":"orders","after":"1-0","oldest":"5-0","reason":"lost-tail","lost":{"after":"1-0","before":"5-0"}}"#
            ),
            "gap: the server has lost events of channel orders, between 1-0 and 5-0, by a fail-over or an older copy of its \
             log; going on with what came instead"
        );
        let nothing_kept =
            gap(r#"{"channel":"sse","after":"","oldest":null,"reason":"lost-tail"}"#);
        assert!(
            nothing_kept.starts_with("gap: events of channel sse may be missing"),
            "{nothing_kept}"
        );
        assert!(
            nothing_kept.ends_with("nothing is kept, going on with what comes next"),
            "{nothing_kept}"
        );
    }
}
