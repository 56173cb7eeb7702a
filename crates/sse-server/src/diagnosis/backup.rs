//! Lets a running server copy its log, and waits for the copy.
//!
//! The server makes the copy whether or not this program waits, so a request that fails while the
//! copy is made is repeated for a while.

use std::{
    io::Write as _,
    time::{Duration, Instant},
};

use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use super::connect::{Connection, describe_error, read_body};
use crate::broker::backup::BackupName;

const ROUTE: &str = "/admin/backup";
/// How often the server is asked how far the copy is.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// How often progress is reported.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);
/// Requests in a row that may fail while the copy is made.
const FAILURES_MAX: u32 = 10;

/// What to copy, and how to ask for it.
pub(crate) struct BackupOrder {
    pub(crate) connection: Connection,
    pub(crate) name: BackupName,
    pub(crate) token: Option<String>,
}

/// Lets the server copy its log. Returns a sentence once the copy is whole.
///
/// # Errors
///
/// A sentence about why there is no copy.
pub(crate) async fn make_backup(order: &BackupOrder) -> Result<String, String> {
    let client = order.connection.client("backup")?;
    let place = order.connection.target.describe();
    let body = json!({ "name": order.name.as_str() });
    let start = order.with_token(client.post(order.route()).json(&body));
    let mut status = order.ask(start).await.map_err(Failure::into_sentence)?;
    let mut reported = Instant::now();
    let mut failures = 0;
    loop {
        match status["state"].as_str() {
            Some("done") => {
                return Ok(format!(
                    "{place} has copied its log into {:?}: {}",
                    order.name.as_str(),
                    describe_bytes(&status)
                ));
            }
            Some("running") => {}
            _ => {
                let why = status["message"].as_str();
                let why = why.unwrap_or("the answer is not that of sse-server");
                return Err(format!("there is no copy: {why}"));
            }
        }
        if reported.elapsed() >= REPORT_INTERVAL {
            reported = Instant::now();
            // Progress is not needed to know the result.
            let _ = writeln!(std::io::stderr(), "{}", describe_progress(&status));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
        status = match order.poll(&client).await {
            Ok(status) => {
                failures = 0;
                status
            }
            Err(Failure::Unreachable(_)) if failures < FAILURES_MAX => {
                failures += 1;
                continue;
            }
            Err(failure) => {
                let why = failure.into_sentence();
                return Err(format!("it is not known whether there is a copy: {why}"));
            }
        };
    }
}

/// Why a request has no result.
enum Failure {
    /// There was no answer.
    Unreachable(String),
    /// The server refused.
    Refused(String),
}

impl Failure {
    fn into_sentence(self) -> String {
        match self {
            Self::Unreachable(sentence) | Self::Refused(sentence) => sentence,
        }
    }
}

impl BackupOrder {
    fn route(&self) -> url::Url {
        self.connection.target.route(ROUTE)
    }

    fn with_token(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Asks how far the copy is.
    async fn poll(&self, client: &Client) -> Result<Value, Failure> {
        let status = self.ask(self.with_token(client.get(self.route()))).await?;
        if status["name"] == self.name.as_str() {
            return Ok(status);
        }
        let why =
            "the server reports another copy now; look for this one in its --backup-dir".to_owned();
        Err(Failure::Refused(why))
    }

    async fn ask(&self, request: RequestBuilder) -> Result<Value, Failure> {
        let place = self.connection.target.describe();
        let unreachable =
            |why: String| Failure::Unreachable(format!("no answer from {place}: {why}"));
        let response = request.send().await;
        let response = response.map_err(|error| unreachable(describe_error(&error)))?;
        let status = response.status();
        let body = read_body(response).await.map_err(unreachable)?;
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        if matches!(status, StatusCode::OK | StatusCode::ACCEPTED) {
            return Ok(body);
        }
        let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str);
        let message = text("/error/message").unwrap_or("the answer is not that of sse-server");
        let code = text("/error/code").unwrap_or_default();
        Err(Failure::Refused(format!(
            "{place} answered {} {code}: {message}",
            status.as_u16()
        )))
    }
}

fn describe_progress(status: &Value) -> String {
    let total = status["total_bytes"].as_u64().unwrap_or_default();
    format!("copied {} of about {total} bytes", copied(status))
}

fn describe_bytes(status: &Value) -> String {
    format!("{} bytes", copied(status))
}

fn copied(status: &Value) -> u64 {
    status["copied_bytes"].as_u64().unwrap_or_default()
}
