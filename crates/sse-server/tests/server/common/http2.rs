//! A client over HTTP/2 that reads the wire.

use std::{net::SocketAddr, path::Path, sync::Arc};

use bytes::Bytes;
use h2::{
    RecvStream, SendStream,
    client::{Connection, ResponseFuture, SendRequest},
};
use http::{Request, Response, StatusCode};
use rustls::ClientConfig;
use tokio::{net::TcpStream, task::JoinHandle};
use tokio_rustls::client::TlsStream;

use super::{
    api_description::Exchange,
    https::{client_settings, handshake},
    within,
};

/// Settings of a client that trusts one certificate and offers these protocols.
pub(crate) fn settings_with_alpn(certificate: &Path, protocols: &[&[u8]]) -> Arc<ClientConfig> {
    let settings = client_settings(certificate, rustls::ALL_VERSIONS);
    let mut settings = Arc::unwrap_or_clone(settings);
    settings.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Arc::new(settings)
}

/// A client with one connection.
pub(crate) struct Http2Client {
    requests: SendRequest<Bytes>,
    pub(crate) connection: JoinHandle<Result<(), h2::Error>>,
}

impl Http2Client {
    pub(crate) async fn connect(address: SocketAddr, certificate: &Path) -> Self {
        let settings = settings_with_alpn(certificate, &[b"h2", b"http/1.1"]);
        let tcp = within("a connection", TcpStream::connect(address)).await;
        let tls = handshake(tcp.unwrap(), settings, "localhost")
            .await
            .unwrap();
        assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (requests, connection): (_, Connection<TlsStream<TcpStream>, Bytes>) =
            h2::client::handshake(tls).await.unwrap();
        Self {
            requests,
            connection: tokio::spawn(connection),
        }
    }

    pub(crate) async fn send(
        &self,
        request: http::request::Builder,
        body: &[u8],
    ) -> Response<RecvStream> {
        let mut requests = self.requests.clone().ready().await.unwrap();
        let request = request.body(()).unwrap();
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let (response, mut stream) = requests.send_request(request, body.is_empty()).unwrap();
        if !body.is_empty() {
            stream
                .send_data(Bytes::copy_from_slice(body), true)
                .unwrap();
        }
        let response = within("a response", response).await.unwrap();
        let exchange = Exchange {
            method: &method,
            path: uri.path(),
            status: response.status(),
            headers: response.headers(),
            body: None,
        };
        exchange.check().unwrap();
        response
    }

    /// Sends a request whose body stays open.
    pub(crate) async fn open(
        &self,
        request: http::request::Builder,
    ) -> (ResponseFuture, SendStream<Bytes>) {
        let mut requests = self.requests.clone().ready().await.unwrap();
        let request = request.body(()).unwrap();
        requests.send_request(request, false).unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Response<RecvStream> {
        self.send(Request::get(format!("https://localhost{path}")), b"")
            .await
    }

    /// Publishes as a page of this server does.
    pub(crate) async fn publish(&self, channel: &str, data: &str) {
        let uri = format!("https://localhost/event/click?channel={channel}");
        let request = Request::post(uri)
            .header("content-type", "text/plain")
            .header("sec-fetch-site", "same-origin");
        let response = self.send(request, data.as_bytes()).await;
        assert_eq!(response.status(), StatusCode::OK);
    }

    pub(crate) async fn subscribe(&self, path: &str) -> Http2Stream {
        let response = self.get(path).await;
        assert_eq!(response.status(), StatusCode::OK);
        Http2Stream::new(response)
    }
}

/// The body of a stream, as far as it was read.
pub(crate) struct Http2Stream {
    body: RecvStream,
    pub(crate) text: String,
}

impl Http2Stream {
    pub(crate) fn new(response: Response<RecvStream>) -> Self {
        Self {
            body: response.into_body(),
            text: String::new(),
        }
    }

    /// Waits for the end of the stream.
    pub(crate) async fn ended(&mut self) {
        while self.next().await.is_some() {}
    }

    /// Reads the next frame; returns `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<()> {
        let frame = within("a frame", self.body.data()).await?.unwrap();
        self.body
            .flow_control()
            .release_capacity(frame.len())
            .unwrap();
        self.text.push_str(std::str::from_utf8(&frame).unwrap());
        Some(())
    }

    pub(crate) async fn read_until(&mut self, wanted: &str) {
        while !self.text.contains(wanted) {
            self.next().await.expect("the stream has not ended");
        }
    }
}
