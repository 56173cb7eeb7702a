//! Asks a running server whether it is ready.
//!
//! The question is one request without a credential, and the answer one sentence.

use reqwest::StatusCode;
use serde_json::Value;

use super::connect::{Connection, describe_error, read_body};

pub(super) const LIVE: &str = "/health/live";
pub(super) const READY: &str = "/health/ready";

/// What to ask, and how.
#[derive(Debug)]
pub(crate) struct HealthQuestion {
    pub(crate) connection: Connection,
    /// Asks only whether the process responds.
    pub(crate) only_live: bool,
}

/// Asks the server. Returns a sentence if it is ready.
///
/// # Errors
///
/// A sentence about why it is not.
pub(crate) async fn ask(question: &HealthQuestion) -> Result<String, String> {
    let target = &question.connection.target;
    let place = target.describe();
    let client = question.connection.client("health")?;
    let route = if question.only_live { LIVE } else { READY };
    let response = client.get(target.route(route)).send().await;
    let response =
        response.map_err(|error| format!("no answer from {place}: {}", describe_error(&error)))?;
    let status = response.status();
    let body = read_body(response)
        .await
        .map_err(|error| format!("no whole answer from {place}: {error}"))?;
    judge(&place, status, &body)
}

fn judge(place: &str, status: StatusCode, body: &[u8]) -> Result<String, String> {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str);
    if status != StatusCode::OK {
        let message = text("/error/message").unwrap_or("the answer is not that of sse-server");
        let code = text("/error/code").unwrap_or_default();
        return Err(format!(
            "not ready: {place} answered {} {code}: {message}",
            status.as_u16()
        ));
    }
    let Some(state) = text("/status").filter(|status| matches!(*status, "live" | "ready")) else {
        return Err(format!("another program answered at {place}"));
    };
    let mut sentence = format!("{state}: {place}");
    for warning in body["warnings"].as_array().into_iter().flatten() {
        if let Some(message) = warning["message"].as_str() {
            sentence.push_str("\nwarning: ");
            sentence.push_str(message);
        }
    }
    Ok(sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_of_this_server_is_good() {
        let ready =
            br#"{"status":"ready","broker":"Redis","warnings":[{"code":"x","message":"m"}]}"#;
        let judged = judge("p", StatusCode::OK, ready).unwrap();
        assert_eq!(judged, "ready: p\nwarning: m");
        for (status, body, part) in [
            (200, "<html>", "another program"),
            (200, r#"{"status":"fine"}"#, "another program"),
            (
                503,
                r#"{"error":{"code":"draining","message":"it stops"}}"#,
                "draining: it stops",
            ),
            (404, "", "404"),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let error = judge("p", status, body.as_bytes()).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
