//! The message in the body of a response that is not a stream, as one line without control
//! characters.

use std::time::Duration;

use reqwest::Response;
use sse_proto::api::ErrorBody;

/// Limit of bytes that are read of a body.
const BODY_BYTES_MAX: usize = 16 << 10;
/// Limit of time for reading a body, which may be a stream without an end.
const BODY_TIME_MAX: Duration = Duration::from_secs(2);
/// Limit of characters of a message that is not our JSON.
const SHOWN_CHARACTERS_MAX: usize = 200;

/// Reads the message of a response. Returns an empty text if there is none.
pub(crate) async fn read(mut response: Response) -> String {
    let mut body = Vec::new();
    let reading = async {
        while body.len() < BODY_BYTES_MAX {
            match response.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                // Use what a broken body contained: the status matters more.
                Ok(None) | Err(_) => break,
            }
        }
    };
    // After a timeout too, `body` contains what was received.
    let _ = tokio::time::timeout(BODY_TIME_MAX, reading).await;
    body.truncate(BODY_BYTES_MAX);
    from_body(&body)
}

/// The message in the bytes of a body.
pub(crate) fn from_body(body: &[u8]) -> String {
    if let Ok(error) = serde_json::from_slice::<ErrorBody>(body) {
        return printable_chars(&error.error.message).collect();
    }
    let text = String::from_utf8_lossy(body);
    printable_chars(text.trim())
        .take(SHOWN_CHARACTERS_MAX)
        .collect()
}

fn printable_chars(text: &str) -> impl Iterator<Item = char> {
    // Join lines to one.
    text.chars()
        .map(|c| if c == '\n' { ' ' } else { c })
        .filter(|c| !c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_of_our_json_is_used() {
        let body = r#"{"error":{"code":"no_such_path","message":"try GET\u001b[2J /stream"}}"#;
        assert_eq!(from_body(body.as_bytes()), "try GET[2J /stream");
    }

    #[test]
    fn other_text_is_cut_and_cleaned() {
        assert_eq!(
            from_body(b"\n<h1>Not\x1b[31m\r\nhere</h1>\xff\n"),
            "<h1>Not[31m here</h1>\u{fffd}"
        );
        assert_eq!(from_body("é".repeat(300).as_bytes()), "é".repeat(200));
        assert_eq!(from_body(br#"{"error":"x"}"#), r#"{"error":"x"}"#);
        assert_eq!(from_body(b""), "");
    }
}
