//! The response to an error.

use std::time::Duration;

use actix_web::{
    HttpResponse, HttpResponseBuilder, ResponseError,
    http::{StatusCode, header},
};
use serde::Serialize;
use sse_proto::api::{ErrorBody, ErrorDetail};

use super::ApiError;
use crate::{broker::BrokerError, http::access::challenge::challenge};

/// The body of an error with further members.
#[derive(Serialize)]
struct ErrorWith<T> {
    #[serde(flatten)]
    error: ErrorBody,
    #[serde(flatten)]
    more: T,
}

impl ApiError {
    /// Returns the response, whose body also has the members of `more`.
    pub(in crate::http) fn response_with(&self, more: impl Serialize) -> HttpResponse {
        self.respond(|error| ErrorWith { error, more })
    }

    /// Returns the code as sent.
    pub(in crate::http) fn code_text(&self) -> &'static str {
        self.code().row().0
    }

    /// Returns the error for a response that contains several.
    pub(in crate::http) fn detail(&self) -> ErrorDetail {
        ErrorDetail {
            code: self.code_text().to_owned(),
            message: self.to_string(),
        }
    }

    fn respond<T: Serialize>(&self, body: impl FnOnce(ErrorBody) -> T) -> HttpResponse {
        let (code, status) = self.code().row();
        let mut response = HttpResponse::build(status);
        self.insert_headers(&mut response);
        let rejection = self.rejection(code);
        let body = body(rejection.body());
        response.extensions_mut().insert(rejection);
        response.json(body)
    }

    fn insert_headers(&self, response: &mut HttpResponseBuilder) {
        if let Some(delay) = self.retry_after() {
            response.insert_header((header::RETRY_AFTER, whole_seconds(delay)));
        }
        if let Some(challenge) = challenge(self) {
            response.insert_header((header::WWW_AUTHENTICATE, challenge));
        }
        if let Self::Broker(BrokerError::ConditionFailed { newest }) = self {
            response.insert_header((header::ETAG, format!("\"{newest}\"")));
        }
        if let Self::MethodNotAllowed { allow, .. } = self {
            response.insert_header((header::ALLOW, *allow));
        }
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.code().row().1
    }

    fn error_response(&self) -> HttpResponse {
        self.respond(|body| body)
    }
}

/// Rounds up to whole seconds, at least one.
fn whole_seconds(delay: Duration) -> u64 {
    let part = u64::from(delay.subsec_nanos() > 0);
    delay.as_secs().saturating_add(part).max(1)
}
