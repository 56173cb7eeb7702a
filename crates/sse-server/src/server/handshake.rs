//! TLS handshakes: how many run at a time, and how one runs.
//!
//! A handshake costs a worker about as much as a hundred publishes, and a client can leave it
//! unfinished. So it needs a turn ([`HandshakeTurns`]). A connection whose client has sent nothing
//! waits for no turn. If all turns are taken and others wait, a client that is silent for
//! [`SILENCE_MAX`] loses its turn and its connection, so that unfinished handshakes do not keep others
//! from theirs.
//!
//! The worker moves the messages, and [`HandshakeThreads`] compute. Otherwise publishes would wait for
//! the handshakes of all clients whose messages have arrived.

use std::{io, sync::Arc, time::Duration};

use rustls::ServerConfig;
use tokio::{net::TcpStream, task::yield_now, time::timeout};

use super::{
    handshake_threads::{HandshakeStep, HandshakeThreads},
    handshake_turns::HandshakeTurns,
};
use crate::{
    budget::ClientNet,
    fanout::tls_socket::TlsSocket,
    tls::{TlsSession, with_scratch},
};

/// How long a connection may wait for its turn.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// How long a client may be silent while others wait for its turn.
const SILENCE_MAX: Duration = Duration::from_secs(1);
/// Bytes that a client may send in a handshake. Usually it sends one or two KiB.
const RECEIVED_MAX: usize = 32 << 10;
/// First byte of a TLS connection: the type of a handshake record.
const HANDSHAKE_RECORD: u8 = 22;
/// Response to a client that does not speak TLS.
const NOT_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\n\
    content-length: 53\r\nconnection: close\r\n\r\n\
    This address speaks HTTPS: use https:// in the URL.\r\n";

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("the client does not speak TLS: a port scan, or http:// instead of https://")]
    NotTls,
    #[error("the client closed the connection before its first byte")]
    Unused,
    #[error("it took too long")]
    TimedOut,
    #[error("the server is stopping")]
    Stopping,
    #[error("too many handshakes wait")]
    NoTurn,
    #[error("the client was silent while others waited")]
    Silent,
    #[error("the client sent more than {RECEIVED_MAX} bytes")]
    TooLarge,
    #[error("{0}")]
    Tls(#[from] rustls::Error),
    #[error("the connection ended: {0}")]
    Socket(#[from] io::Error),
}

/// Starts the handshakes of one worker; clones share the limits.
#[derive(Debug, Clone)]
pub(super) struct Handshaker {
    settings: Arc<ServerConfig>,
    turns: HandshakeTurns,
    threads: HandshakeThreads,
}

impl Handshaker {
    pub(super) fn new(settings: Arc<ServerConfig>, threads: HandshakeThreads) -> Self {
        Self {
            settings,
            turns: HandshakeTurns::default(),
            threads,
        }
    }

    /// Runs the handshake of a connection, of which both the first byte and all of the rest may
    /// take `time_max`.
    ///
    /// # Errors
    ///
    /// The connection must be closed.
    pub(super) async fn shake_hands(
        &self,
        socket: TcpStream,
        client: Option<ClientNet>,
        time_max: Duration,
    ) -> Result<TlsSocket, HandshakeError> {
        let first_byte = timeout(time_max, first_byte(&socket)).await;
        if first_byte.map_err(|_| HandshakeError::TimedOut)?? != HANDSHAKE_RECORD {
            reject_plaintext(&socket).await;
            return Err(HandshakeError::NotTls);
        }
        let turn = self.turns.wait(client, WAIT_MAX).await;
        let _turn = turn.ok_or(HandshakeError::NoTurn)?;
        timeout(time_max, self.run(socket))
            .await
            .map_err(|_| HandshakeError::TimedOut)?
    }

    async fn run(&self, socket: TcpStream) -> Result<TlsSocket, HandshakeError> {
        let mut step = HandshakeStep {
            session: Box::new(TlsSession::new(self.settings.clone())?),
            received: Vec::new(),
            plaintext: Vec::new(),
        };
        let mut received_bytes = 0;
        while step.session.is_handshaking() {
            self.wait_for_client(&socket).await?;
            step.received = receive(&socket)?;
            if step.received.is_empty() {
                continue;
            }
            received_bytes += step.received.len();
            if received_bytes > RECEIVED_MAX {
                return Err(HandshakeError::TooLarge);
            }
            let computed = self.threads.compute(step).await;
            let result;
            (step, result) = computed.ok_or(HandshakeError::Stopping)?;
            if let Err(error) = result {
                // The alert is for the client's log, and may be lost.
                let _ = step.session.flush(&mut |bytes| offer(&socket, bytes));
                return Err(error.into());
            }
            // Tickets are the last of what is sent.
            while !step.session.flush(&mut |bytes| offer(&socket, bytes))? {
                socket.writable().await?;
            }
        }
        let _ = step.session.take_accepted();
        Ok(TlsSocket::new(socket, step.session, step.plaintext))
    }

    /// Waits until the client has sent more.
    async fn wait_for_client(&self, socket: &TcpStream) -> Result<(), HandshakeError> {
        loop {
            match timeout(SILENCE_MAX, socket.readable()).await {
                Ok(readable) => return Ok(readable?),
                Err(_) if self.turns.is_full() => return Err(HandshakeError::Silent),
                Err(_) => {}
            }
        }
    }
}

/// Waits for the first byte, which stays in the socket.
async fn first_byte(socket: &TcpStream) -> Result<u8, HandshakeError> {
    let mut byte = [0];
    match socket.peek(&mut byte).await? {
        0 => Err(HandshakeError::Unused),
        _ => Ok(byte[0]),
    }
}

/// Tells a client that does not speak TLS what to do, if it reads that.
async fn reject_plaintext(socket: &TcpStream) {
    let _ = socket.try_write(NOT_TLS);
    // Unread bytes would turn the close into a reset, which may overtake the response.
    with_scratch(|scratch| while socket.try_read(scratch).is_ok_and(|count| count > 0) {});
    yield_now().await;
}

/// Receives what has arrived, if anything has.
fn receive(socket: &TcpStream) -> io::Result<Vec<u8>> {
    with_scratch(|scratch| match socket.try_read(scratch) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(count) => Ok(scratch[..count].to_vec()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Vec::new()),
        Err(error) => Err(error),
    })
}

/// Offers bytes to the socket. Returns `None` if it is full.
fn offer(socket: &TcpStream, bytes: &[u8]) -> io::Result<Option<usize>> {
    match socket.try_write(bytes) {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::NOT_TLS;

    #[test]
    fn the_response_to_plaintext_has_its_length() {
        let text = std::str::from_utf8(NOT_TLS).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())));
    }
}
