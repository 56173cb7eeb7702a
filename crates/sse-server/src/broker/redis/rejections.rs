//! The one table of error replies: whether Redis stored anything, and what the node does.
//!
//! `docs/operations/redis.md` has the same table for operators, and a test compares the two. A code
//! that is not in the table means that nothing was stored.

/// What an error reply means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meaning {
    pub(super) response: Response,
    pub(super) reaction: Reaction,
}

/// The response to a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Response {
    /// 503 `broker_unavailable`: nothing was stored.
    Unavailable,
    /// 507 `log_full`: nothing was stored.
    Full,
    /// 503 `outcome_unknown`: the events may be stored.
    Unknown,
}

/// What the node does besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reaction {
    /// Nothing: the next command may succeed.
    None,
    /// Gives up the connection, because this Redis is no primary now. With sentinels, a publish is
    /// sent to the new primary, until `--redis-timeout` has passed.
    FindPrimary,
    /// In a Redis Cluster, sends the command where the reply points, or again after a pause, until
    /// `--redis-timeout` has passed.
    Follow,
    /// Checks the connection, and reconnects if the check fails.
    Check,
}

const fn row(code: &str, response: Response, reaction: Reaction) -> (&str, Meaning) {
    (code, Meaning { response, reaction })
}

/// Every error reply that this server knows.
const TABLE: [(&str, Meaning); 16] = {
    use Reaction::{Check, FindPrimary, Follow, None};
    use Response::{Full, Unavailable, Unknown};
    [
        row("MOVED", Unavailable, Follow),
        row("ASK", Unavailable, Follow),
        row("TRYAGAIN", Unavailable, Follow),
        row("CLUSTERDOWN", Unavailable, Follow),
        row("MASTERDOWN", Unavailable, FindPrimary),
        row("READONLY", Unavailable, FindPrimary),
        row("LOADING", Unavailable, FindPrimary),
        row("NOREPLICAS", Unavailable, Check),
        row("BUSY", Unavailable, None),
        row("OOM", Full, None),
        row("MISCONF", Unavailable, None),
        row("NOAUTH", Unavailable, Check),
        row("NOPERM", Unavailable, None),
        row("WRONGPASS", Unavailable, Check),
        row("EXECABORT", Unavailable, None),
        row("UNBLOCKED", Unknown, Check),
    ]
};

/// Returns what the error reply with this code means.
pub(super) fn meaning_of(code: &str) -> Meaning {
    let row = TABLE.iter().find(|(known, _)| *known == code);
    row.map_or(
        Meaning {
            response: Response::Unavailable,
            reaction: Reaction::None,
        },
        |(_, meaning)| *meaning,
    )
}

/// Returns what to do about a reply with this code, if that is not obvious.
pub(super) fn advice(code: &str) -> &'static str {
    match code {
        "MOVED" | "ASK" => "; if --redis-url names one Redis, write redis+cluster://",
        "CLUSTERDOWN" => "; no node of the Redis Cluster serves this channel",
        "NOPERM" => "; docs/operations/redis.md has the commands that the user needs",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_docs_have_the_same_table() {
        let page = include_str!("../../../../../docs/operations/redis.md");
        for (code, meaning) in TABLE {
            let line = page
                .lines()
                .find(|line| line.starts_with(&format!("| `{code}`")));
            let line = line.unwrap_or_else(|| panic!("docs/operations/redis.md lacks {code}"));
            let (stored, response) = match meaning.response {
                Response::Unavailable => ("| no |", "503 `broker_unavailable`"),
                Response::Full => ("| no |", "507 `log_full`"),
                Response::Unknown => ("| unknown |", "503 `outcome_unknown`"),
            };
            assert!(line.contains(stored) && line.contains(response), "{line}");
            let is_retried = matches!(meaning.reaction, Reaction::FindPrimary | Reaction::Follow);
            assert_eq!(
                line.contains("until `--redis-timeout`"),
                is_retried,
                "{line}"
            );
        }
    }

    #[test]
    fn an_unknown_code_means_that_nothing_was_stored() {
        assert_eq!(meaning_of("WRONGTYPE").response, Response::Unavailable);
        assert_eq!(meaning_of("OOM").response, Response::Full);
        assert!(advice("MOVED").contains("cluster") && advice("OOM").is_empty());
    }
}
