//! Options of the requests, from the command line.

use std::num::NonZeroU64;

use hyper::Method;
use sse_cli::header::Bearer;

use super::{header::Header, template::Template};

/// Options of the requests.
#[derive(Debug, Clone, Default)]
pub(crate) struct RequestOptions {
    pub(crate) method: Option<Method>,
    pub(crate) path: Option<Template>,
    pub(crate) body: Option<Template>,
    pub(crate) headers: Vec<Header>,
    pub(crate) bearer: Option<Bearer>,
    /// Number of channels, which get the events in turn; `None` if there is one.
    pub(crate) channels: Option<NonZeroU64>,
}

impl RequestOptions {
    /// Returns whether requests use the API of sse-server: without templates and a method of the
    /// user.
    pub(crate) fn use_sse_server_api(&self) -> bool {
        self.method.is_none() && self.path.is_none() && self.body.is_none()
    }

    /// Returns whether requests contain the data of their events.
    pub(crate) fn include_data(&self) -> bool {
        self.body_has_data()
            || self.path.as_ref().is_some_and(Template::has_data)
            || self.headers.iter().any(|header| header.value.has_data())
    }

    fn body_has_data(&self) -> bool {
        match &self.body {
            Some(body) => body.has_data(),
            None => self.has_body(),
        }
    }

    pub(super) fn has_body(&self) -> bool {
        !self
            .method
            .as_ref()
            .is_some_and(|method| [Method::GET, Method::HEAD, Method::DELETE].contains(method))
    }
}
