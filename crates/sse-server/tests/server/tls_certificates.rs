//! Certificates: which one a client gets, and how a new one takes the place of an old one.

use std::{fs, path::Path};

use chrono::{Datelike as _, Days, Utc};
use rustls::{pki_types::CertificateDer, pki_types::pem::PemObject as _};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::common::{
    Backend, TestServer, TlsServer, all_at_once, client_settings, free_port,
    https::{handshake, paths, replace, write_pair},
    output_at_start, server_command, until, within,
};

/// Whether a new client that trusts only this certificate accepts the server.
async fn is_accepted(tls: &TlsServer, certificate: &Path) -> bool {
    let settings = client_settings(certificate, rustls::ALL_VERSIONS);
    tls.connect_with(settings).await.is_ok()
}

#[tokio::test]
async fn a_new_certificate_is_used_and_cuts_no_stream() {
    replace_certificate_under(100).await;
}

/// Cases that only `scripts/test --full` runs.
mod full {
    #[tokio::test]
    async fn a_new_certificate_cuts_none_of_a_thousand_streams() {
        super::replace_certificate_under(1000).await;
    }
}

async fn replace_certificate_under(count: usize) {
    let tls = TlsServer::start(&[]).await;
    let request = b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut streams = all_at_once(0..count, |_| async {
        let mut stream = tls.connect().await;
        stream.write_all(request).await.unwrap();
        let mut opening = [0; 100];
        stream.read_exact(&mut opening).await.unwrap();
        stream
    })
    .await;
    let old = tls.files.path().join("old.pem");
    fs::copy(tls.certificate(), &old).unwrap();

    write_pair(tls.files.path(), "first", &["localhost"]);
    until("the new certificate is used", async || {
        is_accepted(&tls, &tls.certificate()).await.then_some(())
    })
    .await;
    assert!(!is_accepted(&tls, &old).await);
    tls.server.publish("sse", "click", "after the change").await;
    for stream in &mut streams {
        let mut received = Vec::new();
        let reading = async {
            while !received.ends_with(b"after the change\n\n\r\n") {
                assert!(stream.read_buf(&mut received).await.unwrap() > 0);
            }
        };
        within("the event", reading).await;
    }
    let subscribers = tls.server.metric("sse_subscribers").await;
    #[expect(clippy::cast_precision_loss, reason = "the number is small")]
    let expected = count as f64 - 0.5;
    assert!(subscribers > expected, "{subscribers} of {count}");
}

#[tokio::test]
async fn a_pair_that_does_not_match_changes_nothing() {
    let tls = TlsServer::start(&[]).await;
    let other = TempDir::new().unwrap();
    write_pair(other.path(), "other", &["localhost"]);
    let old = tls.files.path().join("old.pem");
    fs::copy(tls.certificate(), &old).unwrap();
    let [certificate, key] = paths(tls.files.path(), "first");
    let [other_certificate, other_key] = paths(other.path(), "other");
    replace(
        &certificate,
        &fs::read_to_string(&other_certificate).unwrap(),
    );
    until("the error is logged", async || {
        let log = tls.server.log();
        log.contains("does not belong to the certificate")
            .then_some(())
    })
    .await;
    assert!(is_accepted(&tls, &old).await);
    replace(&key, &fs::read_to_string(&other_key).unwrap());
    until("the new pair is used", async || {
        is_accepted(&tls, Path::new(&other_certificate))
            .await
            .then_some(())
    })
    .await;
    let errors = tls.server.log().matches("ERROR").count();
    assert_eq!(errors, 1, "{}", tls.server.log());
}

/// Writes a certificate that expires within five days, with its key.
fn write_expiring(directory: &Path, file: &str) {
    let mut settings = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let end = Utc::now() + Days::new(5);
    let [month, day] = [end.month(), end.day()].map(|number| u8::try_from(number).unwrap());
    settings.not_after = rcgen::date_time_ymd(end.year(), month, day);
    let key = rcgen::KeyPair::generate().unwrap();
    let signed = settings.self_signed(&key).unwrap();
    let [certificate, key_file] = paths(directory, file);
    replace(&certificate, &signed.pem());
    replace(&key_file, &key.serialize_pem());
}

fn check_config(file: &str) -> std::process::Output {
    let mut command = server_command();
    let command = command.args(["config", "check", file]);
    command.output().unwrap()
}

