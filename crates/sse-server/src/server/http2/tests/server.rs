//! A server whose connections are pipes, and its clients.

use std::{cell::Cell, rc::Rc, time::Duration};

use actix_http::Request;
use actix_service::{Service, ServiceFactory as _};
use actix_web::{HttpResponse, body::BoxBody, dev::AppConfig, dev::ServiceResponse};
use bytes::Bytes;
use futures::future::LocalBoxFuture;
use h2::{RecvStream, client::SendRequest};
use tokio::{
    io::{DuplexStream, duplex},
    sync::oneshot,
    task::{JoinHandle, LocalSet, spawn_local},
};
use tokio_util::sync::CancellationToken;

use super::super::{Http2Connection, Http2Settings, serve_connection, write_queue::KeyUse};
use crate::{
    access::{Access, AccessControl, revocations::Revocations},
    config::{Config, Invocation},
    connections::{ConnectionLimits, ConnectionTable},
    http::AppState,
    metrics::Metrics,
    server::{Resources, app::app, logs::Logs, open_broker},
};

thread_local! {
    static IS_WORN_OUT: Cell<bool> = const { Cell::new(false) };
}

/// Lets the keys of all pipes of this thread wear out.
pub(super) fn wear_keys_out() {
    IS_WORN_OUT.set(true);
}

impl KeyUse for DuplexStream {
    fn is_worn_out(&self) -> bool {
        IS_WORN_OUT.get()
    }
}

/// Bytes that a pipe holds in each direction.
const PIPE_BYTES: usize = 64 << 10;
const LIMITS: ConnectionLimits = ConnectionLimits {
    open_max: 1000,
    reserve: 10,
    client_max: 1000,
    client_streams_max: 1000,
};

/// The app, with a service that can be named.
pub(super) struct BoxedApp(BoxedCall);

type BoxedCall =
    Box<dyn Fn(Request) -> LocalBoxFuture<'static, Result<ServiceResponse<BoxBody>, HttpResponse>>>;

impl Service<Request> for BoxedApp {
    type Response = ServiceResponse<BoxBody>;
    type Error = HttpResponse;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Self::Error>>;

    actix_service::always_ready!();

    fn call(&self, request: Request) -> Self::Future {
        (self.0)(request)
    }
}

pub(super) struct TestServer {
    pub(super) state: AppState,
    pub(super) table: ConnectionTable,
    pub(super) stopping: CancellationToken,
    write_timeout: Duration,
    app: Rc<BoxedApp>,
    /// Connections that have not ended.
    open: Rc<Cell<usize>>,
}

/// Runs a test with a server that has these arguments in addition.
pub(super) async fn with_server<F: Future<Output = ()>>(
    args: &[&str],
    test: impl FnOnce(Rc<TestServer>) -> F,
) {
    let local = LocalSet::new();
    local
        .run_until(async {
            let server = TestServer::start(args, LIMITS).await;
            test(Rc::new(server)).await;
        })
        .await;
}

fn parse_config(args: &[&str]) -> Config {
    let all = ["sse-server", "--memory", "--fanout-threads", "1"];
    match Invocation::from_args(all.iter().chain(args)) {
        Ok(Invocation::Serve(config)) => *config,
        other => panic!("{other:?}"),
    }
}

impl TestServer {
    pub(super) async fn start(args: &[&str], limits: ConnectionLimits) -> Self {
        let config = parse_config(args);
        let metrics = Metrics::new();
        let (failed, _) = oneshot::channel();
        let broker = open_broker::open(&config, metrics.clone(), failed).await;
        let stopping = CancellationToken::new();
        let access = Access::new(config.access.clone());
        let access = AccessControl::new(access, Revocations::default());
        let resources = Resources {
            broker: broker.unwrap(),
            metrics: metrics.clone(),
            logs: Logs::default(),
            certificates: None,
            connections_max: 10_000,
            stopping: stopping.clone(),
        };
        let state = resources.app_state(&config, access, &[]).unwrap();
        let address = "127.0.0.1:5000".parse().unwrap();
        let service = app(state.clone(), address).new_service(AppConfig::default());
        let service = service.await.unwrap();
        let call = move |request| {
            let response = service.call(request);
            let boxed: LocalBoxFuture<'static, _> =
                Box::pin(async move { Ok(response.await?.map_into_boxed_body()) });
            boxed
        };
        Self {
            state,
            table: ConnectionTable::new(limits, metrics),
            stopping,
            write_timeout: config.fanout.write_timeout,
            app: Rc::new(BoxedApp(Box::new(call))),
            open: Rc::default(),
        }
    }

