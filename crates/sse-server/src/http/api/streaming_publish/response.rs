//! The response to a streaming publish.

use actix_web::HttpResponse;
use serde::Serialize;
use sse_proto::{EventId, api::BatchPublished};

use crate::http::error::ApiError;

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
    /// What ended the publish before its body ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<&'static str>,
}

impl Progress {
    /// Counts lines that are stored.
    pub(super) const fn add(&mut self, published: &BatchPublished) {
        self.count += published.count;
        self.last_id = Some(published.last_id);
    }

    /// Returns the response, which has what is stored whatever ended the publish.
    pub(super) fn response(mut self, ending: &Ending) -> HttpResponse {
        match ending {
            Ending::Complete => HttpResponse::Ok().json(self),
            Ending::Ended(reason) => {
                self.ended = Some(*reason);
                HttpResponse::Ok().json(self)
            }
            Ending::Failed(error) => {
                self.ended = Some(error.code_text());
                error.response_with(self)
            }
        }
    }
}
