//! One connection: the request is sent, the answer judged, the bytes read. It is given up when nothing comes.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Response;
use tokio::time::timeout;

use crate::follow::{
    error::{PermanentError, StreamError, TransientError},
    error_message,
    redirect::{RedirectError, Route},
    request::StreamRequest,
    response::ResponseAction,
};

/// What came of a request.
#[derive(Debug)]
pub enum Opened {
    /// Bytes of events follow.
    Stream(Connection),
    /// The server has no more for us (204).
    NoContent,
}

/// An open stream.
#[derive(Debug)]
pub struct Connection {
    response: Response,
    idle: Duration,
}

/// Sends the request for what follows `last_event_id` and reads the head of the answer.
///
/// # Errors
/// [`StreamError::Transient`] if another attempt can succeed, [`StreamError::Permanent`] if the response is final.
pub async fn open(request: &StreamRequest, last_event_id: &str) -> Result<Opened, StreamError> {
    let idle = request.timeouts().idle;
    let (response, route) = match timeout(idle, send_request(request, last_event_id)).await {
        Ok(Ok(answered)) => answered,
        Ok(Err(SendError::Redirect(error))) => return Err(PermanentError::Redirect(error).into()),
        Ok(Err(SendError::Http(error))) if error.is_builder() => {
            return Err(PermanentError::Request(error.without_url()).into());
        }
        Ok(Err(SendError::Http(error))) => return Err(TransientError::from(error).into()),
        Err(_elapsed) => return Err(TransientError::Idle(idle).into()),
    };
    let status = response.status();
    match ResponseAction::classify(status, response.headers()) {
        ResponseAction::Stream => Ok(Opened::Stream(Connection { response, idle })),
        ResponseAction::NoContent => Ok(Opened::NoContent),
        ResponseAction::RetryLater(retry_after) => {
            let message = error_message::read(response).await;
            let error = TransientError::Status {
                status,
                message,
                retry_after,
            };
            Err(error.into())
        }
        ResponseAction::GiveUp(wrong) => {
            let withheld = request.has_secrets() && !route.is_trusted();
            let without_secrets = withheld.then(|| route.url().origin().ascii_serialization());
            let error = PermanentError::Response {
                wrong,
                message: error_message::read(response).await,
                without_secrets,
            };
            Err(error.into())
        }
    }
}

/// Why there is no answer.
enum SendError {
    Redirect(RedirectError),
    Http(reqwest::Error),
}

/// Sends the request on, from redirect to redirect.
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
            .map_err(SendError::Http)?;
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
    /// The stream is over, one way or another.
    pub async fn next_bytes(&mut self) -> Result<Bytes, TransientError> {
        // Not reqwest's `read_timeout`: it counts while nobody waits here too, and looks at the clock before the bytes.
        // A reader of stdout that is slow for longer than `idle` would cut a stream that is well.
        match timeout(self.idle, self.response.chunk()).await {
            Ok(Ok(Some(bytes))) => Ok(bytes),
            Ok(Ok(None)) => Err(TransientError::Ended),
            Ok(Err(error)) => Err(error.into()),
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

    /// Begins to open a stream; waits, by the real clock, until the server has read the request.
    async fn opening() -> (JoinHandle<Result<Opened, StreamError>>, TcpStream) {
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
        let request = StreamRequest::new(&settings, &settings.target.urls[0]).unwrap();
        let opened = tokio::spawn(async move { open(&request, "").await });
        (opened, request_read.await.unwrap())
    }

    /// An open stream whose first bytes, a comment, have been read.
    async fn opened() -> (Connection, TcpStream) {
        let (opened, mut server) = opening().await;
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
    async fn a_server_that_never_answers_is_given_up() {
        let (opened, _server) = opening().await;
        // From here on the clock goes to the next time-out as soon as there is nothing to do.
        time::pause();
        assert!(matches!(
            opened.await.unwrap(),
            Err(StreamError::Transient(TransientError::Idle(_)))
        ));
    }

    #[tokio::test]
    async fn a_stream_on_which_nothing_comes_is_given_up() {
        let (mut connection, _server) = opened().await;
        time::pause();
        assert!(matches!(
            connection.next_bytes().await,
            Err(TransientError::Idle(_))
        ));
    }

    #[tokio::test]
    async fn a_stream_that_was_not_read_for_long_is_not_idle() {
        let (mut connection, mut server) = opened().await;
        server.write_all(b"data: a\n\n").unwrap();
        time::pause();
        time::advance(2 * connection.idle).await;
        assert_eq!(connection.next_bytes().await.unwrap(), "data: a\n\n");
    }
}
