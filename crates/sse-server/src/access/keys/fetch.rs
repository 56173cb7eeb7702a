//! One fetch of a key set over HTTP.
//!
//! The response comes from another machine: its time and its length are limited, redirects are not
//! followed, and only a complete key set counts.

use std::time::Duration;

use jsonwebtoken::Algorithm;
use reqwest::{
    Client, Response, StatusCode,
    header::{ACCEPT, CACHE_CONTROL, ETAG, HeaderMap, IF_NONE_MATCH},
    redirect::Policy,
};
use sse_cli::loopback::is_loopback_url;
use url::Url;

use super::{
    jwk::{SetOrigin, parse_key_set},
    key_set::KeySet,
};

/// A larger response is not read.
const BYTES_MAX: usize = 1 << 20;
/// A longer `ETag` is not sent back.
const ETAG_BYTES_MAX: usize = 1 << 10;

/// Fetches the key set of one URL.
#[derive(Debug)]
pub(super) struct Fetcher {
    client: Client,
    url: Url,
    rsa_algorithm: Algorithm,
    etag: Option<String>,
}

/// What a fetch found.
#[derive(Debug)]
pub(super) struct Fetched {
    /// `None` if the set has not changed.
    pub(super) set: Option<KeySet>,
    /// How long the set is fresh, as the issuer states it.
    pub(super) max_age: Option<Duration>,
}

impl Fetcher {
    /// Creates a client for `url`.
    pub(super) fn new(
        url: Url,
        rsa_algorithm: Algorithm,
        timeout: Duration,
    ) -> Result<Self, String> {
        let client = build_client(&url, timeout)
            .map_err(|error| format!("cannot create an HTTP client: {error}"))?;
        Ok(Self {
            client,
            url,
            rsa_algorithm,
            etag: None,
        })
    }

    /// Fetches the set. Without `has_set` it is fetched even if it has not changed.
    ///
    /// # Errors
    ///
    /// Why there is no set, for the log.
    pub(super) async fn fetch(&mut self, has_set: bool) -> Result<Fetched, String> {
        let mut request = self
            .client
            .get(self.url.clone())
            .header(ACCEPT, "application/json");
        if !has_set {
            self.etag = None;
        }
        if let Some(etag) = &self.etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        let response = request
            .send()
            .await
            .map_err(|error| describe_error(&error))?;
        let max_age = read_max_age(response.headers());
        match response.status() {
            StatusCode::OK => {
                let etag = read_etag(response.headers());
                let body = read_body(response).await?;
                let set = parse_key_set(&body, SetOrigin::Url, self.rsa_algorithm)?;
                self.etag = etag;
                Ok(Fetched {
                    set: Some(set),
                    max_age,
                })
            }
            StatusCode::NOT_MODIFIED if self.etag.is_some() => Ok(Fetched { set: None, max_age }),
            status => Err(format!("the response is {status}")),
        }
    }
}

fn build_client(url: &Url, timeout: Duration) -> reqwest::Result<Client> {
    // Another part of the program may have installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = || {
        let builder = Client::builder()
            .user_agent(concat!("sse-server/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .timeout(timeout);
        if is_loopback_url(url) {
            builder.no_proxy()
        } else {
            builder
        }
    };
    match builder().build() {
        // A small container may have no certificates; plain HTTP needs none.
        Err(error) if error.is_builder() && url.scheme() == "http" => {
            builder().tls_certs_only([]).build()
        }
        built => built,
    }
}

async fn read_body(mut response: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| describe_error(&error))?
    {
        if body.len() + chunk.len() > BYTES_MAX {
            return Err("the response is larger than 1 MiB".to_owned());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn read_etag(headers: &HeaderMap) -> Option<String> {
    let etag = headers.get(ETAG)?.to_str().ok()?;
    (etag.len() <= ETAG_BYTES_MAX).then(|| etag.to_owned())
}

fn read_max_age(headers: &HeaderMap) -> Option<Duration> {
    let directives = headers.get(CACHE_CONTROL)?.to_str().ok()?;
    let mut directives = directives.split(',').map(str::trim);
    let seconds = directives.find_map(|directive| directive.strip_prefix("max-age="))?;
    seconds.parse().ok().map(Duration::from_secs)
}

/// Returns the error and its causes.
fn describe_error(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