#[tokio::test]
async fn a_certificate_is_checked_with_its_file_and_reported_before_it_expires() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    write_expiring(path, "hub");
    write_pair(path, "other", &["localhost"]);
    let [certificate, key] = paths(path, "hub");
    let [_, other_key] = paths(path, "other");
    let bind = format!("https://127.0.0.1:{}", free_port());
    let config = |key: &str| {
        let file = path.join("sse.toml").display().to_string();
        let text =
            format!("bind = [\"{bind}\"]\ntls_cert = \"{certificate}\"\ntls_key = \"{key}\"\n");
        fs::write(&file, text).unwrap();
        file
    };
    let mismatch = check_config(&config(&other_key));
    let error = String::from_utf8(mismatch.stderr).unwrap();
    assert_eq!(mismatch.status.code(), Some(2));
    assert!(
        error.contains("does not belong to the certificate"),
        "{error}"
    );
    let file = config(&key);
    let valid = check_config(&file);
    let text = String::from_utf8(valid.stdout).unwrap();
    assert!(
        valid.status.success() && text.contains("expires in 4 days"),
        "{text}"
    );
    // The harness adds an address, so that of the file does not count.
    let flags = ["--config", &file, "--bind", &bind];
    let server = TestServer::start_with(Backend::Memory, &flags).await;
    let ready = server.get("/health/ready").await.unwrap();
    let ready: serde_json::Value = ready.json().await.unwrap();
    assert_eq!(
        ready["warnings"][0]["code"], "certificate_expires",
        "{ready}"
    );
}

#[tokio::test]
async fn the_name_that_a_client_requests_chooses_the_certificate() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    for (file, name) in [("one", "one.example"), ("two", "*.two.example")] {
        write_pair(path, file, &[name]);
    }
    let tables = ["one", "two"].map(|file| {
        let [certificate, key] = paths(path, file);
        format!("[[tls]]\ncert = \"{certificate}\"\nkey = \"{key}\"\n")
    });
    let file = path.join("sse.toml").display().to_string();
    fs::write(&file, tables.concat()).unwrap();
    let port = free_port();
    let bind = format!("https://127.0.0.1:{port}");
    let _server =
        TestServer::start_with(Backend::Memory, &["--config", &file, "--bind", &bind]).await;
    for (name, expected) in [
        ("one.example", "one"),
        ("a.two.example", "two"),
        ("unknown.example", "one"),
        // A client that connects to an address requests no name.
        ("127.0.0.1", "one"),
    ] {
        let tcp = tokio::net::TcpStream::connect(("127.0.0.1", port))
            .await
            .unwrap();
        let [certificate, _] = paths(path, expected);
        let settings = client_settings(Path::new(&certificate), rustls::ALL_VERSIONS);
        let result = handshake(tcp, settings, name).await;
        let sent = CertificateDer::from_pem_file(&certificate).unwrap();
        match result {
            Ok(stream) => {
                let chain = stream.get_ref().1.peer_certificates().unwrap();
                assert_eq!(chain.first(), Some(&sent), "{name}");
            }
            // The certificate is trusted, but for another name.
            Err(error) => {
                assert!(
                    error.to_string().contains("not valid for name"),
                    "{name}: {error}"
                );
                assert!(
                    name.starts_with("unknown") || name.starts_with("127"),
                    "{name}"
                );
            }
        }
    }
}

#[tokio::test]
async fn settings_that_do_not_fit_together_are_errors_that_help() {
    let directory = TempDir::new().unwrap();
    write_pair(directory.path(), "a", &["localhost"]);
    write_pair(directory.path(), "b", &["localhost"]);
    let ([certificate, key], [_, other]) =
        (paths(directory.path(), "a"), paths(directory.path(), "b"));
    let https = "https://127.0.0.1:0";
    for (flags, code, message) in [
        (&["--bind", https][..], 2, "--tls-cert FILE"),
        (
            &["--bind", https, "--tls-cert", &certificate],
            2,
            "--tls-key FILE",
        ),
        (
            &["--tls-cert", &certificate, "--tls-key", &key],
            2,
            "--bind https://",
        ),
        (
            &[
                "--bind",
                https,
                "--tls-cert",
                &certificate,
                "--tls-key",
                &other,
            ],
            1,
            "does not belong to the certificate",
        ),
        (
            &["--bind", https, "--tls-cert", &key, "--tls-key", &key],
            1,
            "contains no certificate",
        ),
        (
            &["--bind", https, "--tls-cert", "missing", "--tls-key", &key],
            1,
            "cannot read missing",
        ),
    ] {
        let directory = TempDir::new().unwrap();
        let mut command = server_command();
        command.arg("--memory").args(flags);
        let output = output_at_start(&mut command, &directory).await;
        assert_eq!(output.code, Some(code), "{flags:?}: {output:?}");
        assert!(output.stderr.contains(message), "{flags:?}: {output:?}");
    }
    let mut command = server_command();
    command.args(["--memory", "--bind", https]);
    command.args(["--tls-cert", &certificate, "--tls-key", &key]);
    let output = output_at_start(&mut command, &directory).await;
    assert!(
        output.stdout.starts_with("https://127.0.0.1:"),
        "{output:?}"
    );
    assert!(
        output.stderr.contains("listening on https://127.0.0.1:"),
        "{output:?}"
    );
}
