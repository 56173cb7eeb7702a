//! Which pages may read and publish, and the check of the origin of a publish.
//!
//! Any page that a browser on this machine shows can send a request to this server. CORS protects
//! only responses, so a publish is checked as well, before anything is done:
//!
//! | `Origin` | `Sec-Fetch-Site` | sent by | publish |
//! |---|---|---|---|
//! | none | none, `none` or `same-origin` | a program, or the address bar | allowed |
//! | none | another | an `<img>` of another site | allowed only with `--publish-origin *` |
//! | none, but a `Referer`, and the method is GET | none | a page, in an old browser | as for that origin |
//! | that of `Host` | any | a page of this server | allowed, but see [`is_rebound`] |
//! | that of a `--public-url` | any | a page of this server | allowed |
//! | another | any | a page of another site | allowed if named with `--publish-origin` |

use std::sync::Arc;

use actix_web::{
    HttpRequest,
    http::{
        Method,
        header::{self, HeaderName},
    },
};
use sse_cli::loopback::is_loopback_url;

use super::{
    origin_pattern::{OriginList, OriginPattern},
    public_url::PublicUrl,
};
use crate::http::{
    error::{ApiError, ApiResult, shortened},
    request::{header::header_text, listen_address::listen_address},
};

/// How the request of a page relates to the page's site (Fetch Metadata Request Headers). Browsers
/// send it even with the requests of an `<img>`.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The origins that the operator has named, as the flags list them.
#[derive(Debug, Clone, Default)]
pub struct NamedOrigins {
    /// Origins whose pages may read.
    pub readers: Vec<OriginPattern>,
    /// Origins whose pages may read and publish.
    pub publishers: Vec<OriginPattern>,
    /// The URLs at which clients reach this server.
    pub own: Vec<PublicUrl>,
    /// Whether pages may read responses to requests with cookies or an authorization.
    pub credentials: bool,
}

/// The other origins whose pages may read or publish.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    readers: OriginList,
    publishers: OriginList,
    own: Arc<[PublicUrl]>,
    credentials: bool,
}

impl Origins {
    /// Allows the named origins.
    #[must_use]
    pub fn new(named: &NamedOrigins) -> Self {
        Self {
            readers: OriginList::new(&named.readers),
            publishers: OriginList::new(&named.publishers),
            own: named.own.clone().into(),
            credentials: named.credentials,
        }
    }

    /// The URLs at which clients reach this server.
    pub(in crate::http) fn public_urls(&self) -> &[PublicUrl] {
        &self.own
    }

    /// Whether no other origin is allowed, so that the server does not use CORS.
    pub(in crate::http) fn is_empty(&self) -> bool {
        self.readers.is_empty() && self.publishers.is_empty()
    }

    pub(super) fn allows_credentials(&self) -> bool {
        self.credentials
    }

    /// Whether pages of every origin may read.
    pub(super) fn every_page_may_read(&self) -> bool {
        self.readers.is_everything() || self.publishers.is_everything()
    }

    pub(super) fn may_read(&self, origin: &str) -> bool {
        self.readers.contains(origin) || self.may_publish(origin)
    }

    pub(super) fn may_publish(&self, origin: &str) -> bool {
        self.publishers.contains(origin)
    }

    /// Rejects a publish that a page of another site sent, or made the browser send.
    ///
    /// # Errors
    ///
    /// `ApiError::OriginNotAllowed`: the operator can allow the origin.
    pub fn check_publish(&self, request: &HttpRequest) -> ApiResult<()> {
        if let Some(origin) = header_text(request, header::ORIGIN) {
            return self.check_origin(request, &origin);
        }
        self.check_fetch_site(request)?;
        self.check_referer(request)
    }

    /// Rejects a request that a page of another origin sent, or made the browser send, even if that
    /// page may publish.
    ///
    /// # Errors
    ///
    /// `ApiError::OriginNotAllowed`.
    pub(in crate::http) fn check_own(&self, request: &HttpRequest) -> ApiResult<()> {
        let origin = header_text(request, header::ORIGIN);
        let referer = header_text(request, header::REFERER);
        let origin = origin.or_else(|| referer.map(|referer| origin_of(&referer).into()));
        match origin {
            Some(origin) if !self.is_own(request, &origin) => Err(not_allowed(&origin)),
            None if is_foreign_site(request) => Err(not_allowed("another site")),
            _ => Ok(()),
        }
    }

    /// Rejects a GET that a page of another origin made the browser send, if the browser has no
    /// `Sec-Fetch-Site`. Other methods have an `Origin` then.
    fn check_referer(&self, request: &HttpRequest) -> ApiResult<()> {
        match header_text(request, header::REFERER) {
            Some(referer) if request.method() == Method::GET => {
                self.check_origin(request, &origin_of(&referer))
            }
            _ => Ok(()),
        }
    }

    fn check_origin(&self, request: &HttpRequest, origin: &str) -> ApiResult<()> {
        if self.is_own(request, origin) || self.may_publish(origin) {
            Ok(())
        } else {
            Err(not_allowed(origin))
        }
    }

    /// Whether the operator named the origin, not only by `*` or `null`, or it is this server.
    pub(super) fn is_named_or_own(&self, request: &HttpRequest, origin: &str) -> bool {
        self.readers.names(origin) || self.publishers.names(origin) || self.is_own(request, origin)
    }

    /// Whether the origin of the request is this server.
    pub(super) fn is_own(&self, request: &HttpRequest, origin: &str) -> bool {
        let is_public = self.own.iter().any(|url| url.origin() == origin);
        is_public || is_origin_of_host(request, origin) && !is_rebound(request, origin)
    }

    fn check_fetch_site(&self, request: &HttpRequest) -> ApiResult<()> {
        if is_foreign_site(request) && !self.publishers.is_everything() {
            Err(not_allowed("another site"))
        } else {
            Ok(())
        }
    }
}

fn not_allowed(origin: &str) -> ApiError {
    ApiError::OriginNotAllowed(shortened(origin))
}

/// Whether a page of another origin made the browser send the request. Pages of the same site are
/// foreign too: a site can belong to many owners.
fn is_foreign_site(request: &HttpRequest) -> bool {
    header_text(request, SEC_FETCH_SITE).is_some_and(|site| site != "same-origin" && site != "none")
}

/// Returns the origin of a URL, or the text if it is no URL.
fn origin_of(url: &str) -> String {
    url::Url::parse(url).map_or_else(|_| url.to_owned(), |url| url.origin().ascii_serialization())
}

/// Whether the request was sent by a page of the host that it is addressed to.
///
/// Anyone on the network can forge a page at `http:`, so it is no page of an HTTPS server.
fn is_origin_of_host(request: &HttpRequest, origin: &str) -> bool {
    let host = header_text(request, header::HOST).unwrap_or_default();
    let is_secure = |scheme| scheme == "https" || !listen_address(request).uses_tls();
    origin.split_once("://").is_some_and(|(scheme, authority)| {
        authority.eq_ignore_ascii_case(&host) && is_secure(scheme)
    })
}

/// Whether a foreign name leads to this machine.
///
/// If `evil.example` resolves to 127.0.0.1 (DNS rebinding), its page seems to be of the same origin
/// as a server that listens on loopback. So such a server accepts only origins of this machine. The
/// same is true for a unix socket, to which a proxy on loopback may lead.
fn is_rebound(request: &HttpRequest, origin: &str) -> bool {
    listen_address(request).is_local() && !is_loopback(origin)
}

/// Whether an origin belongs to this machine.
fn is_loopback(origin: &str) -> bool {
    url::Url::parse(origin).is_ok_and(|url| is_loopback_url(&url))
}
