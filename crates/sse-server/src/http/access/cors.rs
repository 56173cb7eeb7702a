//! Who may publish from a browser: any page that a local browser shows could send a request to this machine.

use actix_cors::{Cors, CorsError};
use actix_web::{
    Error, HttpRequest, ResponseError as _,
    body::{EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::header::{self, HeaderName},
    middleware::Next,
};

use url::Host;

use crate::http::{
    error::{ApiError, shortened},
    state::local_address,
};

/// The origins of other sites that may read and publish.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    named: Vec<String>,
    any: bool,
}

impl Origins {
    /// `*` stands for all.
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

    /// Refuses a publish that another site's page sent or made the browser send.
    ///
    /// `Origin` says who sent it (Fetch standard); `Sec-Fetch-Site` is there even on the requests of an `<img>`.
    ///
    /// # Errors
    /// `ApiError::OriginNotAllowed`
    pub fn check_publish(&self, request: &HttpRequest) -> Result<(), ApiError> {
        const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
        let value = |name| {
            request
                .headers()
                .get(name)
                .map(|value| String::from_utf8_lossy(value.as_bytes()))
        };
        if let Some(origin) = value(header::ORIGIN) {
            let host = value(header::HOST).unwrap_or_default();
            let same = origin
                .split_once("://")
                .is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(&host));
            // A name of somebody else's that leads to this machine makes a page of theirs look like ours.
            let rebound = local_address(request).ip().is_loopback() && !is_loopback(&origin);
            return if (same && !rebound) || self.allows(&origin) {
                Ok(())
            } else {
                Err(ApiError::OriginNotAllowed(shortened(origin)))
            };
        }
        match value(SEC_FETCH_SITE).as_deref() {
            Some("cross-site") if !self.any => {
                Err(ApiError::OriginNotAllowed("another site".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// The CORS headers, if any origin was named (Fetch standard, CORS protocol).
    #[must_use]
    pub fn cors(&self) -> Option<Cors> {
        if self.named.is_empty() {
            return None;
        }
        let cors = Cors::default()
            .allowed_methods(["GET", "POST"])
            .allowed_headers([
                "accept",
                "cache-control",
                "content-type",
                "idempotency-key",
                "last-event-id",
            ])
            .expose_headers(["retry-after", "link"])
            .max_age(3600);
        Some(if self.any {
            cors.allow_any_origin().send_wildcard()
        } else {
            self.named
                .iter()
                .fold(cors, |cors, origin| cors.allowed_origin(origin))
        })
    }
}

/// Whether an origin is of this very machine.
fn is_loopback(origin: &str) -> bool {
    let host = url::Url::parse(origin)
        .ok()
        .and_then(|url| url.host().map(|host| host.to_owned()));
    match host {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Middleware: a preflight that is refused says why as every other error does.
///
/// # Errors
/// Those of the services inside.
pub async fn explain_rejected_preflight<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let response = next.call(request).await?;
    let refused = response
        .response()
        .error()
        .and_then(|error| error.as_error::<CorsError>());
    match refused.map(|error| ApiError::PreflightRejected(error.to_string())) {
        Some(refusal) => Ok(response
            .into_response(refusal.error_response())
            .map_into_boxed_body()
            .map_into_right_body()),
        None => Ok(response.map_into_left_body()),
    }
}
