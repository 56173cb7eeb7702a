//! Whether a proxy of the environment stands before the server, and which.

use std::{env, fmt};

use hyper::Uri;
use hyper_util::client::proxy::matcher::Matcher;

use crate::request::base_url::BaseUrl;

/// By scheme, in the order in which the client looks at them.
const FOR_HTTP: [&str; 4] = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
const FOR_HTTPS: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// A proxy that requests to a server go through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    /// Its address, without user name and password.
    address: String,
    /// The variable that names it.
    pub(crate) variable: &'static str,
}

impl Proxy {
    /// The proxy before this server, by the rules of the client: none before this machine, or before what `NO_PROXY` names.
    pub(crate) fn for_url(base: &BaseUrl) -> Option<Self> {
        if base.is_loopback() {
            return None;
        }
        let target: Uri = base.join("/").ok()?.as_str().parse().ok()?;
        let intercept = Matcher::from_env().intercept(&target)?;
        let (scheme, authority) = (intercept.uri().scheme_str()?, intercept.uri().authority()?);
        // User name and password have been taken out; a name with a second @ in it would leave some of it behind.
        let host = authority.as_str().rsplit('@').next()?;
        let variables = if base.is_plain() { FOR_HTTP } else { FOR_HTTPS };
        let variable = variables
            .into_iter()
            .find(|name| env::var(name).is_ok_and(|value| value.contains(host)))?;
        Some(Self {
            address: format!("{scheme}://{host}"),
            variable,
        })
    }
}

/// As messages name it.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the proxy {} ({})", self.address, self.variable)
    }
}
