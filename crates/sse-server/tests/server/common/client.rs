//! A client whose responses must be as `openapi.yaml` describes them.
//!
//! It has the methods of reqwest's client that the tests use. A response that the description lacks
//! panics where the test waits for it.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use reqwest::{Body, Method, Response, ResponseBuilderExt as _, Url, header};
use serde::Serialize;

use super::api_description::Exchange;

/// Bytes of a body that is checked. A larger one is left to the test, which may read it slowly.
const BODY_MAX: u64 = 64 << 10;

/// Sends requests.
#[derive(Clone)]
pub(crate) struct Client(reqwest::Client);

impl From<reqwest::Client> for Client {
    fn from(client: reqwest::Client) -> Self {
        Self(client)
    }
}

impl Client {
    pub(crate) fn request(&self, method: Method, url: impl reqwest::IntoUrl) -> RequestBuilder {
        RequestBuilder(self.0.request(method, url))
    }

    pub(crate) fn get(&self, url: impl reqwest::IntoUrl) -> RequestBuilder {
        self.request(Method::GET, url)
    }

    pub(crate) fn head(&self, url: impl reqwest::IntoUrl) -> RequestBuilder {
        self.request(Method::HEAD, url)
    }

    pub(crate) fn post(&self, url: impl reqwest::IntoUrl) -> RequestBuilder {
        self.request(Method::POST, url)
    }

    pub(crate) fn put(&self, url: impl reqwest::IntoUrl) -> RequestBuilder {
        self.request(Method::PUT, url)
    }

    pub(crate) fn delete(&self, url: impl reqwest::IntoUrl) -> RequestBuilder {
        self.request(Method::DELETE, url)
    }
}

/// A request that is being made.
pub(crate) struct RequestBuilder(reqwest::RequestBuilder);

impl RequestBuilder {
    pub(crate) fn header<K, V>(self, name: K, value: V) -> Self
    where
        HeaderName: TryFrom<K, Error: Into<http::Error>>,
        HeaderValue: TryFrom<V, Error: Into<http::Error>>,
    {
        Self(self.0.header(name, value))
    }

    pub(crate) fn bearer_auth(self, credential: impl std::fmt::Display) -> Self {
        Self(self.0.bearer_auth(credential))
    }

    pub(crate) fn body(self, body: impl Into<Body>) -> Self {
        Self(self.0.body(body))
    }

    pub(crate) fn json<T: Serialize + ?Sized>(self, json: &T) -> Self {
        Self(self.0.json(json))
    }

    pub(crate) fn timeout(self, timeout: Duration) -> Self {
        Self(self.0.timeout(timeout))
    }

    /// Sends the request, and checks the response.
    pub(crate) async fn send(self) -> reqwest::Result<Response> {
        let (client, request) = self.0.build_split();
        let request = request?;
        let (method, url) = (request.method().clone(), request.url().clone());
        let response = client.execute(request).await?;
        checked(&method, &url, response).await
    }
}

async fn checked(method: &Method, url: &Url, response: Response) -> reqwest::Result<Response> {
    let exchange = |response: &Response, body: Option<&[u8]>| {
        let checked = Exchange {
            method,
            path: url.path(),
            status: response.status(),
            headers: response.headers(),
            body,
        };
        if let Err(why) = checked.check() {
            panic!("{why}");
        }
    };
    if !is_small_json(&response) || method == Method::HEAD {
        exchange(&response, None);
        return Ok(response);
    }
    let mut head = http::Response::builder()
        .status(response.status())
        .version(response.version())
        .url(url.clone());
    if let Some(headers) = head.headers_mut() {
        headers.clone_from(response.headers());
    }
    let body = response.bytes().await?;
    let response = |body| Response::from(head.body(body).expect("a response"));
    let response = response(body.clone());
    exchange(&response, Some(&body));
    Ok(response)
}

fn is_small_json(response: &Response) -> bool {
    let content_type = response.headers().get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    content_type.is_some_and(|found| found.starts_with("application/") && found.contains("json"))
        && response
            .content_length()
            .is_some_and(|length| length <= BODY_MAX)
}
