//! A server with access rules: an API key per right, and tickets.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use sse_server::access::to_hex;
use tempfile::TempDir;

use crate::common::{
    Backend, RedisServer, RequestBuilder, Subscriber, TestServer, TlsServer, http2::Http2Client,
    server_command, until,
};

/// The keys of the test: the name, and the rights as lines of the configuration.
const KEYS: [(&str, &str); 6] = [
    ("publisher", r#"publish = ["orders.*"]"#),
    ("reader", r#"subscribe = ["orders.*"]"#),
    ("manager", r#"manage = ["orders.*"]"#),
    ("observer", "observe = true"),
    ("admin", "admin = true"),
    (
        "everything",
        "publish = [\"*\"]\nsubscribe = [\"*\"]\nmanage = [\"*\"]\nadmin = true",
    ),
];

/// A server with access rules.
pub(super) struct Deployment {
    pub(super) server: TestServer,
    /// The https address, and the directory with its certificate.
    tls: Option<(SocketAddr, TempDir)>,
    config: String,
    _directory: TempDir,
}

/// Returns the API key of the configuration with this name.
pub(super) fn key(name: &str) -> String {
    let secret: String = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"
        .chars()
        .collect();
    format!("sse_{name}_{secret}")
}

/// Returns the digest of an API key, as the configuration contains it.
pub(super) fn digest(name: &str) -> String {
    to_hex(&sse_server::access::digest(&key(name)))
}

/// Writes the configuration and the signing key, and returns the path of the configuration.
fn write_config(directory: &Path) -> String {
    let signing = directory.join("signing.pem");
    let made = server_command()
        .args(["key", "signing", "--out"])
        .arg(&signing)
        .output()
        .unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let keys = KEYS.map(|(name, rights)| {
        format!(
            "[[access.key]]\nname = \"{name}\"\nsha256 = \"{}\"\n{rights}\n",
            digest(name)
        )
    });
    let text = format!(
        "[access]\ncookie = \"sse\"\n[access.anonymous]\nsubscribe = [\"public.*\"]\n\
         [access.signing]\nkey_file = \"signing.pem\"\n{}",
        keys.concat()
    );
    let path = directory.join("sse.toml");
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

impl Deployment {
    pub(super) async fn start(backend: Backend) -> Self {
        let directory = TempDir::new().unwrap();
        let config = write_config(directory.path());
        let server = TestServer::start_with(backend, &["--config", &config]).await;
        Self::ready(server, config, directory).await
    }

    /// A server with these flags that also listens with TLS.
    pub(super) async fn start_with_tls(flags: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        let config = write_config(directory.path());
        let flags = [&["--config", &config], flags].concat();
        let TlsServer {
            server,
            address,
            files,
        } = TlsServer::start(&flags).await;
        let deployment = Self::ready(server, config, directory).await;
        Self {
            tls: Some((address, files)),
            ..deployment
        }
    }

    pub(super) fn tls(&self) -> (SocketAddr, PathBuf) {
        let (address, files) = self.tls.as_ref().expect("a server with TLS");
        (*address, files.path().join("first.pem"))
    }

    /// A client over HTTP/2.
    pub(super) async fn http_2(&self) -> Http2Client {
        let (address, certificate) = self.tls();
        Http2Client::connect(address, &certificate).await
    }

    /// Opens a stream over TLS and HTTP/1.1, with a credential.
    pub(super) async fn subscribe_over_tls(&self, credential: &str, path: &str) -> Subscriber {
        let (address, certificate) = self.tls();
        let certificate = reqwest::Certificate::from_pem(&fs::read(certificate).unwrap()).unwrap();
        let client = reqwest::Client::builder().no_proxy();
        let client = client.tls_certs_only([certificate]).build().unwrap();
        let request = client.get(format!("https://localhost:{}{path}", address.port()));
        let response = request.bearer_auth(credential).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let mut subscriber = Subscriber::new(response);
        subscriber.next_block().await;
        subscriber
    }

    /// One more node on a Redis, with the same rules.
    pub(super) async fn node(redis: &RedisServer) -> Self {
        let directory = TempDir::new().unwrap();
        let config = write_config(directory.path());
        let server = TestServer::node(redis, &["--config", &config]).await;
        Self::ready(server, config, directory).await
    }

    /// Waits until the server has read the revocations, before which it accepts no credential.
    async fn ready(server: TestServer, config: String, directory: TempDir) -> Self {
        let deployment = Self {
            server,
            tls: None,
            config,
            _directory: directory,
        };
        until("credentials are accepted", async || {
            deployment.is_accepted("observer").await.then_some(())
        })
        .await;
        deployment
    }

    pub(super) async fn is_accepted(&self, name: &str) -> bool {
        let response = self.send_as(name, Method::GET, "/metrics").await;
        response.status() == StatusCode::OK
    }

    /// Replaces a text of the configuration, and lets the server read it again.
    pub(super) fn reconfigure(&self, old: &str, new: &str) {
        let text = self.config();
        assert!(text.contains(old), "{text}");
        self.write_config(&text.replace(old, new));
        self.server.signal("HUP");
    }

    /// Replaces the configuration and lets the server read it again. A file that is half written
    /// is never read.
    fn write_config(&self, text: &str) {
        let new = format!("{}.new", self.config);
        fs::write(&new, text).unwrap();
        fs::rename(&new, &self.config).unwrap();
    }

    /// The text of the configuration.
    pub(super) fn config(&self) -> String {
        fs::read_to_string(&self.config).unwrap()
    }

    /// Writes the configuration, without a signal.
    pub(super) fn restore_config(&self, text: &str) {
        self.write_config(text);
    }

    /// Empties the configuration, and lets the server read it again.
    pub(super) fn empty_config(&self) {
        self.write_config("");
        self.server.signal("HUP");
    }

    pub(super) fn command(&self) -> Command {
        let mut command = server_command();
        command.env("SSE_CONFIG", &self.config);
        command
    }

    pub(super) fn request(&self, method: &Method, path: &str) -> RequestBuilder {
        let request = self
            .server
            .http
            .request(method.clone(), self.server.at(path));
        if *method == Method::POST || *method == Method::PUT {
            request
                .header("content-type", "application/json")
                .body(body_of(path))
        } else {
            request
        }
    }

    /// Sends a request with the API key of this name.
    pub(super) async fn send_as(&self, name: &str, method: Method, path: &str) -> Response {
        let request = self.request(&method, path).bearer_auth(key(name));
        request.send().await.expect("a response")
    }

    /// Creates a ticket.
    pub(super) async fn ticket(&self, creator: &str, body: Value) -> Value {
        let request = self.server.http.post(self.server.at("/tokens"));
        let request = request.bearer_auth(key(creator)).json(&body);
        let response = request.send().await.expect("a response");
        assert_eq!(response.status(), StatusCode::OK);
        response.json().await.unwrap()
    }

    pub(super) async fn revoke(&self, body: Value) {
        let request = self.server.http.post(self.server.at("/admin/revocations"));
        let response = request
            .bearer_auth(key("admin"))
            .json(&body)
            .send()
            .await
            .unwrap();
        assert_eq!(
            response.status(),
            StatusCode::OK,
            "{}",
            response.text().await.unwrap()
        );
    }
}

/// Returns a body that the route accepts.
pub(super) fn body_of(path: &str) -> String {
    let path = path.split('?').next().unwrap_or_default();
    match path {
        "/events" => json!([{"event": "click", "data": 1}]),
        "/tokens" => json!({"subscribe": ["orders.1"]}),
        "/admin/revocations" => json!({"key": "nothing"}),
        "/admin/backup" => json!({"name": "first"}),
        "/admin/access" => json!({"token": "nothing"}),
        path if path.ends_with("/close") => json!({"reason": "completed"}),
        path if path.starts_with("/channels/") => json!({}),
        _ => json!({"page": "/"}),
    }
    .to_string()
}
