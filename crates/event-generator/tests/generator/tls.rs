//! https: which certificates are accepted.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    sync::Arc,
    thread,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

use crate::program::Program;

/// A server with a self-signed certificate for `localhost`, which acknowledges everything. Returns
/// its URL and its certificate as PEM. Its threads end with the test process.
fn https_server() -> (String, String) {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
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
                let response = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nConnection: close\r\n\r\n{\"id\":\"7-0\"}";
                // The outcome is what the test checks.
                let _ = stream.get_mut().write_all(response);
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
fn a_self_signed_certificate_needs_insecure_or_cacert() {
    let (url, certificate) = https_server();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("own.pem");
    std::fs::write(&path, certificate).expect("a file");
    let own = path.to_str().expect("a plain path");
    let publish = |extra: &[&str]| {
        let arguments = ["--url", &url, "--count", "1"];
        Program::run(arguments.into_iter().chain(extra.iter().copied()))
    };
    let ended = publish(&[]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr_text().contains("--cacert") && ended.stderr_text().contains("--insecure"),
        "{ended:?}"
    );
    for trusting in [&["--insecure"][..], &["--cacert", own]] {
        let ended = publish(trusting);
        assert!(
            ended.stderr_text().contains("acknowledged 1, failed 0"),
            "{trusting:?}: {ended:?}"
        );
    }
    let other = directory.path().join("other.pem");
    std::fs::write(&other, https_server().1).expect("a file");
    let ended = publish(&["--cacert", other.to_str().expect("a plain path")]);
    assert_eq!(ended.code, Some(1));
    let stderr = ended.stderr_text();
    assert!(
        stderr.contains("nor issued by an authority in it")
            && !stderr.contains("give its certificate"),
        "{ended:?}"
    );
    let ended = publish(&["--insecure", "--cacert", own]);
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.stderr_text().contains("remove one of them"),
        "{ended:?}"
    );
}
