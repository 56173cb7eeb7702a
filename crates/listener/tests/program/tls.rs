//! https: a self-signed certificate is rejected without `--insecure`.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::Arc,
    thread,
};

use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

use crate::support::Listener;

/// A server on a free port with a self-signed certificate for `localhost`. It streams one event to
/// clients that trust it.
fn https_server() -> String {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
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
    format!("https://localhost:{port}")
}

#[test]
fn a_self_signed_certificate_is_rejected_without_insecure() {
    let url = https_server();
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
