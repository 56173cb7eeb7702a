//! What the client of a stream sends, which the server discards.

use std::io::{ErrorKind, Read as _};

use super::{CloseReason, Connection};
use crate::tls::{TlsSession, with_scratch};

/// Bytes that a client may send after its request. The server discards them, and closes the
/// connection of a client that sends more.
const RECEIVED_MAX: u16 = u16::MAX;
/// Bytes of an incomplete record that a stream may hold. No client of a stream needs large records.
const INCOMING_MAX: usize = 4096;

impl Connection {
    /// Reads and discards what the client has sent.
    ///
    /// # Errors
    ///
    /// The reason to close the connection: `Client` or `TooMuchInput`.
    pub(in crate::fanout) fn discard_input(&mut self) -> Result<(), CloseReason> {
        if self.tls().is_some() {
            return with_scratch(|scratch| self.discard_from_socket(scratch));
        }
        self.discard_from_socket(&mut [0; 4096])
    }

    fn discard_from_socket(&mut self, scratch: &mut [u8]) -> Result<(), CloseReason> {
        loop {
            match self.socket.read(scratch) {
                Ok(0) => return Err(CloseReason::Client),
                Ok(count) => {
                    self.count_received(count)?;
                    self.decrypt(&mut scratch[..count])?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(CloseReason::Client),
            }
        }
    }

    fn count_received(&mut self, count: usize) -> Result<(), CloseReason> {
        let count = u16::try_from(count).unwrap_or(u16::MAX);
        self.received = self.received.saturating_add(count);
        if self.received == RECEIVED_MAX {
            return Err(CloseReason::TooMuchInput);
        }
        Ok(())
    }

    /// Lets TLS handle what it has received before the stream left HTTP.
    ///
    /// # Errors
    ///
    /// The reason to close the connection.
    pub(in crate::fanout) fn handle_early_input(&mut self) -> Result<(), CloseReason> {
        self.decrypt(&mut [])
    }

    /// Lets TLS handle what was received. Plaintext is discarded.
    fn decrypt(&mut self, received: &mut [u8]) -> Result<(), CloseReason> {
        let Some(tls) = self
            .pending
            .as_mut()
            .and_then(|work| work.tls.as_deref_mut())
        else {
            return Ok(());
        };
        match tls.receive(received, &mut |_| {}) {
            Ok(()) if tls.is_closed_by_client() => Err(CloseReason::Client),
            Ok(()) if is_too_much(tls) => Err(CloseReason::TooMuchInput),
            Ok(()) => Ok(()),
            // `close_write` sends the alert.
            Err(_) => Err(CloseReason::Client),
        }
    }
}

fn is_too_much(tls: &TlsSession) -> bool {
    tls.incoming_bytes() > INCOMING_MAX
}
