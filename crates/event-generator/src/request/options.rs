//! What the user asks of the requests.

use hyper::Method;
use sse_cli::header::Bearer;

use super::{header::Header, template::Template};

/// What the user says about requests.
#[derive(Debug, Clone, Default)]
pub(crate) struct RequestOptions {
    pub(crate) method: Option<Method>,
    pub(crate) path: Option<Template>,
    pub(crate) body: Option<Template>,
    pub(crate) headers: Vec<Header>,
    pub(crate) bearer: Option<Bearer>,
}

impl RequestOptions {
    /// Whether they are for the API of our server, so that its answers are expected.
    pub(crate) fn use_sse_server_api(&self) -> bool {
        self.method.is_none() && self.path.is_none() && self.body.is_none()
    }

    /// Whether an event's data goes with its request.
    pub(crate) fn include_data(&self) -> bool {
        let in_body = match &self.body {
            Some(body) => body.has_data(),
            None => self.has_body(),
        };
        in_body
            || self.path.as_ref().is_some_and(Template::has_data)
            || self.headers.iter().any(|header| header.value.has_data())
    }

    pub(super) fn has_body(&self) -> bool {
        !self
            .method
            .as_ref()
            .is_some_and(|method| [Method::GET, Method::HEAD, Method::DELETE].contains(method))
    }
}
