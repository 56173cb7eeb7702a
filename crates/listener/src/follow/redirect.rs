//! The target of a redirect, and whether the secrets of the request may be sent there. Pure.
//!
//! reqwest's own redirects send too much: custom headers go to any host, `Authorization` is dropped
//! at the hop to another host but sent again at the hop after it (0.13.5, by tower-http 0.6.11),
//! and `Referer` reveals the query to the next host.

use reqwest::{
    Method, StatusCode,
    header::{HeaderMap, LOCATION},
};
use url::Url;

/// Limit of redirects in a row.
const REDIRECTS_MAX: usize = 10;

/// The route of a request from the URL of the user, over its redirects.
#[derive(Debug, Clone)]
pub struct Route {
    start: Url,
    url: Url,
    redirects: usize,
    trusted: bool,
    method: Method,
    /// No redirect has turned the request into a GET.
    has_body: bool,
}

/// Why a redirect cannot be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RedirectError {
    /// The redirects probably form a circle.
    #[error("more than {REDIRECTS_MAX} in a row")]
    TooMany,
    /// The target is not HTTP.
    #[error("to a URL that is neither http nor https")]
    Scheme,
}

impl Route {
    /// The start of a route: the URL and the method of the user.
    #[must_use]
    pub fn new(start: &Url, method: Method) -> Self {
        Self {
            start: start.clone(),
            url: start.clone(),
            redirects: 0,
            trusted: true,
            method,
            has_body: true,
        }
    }

    /// The URL of the next request. Its user and password are those of the user, or none.
    #[must_use]
    pub const fn url(&self) -> &Url {
        &self.url
    }

    /// The method of the next request.
    #[must_use]
    pub const fn method(&self) -> &Method {
        &self.method
    }

    /// Returns `true` if the next request has the body.
    #[must_use]
    pub const fn has_body(&self) -> bool {
        self.has_body
    }

    /// Returns `true` if the route has never left the origin (scheme, host and port) of the user's
    /// URL.
    ///
    /// A route that has left the origin stays untrusted, even if it returns to it: another server
    /// must not choose the URL that receives the user's secrets.
    #[must_use]
    pub const fn is_trusted(&self) -> bool {
        self.trusted
    }

    /// Extends the route if the response is a redirect. Returns `false` if it is none.
    ///
    /// # Errors
    /// The redirect cannot be followed.
    pub fn follow_redirect(
        &mut self,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Result<bool, RedirectError> {
        let Some(mut next) = self.redirect_target(status, headers) else {
            return Ok(false);
        };
        if !matches!(next.scheme(), "http" | "https") {
            return Err(RedirectError::Scheme);
        }
        if self.redirects == REDIRECTS_MAX {
            return Err(RedirectError::TooMany);
        }
        self.redirects += 1;
        self.trusted &= next.origin() == self.start.origin();
        let start = Some(&self.start).filter(|_| self.trusted);
        set_credentials(
            &mut next,
            start.map_or("", Url::username),
            start.and_then(Url::password),
        );
        self.url = next;
        if becomes_get(status, &self.method) {
            self.method = Method::GET;
            self.has_body = false;
        }
        Ok(true)
    }

    fn redirect_target(&self, status: StatusCode, headers: &HeaderMap) -> Option<Url> {
        if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
            return None;
        }
        let location = headers.get(LOCATION)?;
        self.url
            .join(std::str::from_utf8(location.as_bytes()).ok()?)
            .ok()
    }
}

/// The rule of browsers (Fetch standard, "HTTP-redirect fetch").
fn becomes_get(status: StatusCode, method: &Method) -> bool {
    match status {
        StatusCode::SEE_OTHER => *method != Method::GET,
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => *method == Method::POST,
        _ => false,
    }
}

