//! One connection: sends the request, classifies the response, reads the bytes, and detects an idle
//! stream.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Response;
use sse_cli::proxy::Proxy;
use tokio::time::timeout;

use crate::follow::{
    error::{PermanentError, StreamError, TransientError},
    error_message,
    redirect::{RedirectError, Route},
    request::StreamRequest,
    responder::Responder,
    response::ResponseAction,
};

/// The result of a successful request.
#[derive(Debug)]
pub enum Opened {
    /// A stream.
    Stream(Connection),
    /// The stream has ended for good (204).
    NoContent,
}

/// An open stream.
#[derive(Debug)]
pub struct Connection {
    response: Response,
    idle: Duration,
}

/// Requests the events after `last_event_id`, and reads the head of the response.
///
/// # Errors
/// [`StreamError::Transient`] if another attempt can succeed, [`StreamError::Permanent`] if the
/// response is final.
pub async fn open(request: &StreamRequest, last_event_id: &str) -> Result<Opened, StreamError> {
    let idle = request.timeouts().idle;
    let (response, route) = match timeout(idle, send_request(request, last_event_id)).await {
        Ok(result) => result.map_err(StreamError::from)?,
        Err(_elapsed) => return Err(TransientError::Idle(idle).into()),
    };
    let status = response.status();
    let responder = Responder::of(&response, route.url(), request.proxy_for(route.url()));
    match ResponseAction::classify(status, response.headers(), request.retried_statuses()) {
        ResponseAction::Stream => Ok(Opened::Stream(Connection { response, idle })),
        ResponseAction::NoContent => Ok(Opened::NoContent),
        ResponseAction::RetryLater(retry_after) => {
            Err(StreamError::Transient(TransientError::Status {
                status,
                responder,
                message: error_message::read(response).await,
                retry_after,
            }))
        }
        ResponseAction::GiveUp(reason) => Err(StreamError::Permanent(PermanentError::Response {
            reason,
            responder,
            message: error_message::read(response).await,
            without_secrets: origin_without_secrets(request, &route),
        })),
    }
}

/// The origin at the end of the route, if secrets of the request were withheld from it.
fn origin_without_secrets(request: &StreamRequest, route: &Route) -> Option<String> {
    let withheld = request.has_secrets() && !route.is_trusted();
    withheld.then(|| route.url().origin().ascii_serialization())
}

/// Why there is no response.
enum SendError {
    Redirect(RedirectError),
    /// The request failed, perhaps because of this proxy, or of the certificates of `--cacert`.
    Http {
        error: reqwest::Error,
        proxy: Option<Proxy>,
        has_cacert: bool,
    },
}

impl From<SendError> for StreamError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Redirect(error) => PermanentError::Redirect(error).into(),
            SendError::Http { error, .. } if error.is_builder() => {
                PermanentError::Request(error.without_url()).into()
            }
            SendError::Http {
                error,
                proxy,
                has_cacert,
            } => TransientError::from_request(error, proxy, has_cacert).into(),
        }
    }
}

/// Sends the request, and follows redirects.
async fn send_request(
    request: &StreamRequest,
    last_event_id: &str,
) -> Result<(Response, Route), SendError> {
    let mut route = request.initial_route();
    loop {
        let response = request
            .build(&route, last_event_id)
            .send()
            .await
            .map_err(|error| SendError::Http {
                error,
                proxy: request.proxy_for(route.url()),
                has_cacert: request.has_cacert(),
            })?;
        if !route
            .follow_redirect(response.status(), response.headers())
            .map_err(SendError::Redirect)?
        {
            return Ok((response, route));
        }
    }
}

impl Connection {
    /// Waits for the next bytes.
    ///
    /// # Errors
    /// The stream has ended, is broken or is idle.
    pub async fn next_bytes(&mut self) -> Result<Bytes, TransientError> {
        // reqwest's `read_timeout` also counts while the listener does not read, and checks the
        // time before the bytes. A reader of stdout that is slow for longer than `idle` would break
        // an intact stream.
        match timeout(self.idle, self.response.chunk()).await {
            Ok(Ok(Some(bytes))) => Ok(bytes),
            Ok(Ok(None)) => Err(TransientError::Ended),
            Ok(Err(error)) => Err(TransientError::Broken(error)),
            Err(_elapsed) => Err(TransientError::Idle(self.idle)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Write},
        net::{TcpListener, TcpStream},
    };

    use tokio::{sync::oneshot, task::JoinHandle, time};

    use super::*;
    use crate::settings::command_line::follow_settings;

    /// Begins to open a stream, and waits, by the real clock, until the server has read the
    /// request.
    async fn begin_open() -> (JoinHandle<Result<Opened, StreamError>>, TcpStream) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", server.local_addr().unwrap());
        let (read, request_read) = oneshot::channel();
        std::thread::spawn(move || {
            let (socket, _) = server.accept().unwrap();
            BufReader::new(&socket)
                .lines()
                .take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty()))
                .count();
            read.send(socket)
        });
        let settings = follow_settings(&["--url", &url]);
        let request = StreamRequest::new(&settings, settings.target.first_url()).unwrap();
        let opened = tokio::spawn(async move { open(&request, "").await });
        (opened, request_read.await.unwrap())
    }

    /// An open stream whose first bytes, a comment, were read.
    async fn open_stream() -> (Connection, TcpStream) {
        let (opened, mut server) = begin_open().await;
        server
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n:\n\n")
            .unwrap();
        let Opened::Stream(mut connection) = opened.await.unwrap().unwrap() else {
            panic!("expected a stream")
        };
        assert_eq!(connection.next_bytes().await.unwrap(), ":\n\n");
        (connection, server)
    }

    #[tokio::test]
    async fn a_server_without_a_response_is_idle() {
        let (opened, _server) = begin_open().await;
        // From here on, the clock jumps to the next timeout when there is nothing to do.
        time::pause();
        assert!(matches!(
            opened.await.unwrap(),
            Err(StreamError::Transient(TransientError::Idle(_)))
        ));
    }

    #[tokio::test]
    async fn a_stream_without_bytes_is_idle() {
        let (mut connection, _server) = open_stream().await;
        time::pause();
        assert!(matches!(
            connection.next_bytes().await,
            Err(TransientError::Idle(_))
        ));
    }

    #[tokio::test]
    async fn a_stream_that_the_listener_did_not_read_for_long_is_not_idle() {
        let (mut connection, mut server) = open_stream().await;
        server.write_all(b"data: a\n\n").unwrap();
        time::pause();
        time::advance(2 * connection.idle).await;
        assert_eq!(connection.next_bytes().await.unwrap(), "data: a\n\n");
    }
}
