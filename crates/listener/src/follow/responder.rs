//! Who sent a response: the server, or a proxy on the way.
//!
//! For http, a proxy forwards the request and can respond itself. For https, a response always
//! comes from the server, because the proxy only tunnels.

use std::fmt;

use reqwest::{Response, StatusCode, header::HeaderMap};
use sse_cli::proxy::Proxy;
use url::Url;

/// Header of Squid for a response of its own.
const PROXY_ERROR: &str = "x-squid-error";

/// Who sent a response, as the subject of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Responder {
    /// The server.
    Server,
    /// This proxy, certainly.
    Proxy(Box<Proxy>),
    /// The server or this proxy: the response does not show which.
    ServerOrProxy(Box<Proxy>),
}

impl Responder {
    /// Returns who sent a response to a request for `url`, which may have gone through `proxy`.
    #[must_use]
    pub fn of(response: &Response, url: &Url, proxy: Option<Proxy>) -> Self {
        let proxy = proxy.filter(|_| url.scheme() == "http").map(Box::new);
        Self::new(response.status(), response.headers(), proxy)
    }

    fn new(status: StatusCode, headers: &HeaderMap, proxy: Option<Box<Proxy>>) -> Self {
        let is_of_proxy = status == StatusCode::PROXY_AUTHENTICATION_REQUIRED
            || headers.contains_key(PROXY_ERROR);
        match proxy {
            None => Self::Server,
            Some(proxy) if is_of_proxy => Self::Proxy(proxy),
            Some(proxy) => Self::ServerOrProxy(proxy),
        }
    }

    /// Returns what the user can do about a response that is an error; empty for a server.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Proxy(proxy) => format!("; {}", proxy.remedy()),
            Self::Server | Self::ServerOrProxy(_) => String::new(),
        }
    }
}

impl fmt::Display for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server => f.write_str("the server"),
            Self::Proxy(proxy) => write!(f, "{proxy}"),
            Self::ServerOrProxy(proxy) => write!(f, "the server or {proxy}"),
        }
    }
}