fn set_credentials(url: &mut Url, user: &str, password: Option<&str>) {
    url.set_username(user)
        .and_then(|()| url.set_password(password))
        .expect("an http URL has a host");
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    /// The route from `http://u:p@h:1/s` over these locations: each URL, and whether it is trusted.
    fn route_over(locations: &[&str]) -> Vec<(String, bool)> {
        let mut route = Route::new(&"http://u:p@h:1/s".parse().unwrap(), Method::GET);
        let mut hops = Vec::new();
        for location in locations {
            assert_eq!(
                follow_location(&mut route, location),
                Ok(true),
                "{location}"
            );
            hops.push((route.url().to_string(), route.is_trusted()));
        }
        hops
    }

    fn follow_location(route: &mut Route, location: &str) -> Result<bool, RedirectError> {
        let location = HeaderValue::from_bytes(location.as_bytes()).unwrap();
        route.follow_redirect(
            StatusCode::FOUND,
            &HeaderMap::from_iter([(LOCATION, location)]),
        )
    }

    #[test]
    fn secrets_stay_with_the_origin() {
        for location in [
            "/t",
            "t",
            "http://h:1/t",
            "//h:1/t",
            "http://other:secret@h:1/t",
        ] {
            assert_eq!(
                route_over(&[location]),
                [("http://u:p@h:1/t".to_owned(), true)],
                "{location}"
            );
        }
    }

    #[test]
    fn another_origin_gets_no_secrets() {
        for location in [
            "http://h:2/",
            "https://h:1/",
            "http://h.example:1/",
            "http://a:b@h/",
            "http://h:1@evil/",
        ] {
            let [(url, trusted)] = route_over(&[location]).try_into().unwrap();
            assert!(!trusted && !url.contains('@'), "{location}: {url}");
        }
    }

    #[test]
    fn trust_does_not_come_back() {
        let untrusted = |url: &str| (url.to_owned(), false);
        assert_eq!(
            route_over(&["http://evil/", "/again", "http://h:1/chosen", "/on"]),
            [
                "http://evil/",
                "http://evil/again",
                "http://h:1/chosen",
                "http://h:1/on"
            ]
            .map(untrusted)
        );
    }

    #[test]
    fn other_responses_do_not_extend_the_route() {
        let mut route = Route::new(&"http://h/s".parse().unwrap(), Method::GET);
        let location = HeaderMap::from_iter([(LOCATION, HeaderValue::from_static("/t"))]);
        for status in [
            StatusCode::OK,
            StatusCode::CREATED,
            StatusCode::NOT_MODIFIED,
            StatusCode::NOT_FOUND,
        ] {
            assert_eq!(route.follow_redirect(status, &location), Ok(false));
        }
        assert_eq!(
            route.follow_redirect(StatusCode::FOUND, &HeaderMap::new()),
            Ok(false)
        );
        assert_eq!(follow_location(&mut route, "http://"), Ok(false));
        assert_eq!(route.url().as_str(), "http://h/s");
    }

    #[test]
    fn an_endless_route_is_an_error() {
        let mut route = Route::new(&"http://h/s".parse().unwrap(), Method::GET);
        assert_eq!(
            follow_location(&mut route, "ftp://h/"),
            Err(RedirectError::Scheme)
        );
        for _ in 0..REDIRECTS_MAX {
            assert_eq!(follow_location(&mut route, "/s"), Ok(true));
        }
        assert_eq!(
            follow_location(&mut route, "/s"),
            Err(RedirectError::TooMany)
        );
    }

    #[test]
    fn a_redirect_turns_a_post_into_a_get_as_in_browsers() {
        for (status, method, then) in [
            (301, Method::POST, "GET"),
            (302, Method::POST, "GET"),
            (303, Method::POST, "GET"),
            (303, Method::PUT, "GET"),
            (307, Method::POST, "POST"),
            (308, Method::POST, "POST"),
            (302, Method::PUT, "PUT"),
            (303, Method::GET, "GET"),
        ] {
            let mut route = Route::new(&"http://h/s".parse().unwrap(), method.clone());
            let location = HeaderMap::from_iter([(LOCATION, HeaderValue::from_static("/t"))]);
            route
                .follow_redirect(StatusCode::from_u16(status).unwrap(), &location)
                .unwrap();
            let kept = then == method.as_str();
            assert_eq!(
                (route.method().as_str(), route.has_body()),
                (then, kept),
                "{status} {method}"
            );
        }
    }
}
