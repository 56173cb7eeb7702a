//! The three deployments of `docs/security.md`, with the configurations of that page.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use sse_server::access::{digest, to_hex};
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::deployment::key;
use crate::common::{
    Backend, KilledWhenDropped, Subscriber, TestServer, client, free_port, server_command, skip,
    until,
};

const PAGE: &str = include_str!("../../../../../docs/security.md");

/// Returns the blocks of one recipe with this language.
fn blocks(recipe: &str, language: &str) -> Vec<&'static str> {
    let (_, text) = PAGE
        .split_once(&format!("<!-- recipe: {recipe} -->"))
        .unwrap();
    let (text, _) = text.split_once("<!-- end of recipe -->").unwrap();
    let opening = format!("```{language}\n");
    let blocks = text.split(&*opening).skip(1);
    blocks
        .map(|block| block.split_once("```").unwrap().0)
        .collect()
}

/// Starts a server with the configuration of a recipe.
async fn start(recipe: &str, directory: &TempDir, replace: &[(&str, &str)]) -> TestServer {
    let mut text = blocks(recipe, "toml").concat();
    for (old, new) in replace {
        assert!(text.contains(old), "{old} is not in {text}");
        text = text.replace(old, new);
    }
    let path = directory.path().join("sse.toml");
    fs::write(&path, text).unwrap();
    let path = path.display().to_string();
    TestServer::start_with(Backend::Memory, &["--config", &path]).await
}

/// Waits until the server has read the revocations, and returns the status of a request then.
async fn status(send: impl AsyncFn() -> reqwest::Result<Response>) -> StatusCode {
    until("the credential is checked", async || {
        let status = send().await.unwrap().status();
        (status != StatusCode::SERVICE_UNAVAILABLE).then_some(status)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_gateway_only_the_gateway_has_a_key() {
    let directory = TempDir::new().unwrap();
    let digest = to_hex(&digest(&key("gateway")));
    let server = start(
        "gateway",
        &directory,
        &[("<hex of the whole key>", &digest)],
    )
    .await;
    let address = format!("127.0.0.1:{}", free_port());
    let backend = server.url.trim_start_matches("http://");
    let file = directory.path().join("haproxy.cfg");
    let text = blocks("gateway", "haproxy").concat();
    let text = text
        .replace(":8080", &address)
        .replace("127.0.0.1:5000", backend);
    fs::write(&file, text).unwrap();
    let started = Command::new("haproxy")
        .args(["-db", "-q", "-f"])
        .arg(&file)
        .env("SSE_KEY", key("gateway"))
        .stdin(Stdio::null())
        .spawn();
    let Ok(process) = started else {
        return skip("haproxy is not installed, so the recipe for a gateway is not tried");
    };
    let _gateway = KilledWhenDropped(process);
    until("HAProxy listens", async || {
        TcpStream::connect(&address).await.ok()
    })
    .await;
    let url = format!("http://{address}/events?channel=orders.1");
    // The proxy has responses of its own.
    let http = client().build().unwrap();
    let get = async |user: Option<&str>| {
        let request = http.get(&url).header("host", "hub.example.org");
        let request = match user {
            Some(user) => request.basic_auth(user, Some("secret")),
            None => request,
        };
        request.send().await
    };
    let of_alice = async || get(Some("alice")).await;
    assert_eq!(status(of_alice).await, StatusCode::OK);
    let of_a_stranger = async || get(None).await;
    assert_eq!(status(of_a_stranger).await, StatusCode::UNAUTHORIZED);
    let direct = async || server.get("/events?channel=orders.1").await;
    assert_eq!(status(direct).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_passes_tickets_to_its_pages() {
    let directory = TempDir::new().unwrap();
    make_signing_key(directory.path());
    let digest = to_hex(&digest(&key("backend")));
    let server = start(
        "backend",
        &directory,
        &[("<hex of the whole key>", &digest)],
    )
    .await;
    let request = || {
        let request = server
            .http
            .post(server.at("/tokens"))
            .bearer_auth(key("backend"));
        request.json(&json!({"subscribe": ["users.42"], "ttl": "10m", "sub": "42"}))
    };
    let create = async || request().send().await;
    assert_eq!(status(create).await, StatusCode::OK);
    let ticket: Value = request().send().await.unwrap().json().await.unwrap();
    let token = ticket["token"].as_str().unwrap();
    let path = format!("/stream?channel=users.42&access_token={token}");
    let mut page = Subscriber::new(server.get(&path).await.unwrap());
    let publish = server.http.post(server.at("/event/mail?channel=users.42"));
    let published = publish
        .bearer_auth(key("backend"))
        .json(&json!({"from": "bob"}));
    assert_eq!(published.send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(page.next_event().await.event, "mail");
    let other = format!("/stream?channel=users.43&access_token={token}");
    assert_eq!(
        server.get(&other).await.unwrap().status(),
        StatusCode::FORBIDDEN
    );
}

fn make_signing_key(directory: &Path) {
    let made = server_command()
        .args(["key", "signing", "--out"])
        .arg(directory.join("signing.pem"))
        .output()
        .unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn users_of_an_identity_provider_read_their_own_channels() {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let x = BASE64_URL_SAFE_NO_PAD.encode(rcgen::PublicKeyData::der_bytes(&pair));
    let set =
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k1", "use": "sig", "x": x}]});
    let url = serve_forever(&set.to_string());
    let directory = TempDir::new().unwrap();
    let replace = [("https://id.example.org/jwks.json", &*url)];
    let server = start("provider", &directory, &replace).await;
    let token = token_of(&pair, "auth0|7");
    let get = async |channel: &str| {
        let path = format!("/events?channel={channel}");
        let request = server.http.get(server.at(&path)).bearer_auth(&token);
        request.send().await
    };
    let own = async || get("users.auth0~7C7").await;
    assert_eq!(status(own).await, StatusCode::OK);
    let other = async || get("users.auth0~7C8").await;
    assert_eq!(status(other).await, StatusCode::FORBIDDEN);
    let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let forged = token_of(&other, "auth0|7");
    let request = server
        .http
        .get(server.at("/events?channel=users.auth0~7C7"));
    let response = request.bearer_auth(forged).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
}

fn token_of(pair: &rcgen::KeyPair, sub: &str) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let claims = json!({
        "iss": "https://id.example.org",
        "aud": "https://hub.example.org",
        "sub": sub,
        "iat": now,
        "exp": now + 600,
    });
    let header = Header {
        kid: Some("k1".to_owned()),
        ..Header::new(Algorithm::EdDSA)
    };
    let key = EncodingKey::from_ed_pem(pair.serialize_pem().as_bytes()).unwrap();
    encode(&header, &claims, &key).unwrap()
}

/// Serves a key set until the process ends, and returns its URL.
fn serve_forever(body: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
    let response = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let _ = client.read(&mut [0; 4096]);
            let _ = client.write_all(response.as_bytes());
        }
    });
    url
}
