//! Which hosts a server on a loopback address answers.
//!
//! If `evil.example` resolves to 127.0.0.1 (DNS rebinding), a page of `evil.example` reaches a
//! server on this machine, and the browser lets it read the responses, because it takes both for
//! one origin. Only the header `Host` shows the foreign name. So such a server answers requests to
//! names of this machine and to the hosts of `--public-url`, and rejects all others:
//!
//! | `Host` | sent by | response |
//! |---|---|---|
//! | `127.0.0.1:5000`, `[::1]`, `localhost`, `app.localhost` | programs and pages of this machine | as usual |
//! | that of a `--public-url`, with any port | clients behind a proxy | as usual |
//! | none (HTTP/1.0) | health checks | as usual |
//! | another | a proxy without `--public-url`, or DNS rebinding | 421 |
//!
//! Another address is not checked, because the network decides who reaches it. Neither is a unix
//! socket: the proxy that leads there decides which hosts it answers.

use std::{borrow::Cow, net::Ipv4Addr};

use actix_web::{
    Error, HttpRequest,
    body::{EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::header,
    middleware::Next,
};
use sse_cli::loopback::{is_loopback_ip, is_loopback_url};
use url::Url;

use super::public_url::PublicUrl;
use crate::{
    ListenAddress,
    http::{
        error::{ApiError, ApiResult, shortened},
        request::{header::header_text, listen_address::listen_address},
        state::public_urls,
    },
};

/// Middleware: rejects a request to a foreign host.
///
/// # Errors
///
/// Those of the services inside.
pub async fn check_host<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    match check(request.request()) {
        Ok(()) => Ok(next.call(request).await?.map_into_left_body()),
        Err(error) => Ok(request.error_response(error).map_into_right_body()),
    }
}

fn check(request: &HttpRequest) -> ApiResult<()> {
    if !is_on_loopback(&listen_address(request)) {
        return Ok(());
    }
    match requested_host(request) {
        Some(host) if !is_loopback_host(&host) && !is_accepted(&host, public_urls(request)) => {
            Err(ApiError::ForeignHost(shortened(host)))
        }
        _ => Ok(()),
    }
}

/// Whether the client named this machine as the host.
pub(crate) fn names_this_machine(request: &HttpRequest) -> bool {
    requested_host(request).is_some_and(|host| is_loopback_host(&host) || is_accepted(&host, &[]))
}

fn is_on_loopback(address: &ListenAddress) -> bool {
    address
        .tcp()
        .is_some_and(|address| is_loopback_ip(address.ip()))
}

/// Returns the host and port that the client requested; `None` if it named none.
///
/// The target of a request can contain them too, and then overrides the header (RFC 9112 §3.2.2).
fn requested_host(request: &HttpRequest) -> Option<Cow<'_, str>> {
    match request.uri().authority() {
        Some(authority) => Some(authority.as_str().into()),
        None => header_text(request, header::HOST),
    }
}

/// Whether the text is a usual spelling of this machine, and perhaps a port.
///
/// This spares nearly all requests the parser of URLs, which takes longer than the rest of the
/// middlewares.
fn is_loopback_host(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name == "localhost"
        || name
            .parse()
            .is_ok_and(|ip: Ipv4Addr| is_loopback_ip(ip.into()))
}

fn is_accepted(host: &str, public_urls: &[PublicUrl]) -> bool {
    // Such characters would make the parser find another host than a browser does.
    let is_plain = !host.contains(['/', '\\', '?', '#', '@']);
    let url = Url::parse(&format!("http://{host}/"));
    is_plain
        && url.is_ok_and(|url| {
            let is_public = |public: &PublicUrl| Some(public.host()) == url.host_str();
            is_loopback_url(&url) || public_urls.iter().any(is_public)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_machine_and_of_public_urls_are_accepted() {
        let public_urls = [
            "https://hub.example.org/live".parse().unwrap(),
            "https://[2001:db8::1]:8443".parse().unwrap(),
        ];
        for host in [
            "localhost",
            "LOCALHOST:5000",
            "app.localhost:1",
            "127.0.0.1:5000",
            "127.9.9.9",
            "[::1]:5000",
            "[::ffff:127.0.0.1]",
            "hub.example.org",
            "Hub.Example.Org:8080",
            "[2001:db8::1]",
        ] {
            assert!(is_accepted(host, &public_urls), "{host}");
        }
        for host in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9"] {
            assert!(is_loopback_host(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:5000",
            "localhost.evil.example",
            "evil.example@localhost",
            "localhost/.evil.example",
            "localhost#.evil.example",
            "127.0.0.1.evil.example",
            "hub.example.org.evil.example",
            "10.0.0.1",
            "[::2]",
            "local host",
        ] {
            assert!(!is_accepted(host, &public_urls), "{host:?}");
            assert!(!is_loopback_host(host), "{host:?}");
        }
    }
}
