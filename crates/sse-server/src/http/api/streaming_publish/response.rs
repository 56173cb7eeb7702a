//! The response to a streaming publish.

use actix_web::{HttpResponse, http::header::HeaderValue};
use serde::Serialize;
use sse_proto::EventId;

use super::Stored;
use crate::http::{api::channels::etag, error::ApiError};

/// What ended a streaming publish.
#[derive(Debug)]
pub(super) enum Ending {
    /// The body, as its client intended.
    Complete,
    /// The server, for a reason that is no error of the client.
    Ended(&'static str),
    /// A line, the body or the log.
    Failed(ApiError),
}

/// What is stored.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub(super) struct Progress {
    /// Lines, without blank ones.
    count: usize,
    /// The id of the last of them.
    last_id: Option<EventId>,
    /// The id of the end of the channel, if the publish has closed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<EventId>,
    /// The id of the newest record, which is the `ETag`.
    #[serde(skip)]
    newest: Option<EventId>,
    /// What ended the publish before its body ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<&'static str>,
}

impl Progress {
    /// Counts lines that are stored.
    pub(super) fn add(&mut self, stored: &Stored) {
        self.count += stored.count;
        self.last_id = stored.last_id.or(self.last_id);
        self.end = stored.written.end;
        self.newest = Some(stored.written.newest);
    }

    /// Returns the response, which has what is stored whatever ended the publish.
    pub(super) fn response(mut self, ending: &Ending) -> HttpResponse {
        let newest = self.newest.map(etag);
        let mut response = self.body(ending);
        if let Some((name, value)) = newest
            && let Ok(value) = HeaderValue::try_from(value)
            && response.status().is_success()
        {
            response.headers_mut().insert(name, value);
        }
        response
    }

    fn body(&mut self, ending: &Ending) -> HttpResponse {
        match ending {
            Ending::Complete => HttpResponse::Ok().json(*self),
            Ending::Ended(reason) => {
                self.ended = Some(*reason);
                HttpResponse::Ok().json(*self)
            }
            Ending::Failed(error) => {
                self.ended = Some(error.code_text());
                error.response_with(*self)
            }
        }
    }
}
