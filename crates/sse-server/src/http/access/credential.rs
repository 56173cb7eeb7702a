//! The credential of a request: where a client may put it, and which one counts.
//!
//! | place | kinds | routes |
//! |---|---|---|
//! | `Authorization: Bearer` | API key, JWT, ticket | all |
//! | the parameter `access_token` | JWT, ticket | `GET /stream`, `GET /events` |
//! | the cookie | JWT, ticket | `GET /stream`, `GET /events`, `/admin` |
//!
//! A client that writes the header or the parameter means it, so these take precedence over the
//! cookie, which a browser adds by itself. For the same reason a cookie counts only if the browser
//! states that no page of a foreign site sent the request ([`cookie_counts`]). Neither a cookie nor a URL
//! ever publishes: an `<img>` on any page could send them.

use std::borrow::Cow;

use actix_web::{
    HttpRequest,
    http::{
        Method,
        header::{self, HeaderName},
    },
};

use super::origins::Origins;
use crate::{
    access::CredentialSource,
    http::{
        error::{ApiError, ApiResult},
        request::{
            header::header_text,
            query::{MoreThanOne, at_most_one, find_param},
        },
    },
};

/// The parameter with a token, on the routes that read channels.
pub(crate) const ACCESS_TOKEN: &str = "access_token";
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// A credential as the client sent it.
pub(super) struct PresentedCredential<'a> {
    pub(super) text: Cow<'a, str>,
    pub(super) source: CredentialSource,
}

impl<'a> PresentedCredential<'a> {
    /// Returns the credential that counts, or `None` if the request has none.
    ///
    /// # Errors
    ///
    /// - `RepeatedHeader`: there are two `Authorization` headers.
    /// - `ConflictingCredentials`: the header and the URL have different ones.
    pub(super) fn of_request(
        request: &'a HttpRequest,
        cookie_name: &str,
        origins: &Origins,
    ) -> ApiResult<Option<Self>> {
        let in_url = if reads_channels(request) {
            find_param(request.query_string(), ACCESS_TOKEN)?
        } else {
            None
        };
        match (bearer(request)?, in_url) {
            (Some(header), Some(url)) if header != url => Err(ApiError::ConflictingCredentials),
            (Some(header), _) => Ok(Some(Self::new(header, CredentialSource::Header))),
            (None, Some(url)) => Ok(Some(Self::new(url.into(), CredentialSource::Url))),
            (None, None) => Ok(Self::in_cookie(request, cookie_name, origins)),
        }
    }

    const fn new(text: Cow<'a, str>, source: CredentialSource) -> Self {
        Self { text, source }
    }

    fn in_cookie(request: &'a HttpRequest, name: &str, origins: &Origins) -> Option<Self> {
        let is_read = reads_channels(request) || is_admin(request);
        if !is_read || !cookie_counts(request, origins) {
            return None;
        }
        let text = find_cookie(request, name)?;
        Some(Self::new(text, CredentialSource::Cookie))
    }
}

/// Whether the request is `GET /stream` or `GET /events`.
fn reads_channels(request: &HttpRequest) -> bool {
    request.method() == Method::GET && matches!(request.path(), "/stream" | "/events")
}

fn is_admin(request: &HttpRequest) -> bool {
    request.path().starts_with("/admin/")
}

/// Returns the text after `Bearer`; `None` without the header, or if it has another scheme, which a
/// proxy may have checked.
fn bearer(request: &HttpRequest) -> ApiResult<Option<Cow<'_, str>>> {
    let values = request.headers().get_all(header::AUTHORIZATION);
    let value =
        at_most_one(values).map_err(|MoreThanOne| ApiError::RepeatedHeader("Authorization"))?;
    let text = value.map(|value| String::from_utf8_lossy(value.as_bytes()));
    Ok(text.and_then(|text| {
        let (scheme, credential) = text.split_once(' ').unwrap_or((&text, ""));
        let is_bearer = scheme.eq_ignore_ascii_case("bearer");
        is_bearer.then(|| credential.trim().to_owned().into())
    }))
}

/// Whether a page that may read sent the request with its cookie.
///
/// A program that copies a cookie can send the same headers, so this protects only the users of
/// browsers.
fn cookie_counts(request: &HttpRequest, origins: &Origins) -> bool {
    let origin = header_text(request, header::ORIGIN);
    if origin.is_some_and(|origin| origins.is_named_or_own(request, &origin)) {
        return may_change(request, origins);
    }
    let site = header_text(request, SEC_FETCH_SITE);
    let is_of_site =
        site.is_some_and(|site| matches!(&*site, "same-origin" | "same-site" | "none"));
    is_of_site && may_change(request, origins)
}

/// Whether the cookie may authorise the method: a change needs the server's own origin.
fn may_change(request: &HttpRequest, origins: &Origins) -> bool {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return true;
    }
    let origin = header_text(request, header::ORIGIN);
    origin.is_some_and(|origin| origins.is_own(request, &origin))
}

