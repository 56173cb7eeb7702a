//! A server over TLS whose responses follow from the request: HTTP/2, or HTTP/1.1 without it.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use bytes::Bytes;
use http::{Request, Response};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{raw::STREAM, run::event};

/// What the server does after an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterEvent {
    /// The stream stays open.
    Wait,
    /// The stream ends.
    EndStream,
    /// The stream ends, and then its connection, which accepts no further stream.
    Disconnect,
}

/// A server that sends one event in each response: the one after the last event id.
pub(crate) struct TlsServer {
    port: u16,
    directory: TempDir,
    connections: Arc<AtomicUsize>,
}

impl TlsServer {
    /// Starts a server that offers this protocol (ALPN).
    pub(crate) fn start(protocol: &str, after_event: AfterEvent) -> Self {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(["localhost".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("a certificate");
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("own.pem"), certificate.pem()).expect("a file");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the usual versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
            .expect("the key of the certificate");
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a bound socket");
        let port = listener.local_addr().expect("a bound socket").port();
        let connections = Arc::<AtomicUsize>::default();
        let accepted = Arc::clone(&connections);
        // The thread ends with the test process.
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(accept_all(listener, config, after_event, &accepted));
        });
        Self {
            port,
            directory,
            connections,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// The file with the certificate.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.directory.path().join("own.pem")
    }

    /// Number of connections whose handshake was complete.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn accept_all(
    listener: std::net::TcpListener,
    config: ServerConfig,
    after_event: AfterEvent,
    accepted: &AtomicUsize,
) {
    let listener = TcpListener::from_std(listener).expect("a runtime");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    while let Ok((socket, _)) = listener.accept().await {
        // A client that does not trust the server ends the handshake.
        let Ok(session) = acceptor.accept(socket).await else {
            continue;
        };
        accepted.fetch_add(1, Ordering::Relaxed);
        if session.get_ref().1.alpn_protocol() == Some(b"h2") {
            tokio::spawn(serve_http2(session, after_event));
        } else {
            tokio::spawn(serve_http1(session));
        }
    }
}

/// Sends one event, and reads until the client disconnects.
async fn serve_http1(session: TlsStream<TcpStream>) {
    let mut session = BufReader::new(session);
    let mut line = String::new();
    while session
        .read_line(&mut line)
        .await
        .is_ok_and(|count| count > 2)
    {
        line.clear();
    }
    let body = event(0);
    let chunk = format!("{STREAM}{:x}\r\n{body}\r\n", body.len());
    if session.write_all(chunk.as_bytes()).await.is_ok() {
        let _ = session.flush().await;
        let _ = session.read_line(&mut line).await;
    }
}

async fn serve_http2(session: TlsStream<TcpStream>, after_event: AfterEvent) {
    let mut connection = h2::server::handshake(session).await.expect("HTTP/2");
    let mut open = Vec::new();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        if request.uri().path() != "/stream" {
            let mut body = respond
                .send_response(response(503, "application/json"), false)
                .expect("an open stream");
            body.send_data(
                Bytes::from(r#"{"error":{"code":"busy","message":"busy"}}"#),
                true,
            )
            .expect("an open stream");
            continue;
        }
        let mut body = respond
            .send_response(response(200, "text/event-stream"), false)
            .expect("an open stream");
        let text = format!("retry: 0\n\n{}", event(next_number(&request)));
        let is_last = after_event != AfterEvent::Wait;
        body.send_data(Bytes::from(text), is_last)
            .expect("an open stream");
        open.push(body);
        if after_event == AfterEvent::Disconnect {
            connection.graceful_shutdown();
        }
    }
}

fn response(status: u16, content_type: &str) -> Response<()> {
    Response::builder()
        .status(status)
        .header("content-type", content_type)
        .body(())
        .expect("a response")
}

fn next_number<B>(request: &Request<B>) -> u64 {
    request.headers().get("last-event-id").map_or(0, |id| {
        let id = id.to_str().expect("a number").parse::<u64>();
        id.expect("ours") + 1
    })
}
