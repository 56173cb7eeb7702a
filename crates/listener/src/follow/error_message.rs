//! What a server says in the body of an answer that is not a stream.
//!
//! The body is read no further and no longer than a message can be; what is shown of it is one plain line.

use std::time::Duration;

use reqwest::Response;
use sse_proto::api::ErrorBody;

/// A message is not longer than this.
const BODY_BYTES_MAX: usize = 16 << 10;
/// And does not take longer than this: the body may be a stream without an end.
const BODY_TIME_MAX: Duration = Duration::from_secs(2);
/// Characters shown of a text that is not our JSON.
const SHOWN_CHARACTERS_MAX: usize = 200;

/// Reads the server's message; empty if there is none.
pub(crate) async fn read(mut response: Response) -> String {
    let mut body = Vec::new();
    let reading = async {
        while body.len() < BODY_BYTES_MAX {
            match response.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                // A broken body is shown as far as it came: its status is what counts.
                Ok(None) | Err(_) => break,
            }
        }
    };
    // Whether it ended or took too long, what came is in `body`.
    let _ = tokio::time::timeout(BODY_TIME_MAX, reading).await;
    body.truncate(BODY_BYTES_MAX);
    from_body(&body)
}

pub(crate) fn from_body(body: &[u8]) -> String {
    if let Ok(ours) = serde_json::from_slice::<ErrorBody>(body) {
        return printable_chars(&ours.error.message).collect();
    }
    let text = String::from_utf8_lossy(body);
    printable_chars(text.trim())
        .take(SHOWN_CHARACTERS_MAX)
        .collect()
}

fn printable_chars(text: &str) -> impl Iterator<Item = char> {
    // Lines become one line.
    text.chars()
        .map(|c| if c == '\n' { ' ' } else { c })
        .filter(|c| !c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_json_is_shown_as_its_message() {
        let body = r#"{"error":{"code":"no_such_path","message":"try GET\u001b[2J /stream"}}"#;
        assert_eq!(from_body(body.as_bytes()), "try GET[2J /stream");
    }

    #[test]
    fn another_text_is_cut_and_made_plain() {
        assert_eq!(
            from_body(b"\n<h1>Not\x1b[31m\r\nhere</h1>\xff\n"),
            "<h1>Not[31m here</h1>\u{fffd}"
        );
        assert_eq!(from_body("é".repeat(300).as_bytes()), "é".repeat(200));
        assert_eq!(from_body(br#"{"error":"x"}"#), r#"{"error":"x"}"#);
        assert_eq!(from_body(b""), "");
    }
}
