//! Requests by reqwest, which supports TLS, proxies and basic authentication.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use reqwest::{ClientBuilder, redirect, retry};
use sse_cli::{
    proxy::Proxy,
    retry_after::parse_retry_after,
    tls::{NOT_TLS, TlsTrust, is_not_tls, is_untrusted, untrusted_remedy},
};

use super::{
    response::{NoResponse, RESPONSE_BYTES_MAX, Response, root_cause},
    timeouts::{CONNECT_TIMEOUT, IDLE_TIMEOUT},
};
use crate::request::{OutgoingRequest, base_url::BaseUrl};

/// A client with a pool of connections.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: BaseUrl,
    proxy: Option<Proxy>,
    /// Whether `--cacert` was given.
    has_cacert: bool,
}

impl Client {
    pub(super) fn new(
        base: &BaseUrl,
        trust: TlsTrust<'_>,
        socket: Option<&Path>,
        request_timeout: Duration,
    ) -> Result<Self, reqwest::Error> {
        let builder = || {
            let builder = trust
                .apply(ClientBuilder::new())
                .connect_timeout(CONNECT_TIMEOUT)
                .timeout(request_timeout)
                .pool_idle_timeout(IDLE_TIMEOUT)
                .tcp_nodelay(true)
                .retry(retry::never())
                .redirect(redirect::Policy::none());
            match socket {
                Some(path) => builder.unix_socket(path).no_proxy(),
                None if base.is_loopback() => builder.no_proxy(),
                None => builder,
            }
        };
        let client = match builder().build() {
            // Plain HTTP also works on a machine without certificates, like a bare container.
            Err(_) if base.is_plain() => builder().tls_certs_only([]).build(),
            built => built,
        }?;
        Ok(Self {
            http: client,
            base: base.clone(),
            proxy: base.proxy().filter(|_| socket.is_none()),
            has_cacert: trust.trusted.is_some(),
        })
    }

    pub(super) async fn send(&self, outgoing: OutgoingRequest) -> Result<Response, NoResponse> {
        let OutgoingRequest {
            method,
            target,
            headers,
            body,
        } = outgoing;
        let url = self
            .base
            .join(&target)
            .map_err(|error| NoResponse::Connect(error.to_string()))?;
        match self
            .http
            .request(method, url)
            .headers(headers)
            .body(body)
            .send()
            .await
        {
            Ok(mut response) => {
                let body = read_body(&mut response).await.unwrap_or_default();
                Ok(Response {
                    status: response.status(),
                    retry_after: parse_retry_after(response.headers()),
                    body,
                })
            }
            Err(error) => Err(self.classify_error(error)),
        }
    }

    fn classify_error(&self, error: reqwest::Error) -> NoResponse {
        let error = error.without_url();
        // Check in this order: a timeout while connecting is a timeout too, but nothing was sent.
        if error.is_connect() || error.is_builder() {
            NoResponse::Connect(self.describe_connect_error(&error))
        } else if error.is_timeout() {
            NoResponse::Timeout
        } else {
            NoResponse::Broken(root_cause(&error))
        }
    }

    fn describe_connect_error(&self, error: &reqwest::Error) -> String {
        let cause = root_cause(error);
        match &self.proxy {
            _ if is_untrusted(error) => format!(
                "cannot trust the server: {cause}; {}",
                untrusted_remedy(error, self.has_cacert)
            ),
            _ if is_not_tls(error) => NOT_TLS.to_owned(),
            Some(proxy) => format!("{proxy}: {cause}"),
            None => cause,
        }
    }
}

async fn read_body(response: &mut reqwest::Response) -> Result<Bytes, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > RESPONSE_BYTES_MAX {
            break;
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.into())
}
