//! Notices: what a stream reports about itself, to clients that ask for it with `notices=1`.
//!
//! A notice is an event of the reserved type `notice`. It is never in the log, and has neither an
//! id nor an envelope, so it does not change where a client resumes.

use serde::{Deserialize, Serialize};

/// The data of a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Notice {
    /// The stream has sent everything that was in the log, and continues live. Sent once.
    Live,
    /// The stream is about to end, and the server expects the client back.
    Stopping {
        /// Milliseconds until the client should reconnect.
        reconnect_in_ms: u64,
    },
    /// The right to read expires, and the stream ends then.
    Expires {
        /// Milliseconds until then.
        in_ms: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_a_notice_is_a_word() {
        for (notice, json) in [
            (Notice::Live, r#"{"kind":"live"}"#),
            (
                Notice::Stopping {
                    reconnect_in_ms: 3000,
                },
                r#"{"kind":"stopping","reconnect_in_ms":3000}"#,
            ),
            (
                Notice::Expires { in_ms: 60_000 },
                r#"{"kind":"expires","in_ms":60000}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&notice).unwrap(), json);
        }
    }
}
