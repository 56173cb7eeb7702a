//! Requests by reqwest, which supports TLS, proxies and basic authentication.

use std::time::Duration;

use bytes::Bytes;
use reqwest::{ClientBuilder, Response, redirect, retry};

use super::{
    reply::{NoReply, REPLY_BYTES_MAX, Reply, root_cause},
    timeouts::{CONNECT_TIMEOUT, IDLE_TIMEOUT},
};
use crate::request::{OutgoingRequest, base_url::BaseUrl};

/// A client with a pool of connections.
#[derive(Debug)]
pub(crate) struct Client {
    client: reqwest::Client,
    base: BaseUrl,
}

impl Client {
    pub(super) fn new(base: &BaseUrl, request_timeout: Duration) -> Result<Self, reqwest::Error> {
        let builder = || {
            let builder = ClientBuilder::new()
                .connect_timeout(CONNECT_TIMEOUT)
                .timeout(request_timeout)
                .pool_idle_timeout(IDLE_TIMEOUT)
                .tcp_nodelay(true)
                .retry(retry::never())
                .redirect(redirect::Policy::none());
            if base.is_loopback() {
                builder.no_proxy()
            } else {
                builder
            }
        };
        let client = match builder().build() {
            // Plain HTTP also works on a machine without certificates, like a bare container.
            Err(_) if base.is_plain() => builder().tls_certs_only([]).build(),
            built => built,
        }?;
        Ok(Self {
            client,
            base: base.clone(),
        })
    }

    pub(super) async fn send(&self, outgoing: OutgoingRequest) -> Result<Reply, NoReply> {
        let OutgoingRequest {
            method,
            target,
            headers,
            body,
        } = outgoing;
        let url = self
            .base
            .join(&target)
            .map_err(|error| NoReply::Connect(error.to_string()))?;
        match self
            .client
            .request(method, url)
            .headers(headers)
            .body(body)
            .send()
            .await
        {
            Ok(mut response) => {
                let body = read_body(&mut response).await.unwrap_or_default();
                Ok(Reply {
                    status: response.status(),
                    body,
                })
            }
            Err(error) => Err(classify_error(error)),
        }
    }
}

async fn read_body(response: &mut Response) -> Result<Bytes, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > REPLY_BYTES_MAX {
            break;
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.into())
}

fn classify_error(error: reqwest::Error) -> NoReply {
    let error = error.without_url();
    // Check in this order: a time-out while connecting is a time-out too, but nothing was sent.
    if error.is_connect() || error.is_builder() {
        NoReply::Connect(root_cause(&error))
    } else if error.is_timeout() {
        NoReply::Timeout
    } else {
        NoReply::Broken(root_cause(&error))
    }
}
