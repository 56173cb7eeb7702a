//! The proxy that the environment sets for the server.

use std::{env, fmt};

use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use url::Url;

use crate::loopback::is_loopback_url;

/// Variables per scheme, in the order in which reqwest reads them.
const FOR_HTTP: [&str; 4] = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
const FOR_HTTPS: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// A proxy between this program and the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Address without user name and password.
    address: String,
    /// Variable that sets the proxy.
    pub variable: &'static str,
}

impl Proxy {
    /// Returns the proxy for `url`, by the rules of reqwest; `None` for this machine and for hosts
    /// in `NO_PROXY`.
    #[must_use]
    pub fn for_url(url: &Url) -> Option<Self> {
        if is_loopback_url(url) {
            return None;
        }
        let target: Uri = url.as_str().parse().ok()?;
        let intercept = Matcher::from_env().intercept(&target)?;
        let (scheme, authority) = (intercept.uri().scheme_str()?, intercept.uri().authority()?);
        // User name and password were removed, except for a part of a user name that contains an @.
        let host = authority.as_str().rsplit('@').next()?;
        let variables = if url.scheme() == "http" {
            FOR_HTTP
        } else {
            FOR_HTTPS
        };
        Some(Self {
            address: format!("{scheme}://{host}"),
            variable: find_variable(variables, host)?,
        })
    }

    /// Returns what the user can do if the proxy does not connect to the server.
    #[must_use]
    pub fn remedy(&self) -> String {
        format!(
            "correct or unset {}, or add the host of the server to NO_PROXY",
            self.variable
        )
    }
}

fn find_variable(names: [&'static str; 4], host: &str) -> Option<&'static str> {
    names
        .into_iter()
        .find(|name| env::var(name).is_ok_and(|value| value.contains(host)))
}

/// The name in messages.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the proxy {} ({})", self.address, self.variable)
    }
}
