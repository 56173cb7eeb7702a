//! The TLS session of one connection, without its socket.
//!
//! ```text
//! from the socket ─► receive ─► plaintext
//! plaintext ─► write ─► one record ─► send, a function that offers bytes to the socket
//! ```
//!
//! A session encrypts one record at a time, and the next one only when the socket has accepted the
//! last one. It holds what the socket did not accept, and received bytes that are no complete record
//! yet. An idle session has no buffers.
//!
//! After bytes were received, rustls may have something to send, such as an alert. So a reader must
//! look at [`wants_write`](TlsSession::wants_write). The response to a request for new keys is sent
//! with the next record.

mod output;

use std::{fmt, io, mem, sync::Arc};

use rustls::{
    Error, ProtocolVersion, ServerConfig,
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus},
};

/// Records after which a stream over TLS 1.2 ends, because its keys cannot be renewed. AES-GCM must
/// not encrypt 2²⁴ records. A chunk that is larger than the difference to 2²³ does not exist.
const TLS12_RECORDS_MAX: u32 = (1 << 23) - (1 << 17);
/// More than the records of a `close_notify` and of a response to a request for new keys.
const ALERT_BYTES: usize = 256;

/// Number of bytes that a socket has accepted; `None` if it is full.
pub(crate) type SendResult = io::Result<Option<usize>>;

/// The TLS session of one connection.
pub(crate) struct TlsSession {
    connection: UnbufferedServerConnection,
    /// Received bytes that are not decrypted, because their record is not complete.
    incoming: Vec<u8>,
    /// Encrypted bytes that the socket has not accepted, behind the first `sent` bytes.
    outgoing: Vec<u8>,
    sent: usize,
    /// Bytes of plaintext in the record that the socket has not accepted completely.
    in_flight: usize,
    /// Encrypted bytes that the socket has accepted since the last `take_accepted`.
    accepted: usize,
    records: u32,
    is_closed_by_client: bool,
    is_closing: bool,
    has_failed: bool,
}

impl fmt::Debug for TlsSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSession")
            .field("version", &self.connection.protocol_version())
            .field("in_flight", &self.in_flight)
            .finish_non_exhaustive()
    }
}

impl TlsSession {
    /// Starts a session, which waits for the first message of the client.
    ///
    /// # Errors
    ///
    /// The settings contradict themselves.
    pub(crate) fn new(settings: Arc<ServerConfig>) -> Result<Self, Error> {
        Ok(Self {
            connection: UnbufferedServerConnection::new(settings)?,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            sent: 0,
            in_flight: 0,
            accepted: 0,
            records: 0,
            is_closed_by_client: false,
            is_closing: false,
            has_failed: false,
        })
    }

    /// Whether the handshake is not complete.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Whether the client resumed an earlier session.
    pub(crate) fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }

    /// Returns the protocol that the handshake has chosen; `None` if the client named none.
    pub(crate) fn alpn(&self) -> Option<&[u8]> {
        self.connection.alpn_protocol()
    }

    /// Whether the client has closed the session, so that no more plaintext arrives.
    pub(crate) const fn is_closed_by_client(&self) -> bool {
        self.is_closed_by_client
    }

    /// Whether the keys may encrypt no further chunk. Only a session of TLS 1.2 is worn out.
    pub(crate) fn is_worn_out(&self) -> bool {
        self.records >= TLS12_RECORDS_MAX
            && self.connection.protocol_version() == Some(ProtocolVersion::TLSv1_2)
    }

    /// Returns how many received bytes wait for the rest of their record.
    pub(crate) const fn incoming_bytes(&self) -> usize {
        self.incoming.len()
    }

    /// Handles bytes that were received, and passes the `plaintext` in them on.
    ///
    /// # Errors
    ///
    /// The client violates the protocol, or has sent an alert. The session may have an alert to
    /// send, and is over then.
    pub(crate) fn receive(
        &mut self,
        received: &mut [u8],
        plaintext: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Error> {
        if self.has_failed {
            return Err(Error::HandshakeNotComplete);
        }
        if self.incoming.is_empty() {
            let consumed = self.process(received, plaintext)?;
            self.incoming = received[consumed..].to_vec();
            return Ok(());
        }
        let mut incoming = mem::take(&mut self.incoming);
        incoming.extend_from_slice(received);
        let consumed = self.process(&mut incoming, plaintext)?;
        // A session that waits for nothing holds no memory.
        if consumed < incoming.len() {
            incoming.drain(..consumed);
            self.incoming = incoming;
        }
        Ok(())
    }

    /// Handles all complete records of `input`. Returns the bytes that are not needed any more.
    fn process(
        &mut self,
        input: &mut [u8],
        plaintext: &mut dyn FnMut(&[u8]),
    ) -> Result<usize, Error> {
        let mut consumed = 0;
        loop {
            let (discard, may_continue) = self.step(&mut input[consumed..], plaintext);
            consumed += discard;
            match may_continue {
                Ok(true) => {}
                Ok(false) => return Ok(consumed),
                Err(error) => {
                    self.has_failed = true;
                    self.queue_alert(&mut input[consumed..]);
                    return Err(error);
                }
            }
        }
    }

    /// Handles the next message. Returns the bytes that are not needed any more, and whether there
    /// may be a further message.
    fn step(
        &mut self,
        input: &mut [u8],
        plaintext: &mut dyn FnMut(&[u8]),
    ) -> (usize, Result<bool, Error>) {
        let UnbufferedStatus { mut discard, state } = self.connection.process_tls_records(input);
        let may_continue = match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(Ok(record)) = traffic.next_record() {
                    plaintext(record.payload);
                    discard += record.discard;
                }
                Ok(true)
            }
            Ok(ConnectionState::EncodeTlsData(mut message)) => {
                encode(&mut message, &mut self.outgoing);
                Ok(true)
            }
            Ok(ConnectionState::TransmitTlsData(message)) => {
                message.done();
                Ok(true)
            }
            Ok(ConnectionState::PeerClosed) => {
                self.is_closed_by_client = true;
                Ok(true)
            }
            Ok(_) => Ok(false),
            Err(error) => Err(error),
        };
        (discard, may_continue)
    }

    /// Takes the alert that rustls wants to send after an error.
    fn queue_alert(&mut self, input: &mut [u8]) {
        while self.connection.wants_write() {
            match self.connection.process_tls_records(input).state {
                Ok(ConnectionState::EncodeTlsData(mut message)) => {
                    encode(&mut message, &mut self.outgoing);
                }
                _ => return,
            }
        }
    }
}

/// Appends a message that rustls wants to send.
fn encode(message: &mut EncodeTlsData<'_, ServerConnectionData>, output: &mut Vec<u8>) {
    let start = output.len();
    let mut room = ALERT_BYTES;
    loop {
        output.resize(start + room, 0);
        match message.encode(&mut output[start..]) {
            Ok(length) => return output.truncate(start + length),
            Err(EncodeError::InsufficientSize(needed)) => room = needed.required_size,
            Err(EncodeError::AlreadyEncoded) => return output.truncate(start),
        }
    }
}

#[cfg(test)]
mod tests;
