//! Headers of the requests of a run.

use hyper::{
    HeaderMap,
    header::{AUTHORIZATION, HeaderValue, USER_AGENT},
};
use sse_cli::header::{Bearer, sensitive_value};

use super::{header::Header, template::Values};

const AGENT: HeaderValue = HeaderValue::from_static(concat!(
    env!("CARGO_PKG_NAME"),
    "/",
    env!("CARGO_PKG_VERSION")
));

/// The headers of every request, except those that depend on its body.
#[derive(Debug)]
pub(super) struct RequestHeaders {
    constant: HeaderMap,
    /// Headers with placeholders.
    templated: Vec<Header>,
}

/// A header of a request would be invalid.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the header {0} would contain control characters")]
pub(crate) struct Unsendable(String);

impl RequestHeaders {
    /// The headers of the user, and the name of this program.
    pub(super) fn new(headers: Vec<Header>, bearer: Option<Bearer>) -> Self {
        let mut constant = HeaderMap::new();
        constant.insert(USER_AGENT, AGENT);
        let mut templated = Vec::new();
        for header in headers {
            match header.value.as_constant().and_then(sensitive_value) {
                // A repeated header is sent repeatedly. The first `User-Agent` replaces the
                // default.
                Some(value) if header.name == USER_AGENT => {
                    constant.insert(USER_AGENT, value);
                }
                Some(value) => {
                    constant.append(header.name, value);
                }
                None => templated.push(header),
            }
        }
        if let Some(Bearer(value)) = bearer {
            constant.insert(AUTHORIZATION, value);
        }
        Self {
            constant,
            templated,
        }
    }

    /// Returns the headers without placeholders.
    pub(super) fn constant(&self) -> HeaderMap {
        self.constant.clone()
    }

    /// Returns all headers, with the values of their placeholders.
    pub(super) fn render(&self, values: &Values<'_>) -> Result<HeaderMap, Unsendable> {
        let mut headers = self.constant();
        for header in &self.templated {
            let mut text = String::new();
            header.value.render(values, &mut text);
            let value =
                sensitive_value(&text).ok_or_else(|| Unsendable(header.name.to_string()))?;
            headers.append(header.name.clone(), value);
        }
        Ok(headers)
    }
}
