//! The dashboard: a page, its script, its style and an icon, which are part of the program.
//!
//! The page contains nothing of this server, so a browser may load it without a credential. What it
//! shows, it reads from the routes of `/admin` and of the API, with the credential that it asks for.
//! All its URLs are relative, because a proxy may serve it below a path.
//!
//! The page is served if `Accept` names `text/html`, which is what a browser sends for a page. Other
//! clients get the list of routes, as on any path that is no route.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, Accept, Header as _, HeaderName, Quality},
};
use actix_web_lab::extract::LocalData;

use super::permission::check_page;
use crate::http::{
    error::{ApiError, ApiResult, shortened},
    state::AppState,
};

const PAGE: &str = include_str!("dashboard/index.html");
const SCRIPT: &str = include_str!("dashboard/dashboard.js");
const ICON: &str = include_str!("dashboard/dashboard.svg");
const STYLE: &str = include_str!("dashboard/dashboard.css");

/// Only the files of the dashboard are used, and no text becomes code: neither a script of an event
/// nor a request that it might cause.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'; require-trusted-types-for 'script'";
const CROSS_ORIGIN_OPENER_POLICY: HeaderName =
    HeaderName::from_static("cross-origin-opener-policy");

/// `GET /`: the page.
pub(crate) async fn page(
    request: HttpRequest,
    state: LocalData<AppState>,
) -> ApiResult<HttpResponse> {
    if !wants_page(&request) {
        let mut response = actix_web::ResponseError::error_response(&ApiError::NotFound(
            shortened(request.uri().path()),
        ));
        response.headers_mut().insert(header::VARY, VARY);
        return Ok(response);
    }
    let mut response = file(&request, &state, "text/html; charset=utf-8", PAGE)?;
    response.headers_mut().insert(header::VARY, VARY);
    Ok(response)
}

const VARY: header::HeaderValue = header::HeaderValue::from_static("Accept");

/// `GET /dashboard.js`.
pub(crate) async fn script(
    request: HttpRequest,
    state: LocalData<AppState>,
) -> ApiResult<HttpResponse> {
    file(&request, &state, "text/javascript; charset=utf-8", SCRIPT)
}

/// `GET /dashboard.css`.
pub(crate) async fn style(
    request: HttpRequest,
    state: LocalData<AppState>,
) -> ApiResult<HttpResponse> {
    file(&request, &state, "text/css; charset=utf-8", STYLE)
}

/// `GET /dashboard.svg`.
pub(crate) async fn icon(
    request: HttpRequest,
    state: LocalData<AppState>,
) -> ApiResult<HttpResponse> {
    file(&request, &state, "image/svg+xml", ICON)
}

fn file(
    request: &HttpRequest,
    state: &AppState,
    content_type: &'static str,
    text: &'static str,
) -> ApiResult<HttpResponse> {
    check_page(request, state)?;
    Ok(HttpResponse::Ok()
        .content_type(content_type)
        .insert_header((header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY))
        .insert_header((CROSS_ORIGIN_OPENER_POLICY, "same-origin"))
        .body(text))
}

/// Whether the client names `text/html`. A program that accepts everything wants no page.
fn wants_page(request: &HttpRequest) -> bool {
    let accept = Accept::parse(request);
    accept.is_ok_and(|accept| {
        accept.iter().any(|accepted| {
            accepted.item.essence_str() == "text/html" && accepted.quality > Quality::ZERO
        })
    })
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn only_a_client_that_names_html_gets_the_page() {
        let wants = |accept: &str| {
            let request = TestRequest::default().insert_header((header::ACCEPT, accept));
            wants_page(&request.to_http_request())
        };
        for accept in [
            "text/html",
            "application/json, text/html;q=0.1",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        ] {
            assert!(wants(accept), "{accept}");
        }
        for accept in [
            "*/*",
            "text/*",
            "application/json",
            "text/html;q=0",
            "",
            "text/html;;",
        ] {
            assert!(!wants(accept), "{accept}");
        }
        assert!(!wants_page(&TestRequest::default().to_http_request()));
    }

    #[test]
    fn the_files_are_small_and_use_nothing_of_other_servers() {
        assert!(PAGE.len() + SCRIPT.len() + STYLE.len() < 120_000);
        for text in [PAGE, SCRIPT, STYLE] {
            // The name of SVG is no address.
            let text = text.replace("http://www.w3.org/2000/svg", "");
            for foreign in [
                "http://",
                "https://",
                "//cdn",
                "@import",
                "innerHTML",
                "eval(",
            ] {
                assert!(!text.contains(foreign), "{foreign}");
            }
        }
        for absolute in ["src=\"/", "href=\"/"] {
            assert!(!PAGE.contains(absolute), "{absolute}");
        }
    }
}
