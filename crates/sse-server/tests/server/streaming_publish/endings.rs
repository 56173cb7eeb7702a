//! The server ends a streaming publish as it would end a stream of the same caller, over both
//! versions of HTTP.

use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{EncodingKey, Header};
use reqwest::Method;
use serde_json::{Value, json};
use sse_server::access::to_hex;
use tempfile::TempDir;

use super::upload::Upload;
use crate::common::{Backend, TlsServer, until};

const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const VERSIONS: [u8; 2] = [1, 2];

/// The API key of this name.
fn key(name: &str) -> String {
    format!("sse_{name}_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG")
}

/// Writes rules with a key for each version, a key of an operator, and an issuer.
fn write_config(directory: &TempDir) -> String {
    fs::write(directory.path().join("secret"), SECRET).unwrap();
    let key = |name: &str, rights: &str| {
        let digest = to_hex(&sse_server::access::digest(&key(name)));
        format!("[[access.key]]\nname = \"{name}\"\nsha256 = \"{digest}\"\n{rights}\n")
    };
    let text = [
        "[access.anonymous]\nobserve = true\n".to_owned(),
        key("publisher1", "publish = [\"run.*\"]"),
        key("publisher2", "publish = [\"run.*\"]"),
        key("admin", "admin = true"),
        "[[access.issuer]]\nissuer = \"https://id.example\"\naudience = [\"hub\"]\n\
         secret_file = \"secret\"\ngrants = { publish = [\"run.*\"] }\n"
            .to_owned(),
    ];
    let path = directory.path().join("sse.toml");
    fs::write(&path, text.concat()).unwrap();
    path.display().to_string()
}

