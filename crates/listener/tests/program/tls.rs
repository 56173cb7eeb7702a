//! https: a self-signed certificate is rejected without `--insecure` or `--cacert`.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::Arc,
    thread,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

use crate::support::Listener;

/// A server on a free port with a self-signed certificate for `localhost`. It streams one event to
/// clients that trust it. Returns its URL and its certificate as PEM.
fn https_server() -> (String, String) {
    https_server_with(rcgen::IsCa::NoCa)
}

/// Like [`https_server`], with a certificate that is perhaps that of an authority.
fn https_server_with(authority: rcgen::IsCa) -> (String, String) {
    let signing_key = rcgen::KeyPair::generate().expect("a key");
    let names = ["localhost".to_owned()];
    let mut params = rcgen::CertificateParams::new(names).expect("a name");
    params.is_ca = authority;
    let cert = params.self_signed(&signing_key).expect("a certificate");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the usual versions")
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .expect("the key of the certificate");
    let (config, listener) = (
        Arc::new(config),
        TcpListener::bind("127.0.0.1:0").expect("a free port"),
    );
    let port = listener.local_addr().expect("a bound socket").port();
    // The thread ends with the test process.
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let connection =
                ServerConnection::new(Arc::clone(&config)).expect("a sound configuration");
            let mut stream = BufReader::new(StreamOwned::new(connection, socket));
            let head_lines = stream
                .by_ref()
                .lines()
                .map_while(Result::ok)
                .take_while(|line| !line.is_empty());
            // A client that does not trust the server sends no request.
            if head_lines.count() > 0 {
                let response =
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: a\n\n";
                stream
                    .get_mut()
                    .write_all(response)
                    .expect("the listener reads");
            }
        }
    });
    (format!("https://localhost:{port}"), to_pem(cert.der()))
}

/// A certificate as PEM.
fn to_pem(certificate: &[u8]) -> String {
    let base64 = STANDARD.encode(certificate);
    format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n")
}

#[test]
fn a_self_signed_certificate_is_rejected_without_insecure() {
    let (url, _certificate) = https_server();
    let ended = Listener::start(&["--url", &url, "--max-retries", "0"]).wait_for_end();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    assert!(
        ended.stderr.contains("certificate") && ended.stderr.contains("--insecure"),
        "{ended:?}"
    );
    let ended = Listener::start(&["--url", &url, "--insecure", "--count", "1"]).wait_for_end();
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(0), "event: message \ndata: a\n")
    );
}

#[test]
fn a_certificate_of_a_file_is_trusted() {
    let (url, certificate) = https_server();
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.to_str().expect("a plain path").to_owned()
    };
    let own = file("own.pem", &certificate);
    let ended = Listener::start(&["--url", &url, "--cacert", &own, "--count", "1"]).wait_for_end();
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(0), "event: message \ndata: a\n"),
        "{}",
        ended.stderr
    );
    let other = file("other.pem", &https_server().1);
    let arguments = ["--url", &url, "--cacert", &other, "--max-retries", "0"];
    let ended = Listener::start(&arguments).wait_for_end();
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("cannot trust the server")
            && ended.stderr.contains("nor issued by an authority in it")
            && !ended.stderr.contains("give its certificate"),
        "{ended:?}"
    );
    let none = file("none.pem", "no certificate");
    for (arguments, hint) in [
        (
            &["--cacert", none.as_str()][..],
            "none.pem has no certificate",
        ),
        (&["--cacert", "/absent.pem"], "cannot read /absent.pem"),
        (&["--cacert", &own, "--insecure"], "remove one of them"),
    ] {
        let ended = Listener::start(arguments).wait_for_end();
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains(hint), "{ended:?}");
    }
}

/// `openssl req -x509` makes such a certificate.
#[test]
fn the_certificate_of_an_authority_is_not_that_of_a_server() {
    let unconstrained = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let (url, certificate) = https_server_with(unconstrained);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("own.pem");
    std::fs::write(&path, certificate).expect("a file");
    let own = path.to_str().expect("a plain path");
    let arguments = ["--url", &url, "--cacert", own, "--max-retries", "0"];
    let ended = Listener::start(&arguments).wait_for_end();
    assert_eq!(ended.code, Some(1));
    let remedy = "-addext basicConstraints=critical,CA:FALSE";
    assert!(
        ended.stderr.contains(remedy) && !ended.stderr.contains("--cacert"),
        "{ended:?}"
    );
}

#[test]
fn https_to_a_port_for_plain_http_is_named() {
    let server = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("https://{}", server.local_addr().expect("a bound socket"));
    thread::spawn(move || {
        let (mut socket, _) = server.accept().expect("a connection");
        // The listener can close the connection before it has read all.
        let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let _ = std::io::copy(&mut socket, &mut std::io::sink());
    });
    let ended = Listener::start(&["--url", &url, "--max-retries", "0"]).wait_for_end();
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("write http:// instead of https://"),
        "{ended:?}"
    );
}