    /// Opens a connection, and returns the client's end of its pipe.
    pub(super) fn open(&self) -> DuplexStream {
        let (client, socket) = duplex(PIPE_BYTES);
        let peer = "192.0.2.7:4000".parse().unwrap();
        let connection = self.table.accept(
            Some("192.0.2.7".parse::<std::net::IpAddr>().unwrap().into()),
            false,
        );
        let connection = Http2Connection {
            socket,
            connection: connection.expect("there is room"),
            peer: Some(peer),
        };
        let settings = Http2Settings {
            write_timeout: self.write_timeout,
            stopping: self.stopping.clone(),
        };
        let (app, open) = (self.app.clone(), self.open.clone());
        open.set(open.get() + 1);
        spawn_local(async move {
            serve_connection(connection, settings, app).await;
            open.set(open.get() - 1);
        });
        client
    }

    /// Connections that have not ended.
    pub(super) fn open_count(&self) -> usize {
        self.open.get()
    }

    pub(super) fn metric(&self, name: &str) -> String {
        let text = self.state.metrics.render();
        let line = text.lines().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("no metric {name}"))
            .to_owned()
    }

    pub(super) async fn connect(&self) -> Client {
        self.connect_with(&h2::client::Builder::new()).await
    }

    pub(super) async fn connect_with(&self, builder: &h2::client::Builder) -> Client {
        let handshake = builder.handshake::<_, Bytes>(self.open());
        let (requests, connection) = handshake.await.unwrap();
        Client {
            requests,
            connection: spawn_local(connection),
        }
    }
}

/// A client with one connection.
pub(super) struct Client {
    pub(super) requests: SendRequest<Bytes>,
    /// How the connection ends.
    pub(super) connection: JoinHandle<Result<(), h2::Error>>,
}

pub(super) type Response = http::Response<RecvStream>;

pub(super) fn request(method: &str, path: &str) -> http::request::Builder {
    http::Request::builder()
        .method(method)
        .uri(format!("https://localhost{path}"))
}

impl Client {
    /// Sends a request with a body, and returns the response as soon as its head is there.
    pub(super) async fn send(
        &self,
        request: http::request::Builder,
        body: &[u8],
    ) -> Result<Response, h2::Error> {
        let mut requests = self.requests.clone().ready().await?;
        let request = request.body(()).unwrap();
        let (response, mut stream) = requests.send_request(request, body.is_empty())?;
        if !body.is_empty() {
            stream.send_data(Bytes::copy_from_slice(body), true)?;
        }
        response.await
    }

    pub(super) async fn get(&self, path: &str) -> Response {
        self.send(request("GET", path), b"").await.unwrap()
    }

    /// Publishes an event, which must be accepted.
    pub(super) async fn publish(&self, channel: &str, data: &str) {
        let path = format!("/event/test?channel={channel}");
        let request = request("POST", &path).header("content-type", "text/plain");
        let response = self.send(request, data.as_bytes()).await.unwrap();
        assert_eq!(response.status(), 200);
    }

    pub(super) async fn open_stream(&self, path: &str) -> Stream {
        let response = self.get(path).await;
        assert_eq!(response.status(), 200);
        Stream::new(response)
    }
}

/// Reads a whole body.
pub(super) async fn body(response: Response) -> String {
    let mut stream = Stream::new(response);
    while let Some(chunk) = stream.next().await {
        chunk.unwrap();
    }
    stream.text
}

/// The body of a response, as far as it was read.
pub(super) struct Stream {
    body: RecvStream,
    pub(super) text: String,
}

impl Stream {
    pub(super) fn new(response: Response) -> Self {
        Self {
            body: response.into_body(),
            text: String::new(),
        }
    }

    /// Reads the next frame; returns `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Result<usize, h2::Error>> {
        let frame = self.body.data().await?;
        Some(frame.map(|bytes| {
            self.body
                .flow_control()
                .release_capacity(bytes.len())
                .unwrap();
            self.text.push_str(std::str::from_utf8(&bytes).unwrap());
            bytes.len()
        }))
    }

    /// Reads until the text contains `wanted`.
    pub(super) async fn read_until(&mut self, wanted: &str) {
        while !self.text.contains(wanted) {
            let frame = self.next().await;
            frame.expect("the stream has not ended").unwrap();
        }
    }

    /// Reads to the end, and returns how the stream ended.
    pub(super) async fn read_to_end(&mut self) -> Result<(), h2::Error> {
        while let Some(frame) = self.next().await {
            frame?;
        }
        Ok(())
    }
}