/// A token that is valid for three seconds, with the 30 s by which clocks may differ.
fn short_token() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let claims = json!({
        "iss": "https://id.example", "aud": "hub", "sub": "u", "exp": now.as_secs() - 27,
    });
    let secret = EncodingKey::from_secret(SECRET.as_bytes()).unwrap();
    jsonwebtoken::encode(&Header::default(), &claims, &secret).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_ends_when_its_credential_expires_or_is_revoked() {
    let directory = TempDir::new().unwrap();
    let config = write_config(&directory);
    let tls = TlsServer::start_on(Backend::Memory, "", &["--config", &config]).await;
    let admin = async |path: &str, body: serde_json::Value| {
        let request = tls.server.http.post(tls.server.at(path));
        let response = request.bearer_auth(key("admin")).json(&body).send().await;
        response.unwrap().status().as_u16()
    };
    until("credentials are accepted", async || {
        (admin("/admin/revocations", json!({"key": "nothing"})).await == 200).then_some(())
    })
    .await;
    for version in VERSIONS {
        let name = format!("publisher{version}");
        let query = format!("channel=run.{version}");
        let mut revoked = Upload::over(version, &tls, &query, Some(&key(&name))).await;
        revoked.send_event("1").await;
        until("the line is stored", async || {
            let stored = tls.server.metric("sse_events_published_total").await;
            (stored >= f64::from(version)).then_some(())
        })
        .await;
        assert_eq!(admin("/admin/revocations", json!({"key": name})).await, 200);
        let outcome = revoked.outcome().await;
        assert_eq!((outcome.status, outcome.count()), (200, 1), "{outcome:?}");
        assert_eq!(outcome.end_word(), Some("right_lost"));
        let again = Upload::over(version, &tls, &query, Some(&key(&name))).await;
        assert_eq!(again.outcome().await.status, 401);

        let expired = Upload::over(version, &tls, &query, Some(&short_token())).await;
        let outcome = expired.outcome().await;
        assert_eq!((outcome.status, outcome.end_word()), (200, Some("expired")));
        let other = Upload::over(version, &tls, "channel=other", Some(&short_token())).await;
        assert_eq!(other.outcome().await.status, 403);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_list_and_close_open_publishes() {
    let directory = TempDir::new().unwrap();
    let config = write_config(&directory);
    let tls = TlsServer::start_on(Backend::Memory, "", &["--config", &config]).await;
    let admin = async |method: Method, path: &str| {
        let request = tls.server.http.request(method, tls.server.at(path));
        let response = request.bearer_auth(key("admin")).send().await.unwrap();
        response.json::<Value>().await.unwrap()
    };
    for version in VERSIONS {
        let name = format!("publisher{version}");
        let query = format!("channel=run.{version}");
        let open = async || {
            let mut upload = Upload::over(version, &tls, &query, Some(&key(&name))).await;
            upload.send_event("1").await;
            let listed = until("the bytes are counted", async || {
                let list = admin(Method::GET, "/admin/streams").await;
                let listed = list["streams"].get(0)?.clone();
                (listed["bytes"].as_u64()? > 0).then_some(listed)
            })
            .await;
            (upload, listed)
        };
        let (upload, listed) = open().await;
        assert_eq!(listed["kind"], "publish");
        assert_eq!(listed["channels"], json!([format!("run.{version}")]));
        assert_eq!(listed["principal"]["key"], name.as_str());
        assert_eq!(listed["address"], "127.0.0.1");
        assert!(listed["since"].is_string(), "{listed}");
        let path = format!("/admin/streams/{}", listed["id"].as_str().unwrap());
        assert_eq!(admin(Method::DELETE, &path).await["closed"], 1);
        let outcome = upload.outcome().await;
        assert_eq!((outcome.status, outcome.count()), (200, 1), "{outcome:?}");
        assert_eq!(outcome.end_word(), Some("closed"));
        let (upload, _) = open().await;
        let path = format!("/admin/streams?key={name}");
        assert_eq!(admin(Method::DELETE, &path).await["closed"], 1);
        assert_eq!(upload.outcome().await.end_word(), Some("closed"));
        until("the list is empty", async || {
            let list = admin(Method::GET, "/admin/streams").await;
            (list["total"] == 0).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_ends_at_the_limits_of_its_caller() {
    let flags = ["--limit-events", "6/h", "--limit-streams", "1"];
    let tls = TlsServer::start(&flags).await;
    for version in VERSIONS {
        let mut upload = Upload::over(version, &tls, "channel=a", None).await;
        upload.send_event("1").await;
        until("the publish is open", async || {
            (tls.server.metric("sse_streaming_publishes").await > 0.5).then_some(())
        })
        .await;
        let second = Upload::over(version, &tls, "channel=a", None).await;
        let outcome = second.outcome().await;
        assert_eq!(outcome.body["error"]["code"], "rate_limited", "{outcome:?}");
        for number in 2..=4 {
            upload.send_event(&number.to_string()).await;
        }
        if version == 1 {
            let outcome = upload.finish().await;
            assert_eq!((outcome.status, outcome.count()), (200, 4));
            continue;
        }
        // Six events are allowed, and the other version has used four.
        let outcome = upload.outcome().await;
        assert_eq!((outcome.status, outcome.count()), (429, 2), "{outcome:?}");
        assert_eq!(outcome.end_word(), Some("rate_limited"));
    }
    assert_eq!(tls.server.history("a").await.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_ends_when_the_server_drains_or_stops() {
    for (signal, ended) in [("TERM", "drain"), ("INT", "shutdown")] {
        let mut tls = TlsServer::start(&["--drain", "2s"]).await;
        let mut uploads = Vec::new();
        for version in VERSIONS {
            let mut upload = Upload::over(version, &tls, "channel=a", None).await;
            upload.send_event("1").await;
            uploads.push(upload);
        }
        until("both lines are stored", async || {
            (tls.server.history("a").await.len() == 2).then_some(())
        })
        .await;
        tls.server.signal(signal);
        for upload in uploads {
            let outcome = upload.outcome().await;
            assert_eq!((outcome.status, outcome.count()), (200, 1), "{outcome:?}");
            assert_eq!(outcome.end_word(), Some(ended));
        }
        let status = crate::common::ended(tls.server.child()).await;
        assert_eq!(status.code(), Some(0));
    }
}

/// Cases that wait for a minute; only `scripts/test --full` runs them.
mod full {
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;
    use crate::common::all_at_once;

    /// More than half of the silence that ends a publish.
    const PAUSE: Duration = Duration::from_secs(35);

    #[tokio::test(flavor = "multi_thread")]
    async fn a_silent_publish_ends_after_a_minute_and_a_blank_line_is_no_silence() {
        let tls = TlsServer::start(&[]).await;
        all_at_once(VERSIONS, |version| {
            let tls = &tls;
            async move {
                let mut upload = Upload::over(version, tls, "channel=a", None).await;
                upload.send_event("1").await;
                sleep(PAUSE).await;
                upload.send("\n").await;
                sleep(PAUSE).await;
                upload.send_event("2").await;
                // The rest of the minute is shorter than the time limit of a test.
                sleep(PAUSE).await;
                let outcome = upload.outcome().await;
                assert_eq!((outcome.status, outcome.count()), (200, 2));
                assert_eq!(outcome.end_word(), Some("silent"));
            }
        })
        .await;
    }
}
