//! Connects to a running server.
//!
//! Nothing of the environment changes a request: proxies are not used, and redirects are not
//! followed.

use std::{error::Error as _, time::Duration};

use reqwest::{Certificate, Client, ClientBuilder, Response, redirect::Policy};

use super::target::HealthTarget;

/// A longer response is not that of this server.
const RESPONSE_BYTES_MAX: usize = 64 << 10;

/// Where a server is, and how it is asked.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) target: HealthTarget,
    /// Time for a whole answer.
    pub(crate) timeout: Duration,
    pub(crate) trust: Trust,
}

/// Which certificates are accepted.
#[derive(Debug)]
pub(crate) struct Trust {
    /// Certificates in PEM to trust instead of those of the system.
    pub(crate) certificates: Option<Vec<u8>>,
    /// Accepts any certificate.
    pub(crate) insecure: bool,
}

impl Connection {
    /// Creates a client for the requests of `command`.
    pub(crate) fn client(&self, command: &str) -> Result<Client, String> {
        self.build(command).map_err(|error| describe_error(&error))
    }

    fn build(&self, command: &str) -> reqwest::Result<Client> {
        // Another part of the program may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let target = &self.target;
        let builder = || {
            let builder = Client::builder()
                .user_agent(format!(
                    "sse-server/{} {command}",
                    env!("CARGO_PKG_VERSION")
                ))
                .redirect(Policy::none())
                .no_proxy()
                .timeout(self.timeout)
                // The connection to this machine proves that the server is the own one.
                .tls_danger_accept_invalid_certs(self.trust.insecure || target.is_own);
            match &target.socket {
                Some(path) => builder.unix_socket(path.as_path()),
                None => builder,
            }
        };
        if let Some(pem) = &self.trust.certificates {
            return builder()
                .tls_certs_only(Certificate::from_pem_bundle(pem)?)
                .build();
        }
        build_without_system_certificates(builder, target.url.scheme() == "http" || target.is_own)
    }
}

/// A small container may have no certificates. A client that checks none needs none.
fn build_without_system_certificates(
    builder: impl Fn() -> ClientBuilder,
    needs_none: bool,
) -> reqwest::Result<Client> {
    if needs_none {
        builder().tls_certs_only([]).build()
    } else {
        builder().build()
    }
}

pub(super) async fn read_body(response: Response) -> Result<Vec<u8>, String> {
    read_body_up_to(response, RESPONSE_BYTES_MAX).await
}

/// Reads a body of at most `bytes_max`.
pub(crate) async fn read_body_up_to(
    mut response: Response,
    bytes_max: usize,
) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| describe_error(&error))?
    {
        if body.len() + chunk.len() > bytes_max {
            return Err(format!("it is longer than {} KiB", bytes_max >> 10));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Returns the innermost cause, which names what went wrong.
pub(crate) fn describe_error(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "the time is up".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    if error.source().is_none() {
        error.to_string()
    } else {
        cause.to_string()
    }
}
