//! Reads the log of a running server over `GET /admin/log/…`.

use reqwest::{Client, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use sse_proto::{Channel, EventId};

use super::CopyError;
use crate::{
    broker::{
        revocations::StoredRevocation,
        transfer::{SourceList, SourcePage},
    },
    diagnosis::connect::{Connection, describe_error, read_body_up_to},
};

/// Bytes of a response. A page can have one event of any size, whose data can take six times as many
/// bytes as JSON.
const RESPONSE_BYTES_MAX: usize = 256 << 20;

/// A running server whose log is copied.
#[derive(Debug)]
pub(crate) struct ServerSource {
    connection: Connection,
    client: Client,
    token: Option<String>,
}

impl ServerSource {
    /// Makes the client. Nothing is sent yet.
    pub(crate) fn new(connection: Connection, token: Option<String>) -> Result<Self, CopyError> {
        let client = connection.client("copy").map_err(CopyError::Source)?;
        Ok(Self {
            connection,
            client,
            token,
        })
    }

    pub(super) async fn list(
        &self,
        after: Option<&Channel>,
        since: Option<EventId>,
    ) -> Result<SourceList, CopyError> {
        let after = after.map(|after| ("after", after.to_string()));
        let since = since.map(|since| ("since", since.to_string()));
        let query: Vec<_> = after.into_iter().chain(since).collect();
        self.get("/admin/log/channels", &query).await
    }

    pub(super) async fn page(
        &self,
        channel: &Channel,
        after: EventId,
    ) -> Result<SourcePage, CopyError> {
        let query = [
            ("channel", channel.to_string()),
            ("after", after.to_string()),
        ];
        self.get("/admin/log/records", &query).await
    }

    pub(super) async fn revocations(&self) -> Result<Vec<StoredRevocation>, CopyError> {
        self.get("/admin/log/revocations", &[]).await
    }

    async fn get<T: DeserializeOwned>(
        &self,
        route: &str,
        query: &[(&str, String)],
    ) -> Result<T, CopyError> {
        let place = self.connection.target.describe();
        let unreachable =
            |why: String| CopyError::Unreachable(format!("no answer from {place}: {why}"));
        let mut url = self.connection.target.route(route);
        url.query_pairs_mut().extend_pairs(query);
        let mut request = self.client.get(url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await;
        let response = response.map_err(|error| unreachable(describe_error(&error)))?;
        let status = response.status();
        let body = read_body_up_to(response, RESPONSE_BYTES_MAX)
            .await
            .map_err(unreachable)?;
        if status == StatusCode::OK {
            let parsed = serde_json::from_slice(&body);
            return parsed.map_err(|error| {
                CopyError::Source(format!(
                    "the answer of {place} is not that of sse-server: {error}"
                ))
            });
        }
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str);
        let message = text("/error/message").unwrap_or("the answer is not that of sse-server");
        let code = text("/error/code").unwrap_or_default();
        let why = format!("{place} answered {} {code}: {message}", status.as_u16());
        // It is busy or stops.
        let is_temporary = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
        Err(if is_temporary {
            CopyError::Unreachable(why)
        } else {
            CopyError::Source(why)
        })
    }
}
