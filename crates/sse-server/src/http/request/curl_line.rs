//! A command line that would have worked, for the message of an error.
//!
//! A client can put anything into `Host` and the path, and the line is made to be pasted into a
//! shell. So a host with unusual characters is replaced by the server's own address, and quotes in
//! the path are escaped.

use actix_web::{HttpRequest, http::header};

use super::header::header_text;
use crate::{
    Endpoint, ListenAddress,
    http::{request::listen_address::listen_address, state::public_urls},
};

/// Returns a command line for the host, path and query of the request.
///
/// The host and a prefix of the path are those of a public URL, if the operator has named one.
pub(crate) fn curl_line(request: &HttpRequest, content_type: &str, body: &str) -> String {
    let target = target_for_shell(request);
    format!("curl -H 'content-type: {content_type}' -d '{body}' {target}")
}

/// Returns the arguments that lead to this server.
fn target_for_shell(request: &HttpRequest) -> String {
    let host = header_text(request, header::HOST).unwrap_or_default();
    let path = path_for_shell(request);
    let public_urls = public_urls(request);
    let address = listen_address(request);
    let same_host = public_urls.iter().find(|url| url.is_of_host(&host));
    match same_host.or(public_urls.first()) {
        Some(url) => format!("'{}'", url.with_path(&path)),
        // A client that names another host came through a proxy.
        None if is_plain_host(&host) && !is_localhost(&host) => {
            format!("'{}://{host}{path}'", address.scheme())
        }
        None => local_target(&address, &host, &path),
    }
}

/// Returns the arguments for a client on this machine.
fn local_target(address: &ListenAddress, host: &str, path: &str) -> String {
    match address.endpoint() {
        Endpoint::Unix(_) => {
            format!("--unix-socket SOCKET 'http://localhost{path}'")
        }
        Endpoint::Tcp(_) if is_plain_host(host) => {
            format!("'{}://{host}{path}'", address.scheme())
        }
        Endpoint::Tcp(_) => format!("'{}{path}'", address.url()),
    }
}

fn is_plain_host(host: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".:-_[]".contains(&byte);
    !host.is_empty() && host.bytes().all(is_plain)
}

/// Whether a client that has no name for the server sent this host.
fn is_localhost(host: &str) -> bool {
    host.split(':').next() == Some("localhost")
}

fn path_for_shell(request: &HttpRequest) -> String {
    request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str())
        .replace('\'', "%27")
}
