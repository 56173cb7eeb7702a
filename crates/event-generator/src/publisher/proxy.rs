//! The proxy that the environment sets for the server.

use std::{env, fmt};

use hyper::Uri;
use hyper_util::client::proxy::matcher::Matcher;

use crate::request::base_url::BaseUrl;

/// Variables per scheme, in the order in which reqwest reads them.
const FOR_HTTP: [&str; 4] = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
const FOR_HTTPS: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// A proxy between this program and the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    /// Address without user name and password.
    address: String,
    /// Variable that sets the proxy.
    pub(crate) variable: &'static str,
}

impl Proxy {
    /// Returns the proxy for `base`, by the rules of reqwest; `None` for this machine and for hosts
    /// in `NO_PROXY`.
    pub(crate) fn for_url(base: &BaseUrl) -> Option<Self> {
        if base.is_loopback() {
            return None;
        }
        let target: Uri = base.join("/").ok()?.as_str().parse().ok()?;
        let intercept = Matcher::from_env().intercept(&target)?;
        let (scheme, authority) = (intercept.uri().scheme_str()?, intercept.uri().authority()?);
        // User name and password were removed, except for a part of a user name that contains an @.
        let host = authority.as_str().rsplit('@').next()?;
        let variables = if base.is_plain() { FOR_HTTP } else { FOR_HTTPS };
        Some(Self {
            address: format!("{scheme}://{host}"),
            variable: find_variable(variables, host)?,
        })
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