/// Returns the first cookie of this name (RFC 6265, section 4.2).
fn find_cookie<'a>(request: &'a HttpRequest, name: &str) -> Option<Cow<'a, str>> {
    let headers = request.headers().get_all(header::COOKIE);
    let mut headers = headers.filter_map(|value| value.to_str().ok());
    headers.find_map(|value| {
        let mut pairs = value.split(';').filter_map(|pair| pair.split_once('='));
        let pair = pairs.find(|(found, _)| found.trim() == name);
        pair.map(|(_, value)| value.trim().trim_matches('"').into())
    })
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;
    use crate::http::NamedOrigins;

    const NAME: &str = "__Host-sse";

    fn presented(request: TestRequest) -> Result<Option<(String, CredentialSource)>, String> {
        let request = request.to_http_request();
        let origins = Origins::new(&NamedOrigins {
            readers: vec!["https://app.example".parse().unwrap(), "*".parse().unwrap()],
            own: vec!["https://hub.example".parse().unwrap()],
            ..NamedOrigins::default()
        });
        let found = PresentedCredential::of_request(&request, NAME, &origins);
        found
            .map(|found| found.map(|found| (found.text.into_owned(), found.source)))
            .map_err(|error| error.to_string())
    }

    fn get(uri: &str) -> TestRequest {
        TestRequest::get().uri(uri)
    }

    #[test]
    fn the_header_takes_precedence_over_the_cookie() {
        let header = |request: TestRequest, value| {
            presented(request.insert_header((header::AUTHORIZATION, value)))
        };
        let found = |text: &str, source| Ok(Some((text.to_owned(), source)));
        let in_header = CredentialSource::Header;
        assert_eq!(
            header(get("/stream"), "Bearer abc"),
            found("abc", in_header)
        );
        assert_eq!(
            header(get("/metrics"), "bearer  abc"),
            found("abc", in_header)
        );
        assert_eq!(header(get("/stream"), "Bearer"), found("", in_header));
        assert_eq!(header(get("/stream"), "Basic abc"), Ok(None));
        let with_cookie = get("/stream")
            .insert_header((header::COOKIE, "__Host-sse=c"))
            .insert_header(("sec-fetch-site", "same-origin"));
        assert_eq!(header(with_cookie, "Bearer abc"), found("abc", in_header));
        let both = header(get("/stream?access_token=abc"), "Bearer abc");
        assert_eq!(both, found("abc", in_header));
        assert!(header(get("/stream?access_token=x"), "Bearer abc").is_err());
        let twice = get("/stream")
            .append_header((header::AUTHORIZATION, "Bearer a"))
            .append_header((header::AUTHORIZATION, "Bearer a"));
        assert!(presented(twice).is_err());
    }

    #[test]
    fn a_url_has_a_token_only_where_channels_are_read() {
        let found = Ok(Some(("a.b".to_owned(), CredentialSource::Url)));
        assert_eq!(
            presented(get("/stream?channel=x&access_token=a%2Eb")),
            found
        );
        assert_eq!(presented(get("/events?access_token=a.b")), found);
        assert_eq!(presented(get("/metrics?access_token=a.b")), Ok(None));
        let post = TestRequest::post().uri("/events?access_token=a.b");
        assert_eq!(presented(post), Ok(None));
        assert!(presented(get("/stream?access_token=a&access_token=a")).is_err());
    }

    #[test]
    fn a_cookie_counts_only_for_pages_of_the_site_and_never_for_a_publish() {
        let cookie = |request: TestRequest, headers: &[(&'static str, &'static str)]| {
            let request = request.insert_header((header::COOKIE, "a=1; __Host-sse=\"tok\"; b=2"));
            let request = headers
                .iter()
                .fold(request, |request, pair| request.insert_header(*pair));
            presented(request).unwrap().map(|(text, _)| text)
        };
        let counts = Some("tok".to_owned());
        for site in ["same-origin", "same-site", "none"] {
            assert_eq!(cookie(get("/stream"), &[("sec-fetch-site", site)]), counts);
        }
        let named = [
            ("sec-fetch-site", "cross-site"),
            ("origin", "https://app.example"),
        ];
        assert_eq!(cookie(get("/stream"), &named), counts);
        // `*` names no origin.
        let unnamed = [
            ("sec-fetch-site", "cross-site"),
            ("origin", "https://x.example"),
        ];
        assert_eq!(cookie(get("/stream"), &unnamed), None);
        assert_eq!(cookie(get("/stream"), &[]), None);
        let same_origin = [("sec-fetch-site", "same-origin")];
        let post = |uri| TestRequest::post().uri(uri);
        assert_eq!(cookie(post("/event/click"), &same_origin), None);
        assert_eq!(cookie(get("/event/click"), &same_origin), None);
        assert_eq!(cookie(post("/tokens"), &same_origin), None);
        assert_eq!(cookie(get("/admin/streams"), &same_origin), counts);
        assert_eq!(cookie(post("/admin/revocations"), &same_origin), None);
        let own = [
            ("sec-fetch-site", "same-origin"),
            ("origin", "https://hub.example"),
        ];
        assert_eq!(cookie(post("/admin/revocations"), &own), counts);
        let foreign = [("origin", "https://app.example")];
        assert_eq!(cookie(post("/admin/revocations"), &foreign), None);
    }
}
