//! Asks a running server whether it is ready.
//!
//! The question is one request without a credential, and the answer one sentence. Nothing of the
//! environment changes it: proxies are not used, and redirects are not followed.

use std::{error::Error as _, time::Duration};

use reqwest::{Certificate, Client, ClientBuilder, Response, StatusCode, redirect::Policy};
use serde_json::Value;

use super::target::HealthTarget;

/// A longer response is not that of this server.
const RESPONSE_BYTES_MAX: usize = 64 << 10;
pub(super) const LIVE: &str = "/health/live";
pub(super) const READY: &str = "/health/ready";

/// What to ask, and how.
#[derive(Debug)]
pub(crate) struct HealthQuestion {
    pub(crate) target: HealthTarget,
    /// Asks only whether the process responds.
    pub(crate) only_live: bool,
    /// Time for the whole answer.
    pub(crate) timeout: Duration,
    /// Certificates in PEM to trust instead of those of the system.
    pub(crate) trusted: Option<Vec<u8>>,
    /// Accepts any certificate.
    pub(crate) insecure: bool,
}

/// Asks the server. Returns a sentence if it is ready.
///
/// # Errors
///
/// A sentence about why it is not.
pub(crate) async fn ask(question: &HealthQuestion) -> Result<String, String> {
    let place = question.target.describe();
    let client = build_client(question).map_err(|error| describe_error(&error))?;
    let route = if question.only_live { LIVE } else { READY };
    let response = client.get(question.target.route(route)).send().await;
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

fn build_client(question: &HealthQuestion) -> reqwest::Result<Client> {
    // Another part of the program may have installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let target = &question.target;
    let builder = || {
        let builder = Client::builder()
            .user_agent(concat!("sse-server/", env!("CARGO_PKG_VERSION"), " health"))
            .redirect(Policy::none())
            .no_proxy()
            .timeout(question.timeout)
            // The connection to this machine proves that the server is the own one.
            .tls_danger_accept_invalid_certs(question.insecure || target.is_own);
        match &target.socket {
            Some(path) => builder.unix_socket(path.as_path()),
            None => builder,
        }
    };
    if let Some(pem) = &question.trusted {
        return builder()
            .tls_certs_only(Certificate::from_pem_bundle(pem)?)
            .build();
    }
    build_without_system_certificates(builder, target.url.scheme() == "http" || target.is_own)
}

/// A small container may have no certificates. A client that checks none needs none.
fn build_without_system_certificates(
    builder: impl Fn() -> ClientBuilder,
    needs_none: bool,
) -> reqwest::Result<Client> {
    if needs_none {
        builder().tls_certs_only([]).build()
    } else {
        builder().build()
    }
}

async fn read_body(mut response: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| describe_error(&error))?
    {
        if body.len() + chunk.len() > RESPONSE_BYTES_MAX {
            return Err("it is longer than 64 KiB".to_owned());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Returns the innermost cause, which names what went wrong.
fn describe_error(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "the time is up".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    if error.source().is_none() {
        error.to_string()
    } else {
        cause.to_string()
    }
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
