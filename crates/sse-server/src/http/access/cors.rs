//! Which pages may publish and read: CORS, and the check of the origin of a publish.
//!
//! Any page that a browser on this machine shows can send a request to this server. CORS protects
//! only responses, so a publish is checked as well, before anything is done:
//!
//! | `Origin` | `Sec-Fetch-Site` | sent by | publish |
//! |---|---|---|---|
//! | none | none, `none`, `same-origin`, … | a program, or the address bar | allowed |
//! | none | `cross-site` | an `<img>` of another site | allowed only with `--cors-origin *` |
//! | that of `Host` | any | a page of this server | allowed, but see [`is_rebound`] |
//! | another | any | a page of another site | allowed if named with `--cors-origin` |

use actix_cors::{Cors, CorsError};
use actix_web::{
    Error, HttpRequest, ResponseError as _,
    body::{EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::header::{self, HeaderName},
    middleware::Next,
};
use sse_cli::loopback::{is_loopback_ip, is_loopback_url};

use crate::http::{
    error::{ApiError, ApiResult, shortened},
    request::header::header_text,
    state::local_address,
};

/// How the request of a page relates to the page's site (Fetch Metadata Request Headers). Browsers
/// send it even with the requests of an `<img>`.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// Seconds for which a browser may remember a preflight.
const PREFLIGHT_MAX_AGE_S: usize = 3600;

/// The other origins whose pages may read and publish.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    named: Vec<String>,
    any: bool,
}

impl Origins {
    /// Allows these origins; `*` allows all.
    #[must_use]
    pub fn new(named: &[String]) -> Self {
        Self {
            named: named.to_vec(),
            any: named.iter().any(|origin| origin == "*"),
        }
    }

    fn allows(&self, origin: &str) -> bool {
        self.any || self.named.iter().any(|named| named == origin)
    }

    /// Rejects a publish that a page of another site sent, or made the browser send.
    ///
    /// # Errors
    ///
    /// `ApiError::OriginNotAllowed`: the operator can allow the origin.
    pub fn check_publish(&self, request: &HttpRequest) -> ApiResult<()> {
        match header_text(request, header::ORIGIN) {
            Some(origin) => self.check_origin(request, &origin),
            None => self.check_fetch_site(request),
        }
    }

    fn check_origin(&self, request: &HttpRequest, origin: &str) -> ApiResult<()> {
        if is_own_origin(request, origin) || self.allows(origin) {
            Ok(())
        } else {
            Err(not_allowed(origin))
        }
    }

    fn check_fetch_site(&self, request: &HttpRequest) -> ApiResult<()> {
        if is_cross_site(request) && !self.any {
            Err(not_allowed("another site"))
        } else {
            Ok(())
        }
    }

    /// Returns the middleware for the CORS headers (Fetch standard, CORS protocol), or `None` if no
    /// origin is named.
    #[must_use]
    pub fn cors(&self) -> Option<Cors> {
        (!self.named.is_empty()).then(|| self.allow_origins(cors_without_origins()))
    }

    fn allow_origins(&self, cors: Cors) -> Cors {
        if self.any {
            cors.allow_any_origin().send_wildcard()
        } else {
            self.named
                .iter()
                .fold(cors, |cors, origin| cors.allowed_origin(origin))
        }
    }
}

fn not_allowed(origin: &str) -> ApiError {
    ApiError::OriginNotAllowed(shortened(origin))
}

fn is_cross_site(request: &HttpRequest) -> bool {
    header_text(request, SEC_FETCH_SITE).is_some_and(|site| site == "cross-site")
}

fn cors_without_origins() -> Cors {
    Cors::default()
        .allowed_methods(["GET", "POST"])
        .allowed_headers([
            "accept",
            "cache-control",
            "content-type",
            "idempotency-key",
            "last-event-id",
        ])
        .expose_headers(["retry-after", "link"])
        .max_age(PREFLIGHT_MAX_AGE_S)
}

/// Whether the origin of the request is this server.
fn is_own_origin(request: &HttpRequest, origin: &str) -> bool {
    is_origin_of_host(request, origin) && !is_rebound(request, origin)
}

/// Whether the request was sent by a page of the host that it is addressed to.
fn is_origin_of_host(request: &HttpRequest, origin: &str) -> bool {
    let host = header_text(request, header::HOST).unwrap_or_default();
    origin
        .split_once("://")
        .is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(&host))
}

/// Whether a foreign name leads to this machine.
///
/// If `evil.example` resolves to 127.0.0.1 (DNS rebinding), its page seems to be of the same origin
/// as a server that listens on loopback. So such a server accepts only origins of this machine.
fn is_rebound(request: &HttpRequest, origin: &str) -> bool {
    is_loopback_ip(local_address(request).ip()) && !is_loopback(origin)
}

/// Whether an origin belongs to this machine.
fn is_loopback(origin: &str) -> bool {
    url::Url::parse(origin).is_ok_and(|url| is_loopback_url(&url))
}

/// Middleware: gives a rejected preflight the same body as every other error.
///
/// # Errors
///
/// Those of the services inside.
pub async fn explain_rejected_preflight<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let response = next.call(request).await?;
    match preflight_error(&response) {
        Some(error) => Ok(response
            .into_response(error.error_response())
            .map_into_boxed_body()
            .map_into_right_body()),
        None => Ok(response.map_into_left_body()),
    }
}

fn preflight_error<B>(response: &ServiceResponse<B>) -> Option<ApiError> {
    let error = response.response().error()?.as_error::<CorsError>()?;
    Some(ApiError::PreflightRejected(error.to_string()))
}
