//! The `gap` event of sse-server, which reports missing events, and its description for people.

use sse_proto::api::{Gap, GapReason};

/// Parses the type and the data of a `gap` event.
///
/// Returns `None` if the event is of another type, or a `gap` of another server.
#[must_use]
pub fn parse_gap(kind: &[u8], data: &[u8]) -> Option<Gap> {
    if kind == b"gap" && data.trim_ascii_start().starts_with(b"{") {
        serde_json::from_slice(data).ok()
    } else {
        None
    }
}

/// Describes what was lost or may be missing, why, and where the stream continues.
#[must_use]
pub fn describe_gap(gap: &Gap) -> String {
    if let Some(lost) = gap.lost {
        return format!(
            "gap: the server lost events of channel {} between {} and {}, by a failover or by restoring an older log; \
             continuing with later events",
            gap.channel, lost.after, lost.before
        );
    }
    let after = if gap.after.is_empty() {
        String::new()
    } else {
        format!(" after {}", gap.after)
    };
    let continues = match gap.oldest {
        Some(oldest) => format!("continuing with {oldest}, the oldest event in its history"),
        None => "its history is empty, continuing with the next event".to_owned(),
    };
    format!(
        "gap: events of channel {}{after} may be missing, because {}; {continues}",
        gap.channel,
        describe_reason(gap.reason)
    )
}

/// The reason as a clause after "because".
const fn describe_reason(reason: GapReason) -> &'static str {
    match reason {
        GapReason::Trimmed => "the server's history does not go back that far",
        GapReason::Unknown => {
            "the server does not know that position: its log is new, or the id is of another server"
        }
        GapReason::LostTail => {
            "the server itself lost events, by a failover or by restoring an older log"
        }
        GapReason::Damaged => "the server's log is damaged there",
        GapReason::Deleted => "the channel was deleted meanwhile",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(kind: &str, data: &str) -> Option<Gap> {
        parse_gap(kind.as_bytes(), data.as_bytes())
    }

    #[test]
    fn only_a_gap_of_our_server_is_a_gap() {
        let data = r#"{"channel":"sse","after":"1-0","oldest":"5-0","reason":"trimmed"}"#;
        assert!(parse("gap", data).is_some());
        assert!(parse("click", data).is_none());
        for other in [
            "",
            "5 mm",
            "{}",
            r#"["sse","1-0","5-0","trimmed"]"#,
            r#"{"channel":"a b"}"#,
        ] {
            assert!(parse("gap", other).is_none(), "{other:?}");
        }
    }

    #[test]
    fn a_description_states_what_is_missing_and_why_and_where_the_stream_continues() {
        let gap = |data| describe_gap(&parse("gap", data).unwrap());
        assert_eq!(
            gap(r#"{"channel":"orders","after":"1-0","oldest":"5-0","reason":"trimmed"}"#),
            "gap: events of channel orders after 1-0 may be missing, because the server's history does not go back \
             that far; continuing with 5-0, the oldest event in its history"
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
            "gap: the server lost events of channel orders between 1-0 and 5-0, by a failover or by restoring an older \
             log; continuing with later events"
        );
        let nothing_kept =
            gap(r#"{"channel":"sse","after":"","oldest":null,"reason":"lost-tail"}"#);
        assert!(
            nothing_kept.starts_with("gap: events of channel sse may be missing"),
            "{nothing_kept}"
        );
        assert!(
            nothing_kept.ends_with("its history is empty, continuing with the next event"),
            "{nothing_kept}"
        );
    }
}
