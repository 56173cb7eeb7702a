//! What a session sends: one record at a time, and the end.

use std::{io, mem};

use rustls::{
    server::ServerConnectionData,
    unbuffered::{ConnectionState, EncryptError, WriteTraffic},
};

use super::{ALERT_BYTES, SendResult, TlsSession};
use crate::tls::scratch::{RECORD_BYTES, with_scratch};

/// Offers bytes to a socket.
type Send<'a> = &'a mut dyn FnMut(&[u8]) -> SendResult;

impl TlsSession {
    /// Whether encrypted bytes wait for the socket.
    pub(crate) const fn wants_write(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Returns the encrypted bytes that wait for the socket.
    pub(crate) const fn outgoing_bytes(&self) -> usize {
        self.outgoing.len() - self.sent
    }

    /// Returns the encrypted bytes that the socket has accepted since the last call.
    pub(crate) const fn take_accepted(&mut self) -> usize {
        mem::replace(&mut self.accepted, 0)
    }

    /// Sends the encrypted bytes that wait. Returns whether the socket has accepted all of them.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub(crate) fn flush(&mut self, send: Send<'_>) -> io::Result<bool> {
        while self.outgoing_bytes() > 0 {
            let Some(count) = send(&self.outgoing[self.sent..])? else {
                return Ok(false);
            };
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.sent += count;
            self.accepted += count;
        }
        (self.outgoing, self.sent) = (Vec::new(), 0);
        Ok(true)
    }

    /// Encrypts the first bytes as a record, and sends it. Returns how many bytes of plaintext the
    /// record contains once the socket has accepted all of it, and `None` until then.
    ///
    /// After `None`, the next call must begin with the same bytes.
    ///
    /// # Errors
    ///
    /// Those of the socket, or the session is over.
    pub(crate) fn write(&mut self, bytes: &[u8], send: Send<'_>) -> SendResult {
        if self.in_flight == 0 {
            if !self.flush(send)? {
                return Ok(None);
            }
            self.send_record(&bytes[..bytes.len().min(RECORD_BYTES)], send)?;
        } else if !self.flush(send)? {
            return Ok(None);
        }
        if self.wants_write() {
            return Ok(None);
        }
        Ok(Some(mem::take(&mut self.in_flight).min(bytes.len())))
    }

    /// Sends `plaintext` as one record. What the socket does not accept is kept.
    fn send_record(&mut self, plaintext: &[u8], send: Send<'_>) -> io::Result<()> {
        with_scratch(|record| {
            let length =
                self.encrypt(record, |traffic, record| traffic.encrypt(plaintext, record))?;
            self.records = self.records.saturating_add(1);
            self.in_flight = plaintext.len();
            let mut accepted = 0;
            while accepted < length {
                match send(&record[accepted..length])? {
                    Some(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Some(count) => accepted += count,
                    None => {
                        self.outgoing = record[accepted..length].to_vec();
                        break;
                    }
                }
            }
            self.accepted += accepted;
            Ok(())
        })
    }

    /// Lets `write` fill `output`. Returns how many bytes it wrote.
    fn encrypt(
        &mut self,
        output: &mut [u8],
        write: impl FnOnce(
            &mut WriteTraffic<'_, ServerConnectionData>,
            &mut [u8],
        ) -> Result<usize, EncryptError>,
    ) -> io::Result<usize> {
        if self.has_failed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        // What was received contains no complete record, so this only leads to the object that can
        // encrypt.
        match self
            .connection
            .process_tls_records(&mut self.incoming)
            .state
        {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                write(&mut traffic, output).map_err(io::Error::other)
            }
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Queues the end of what the server sends, which `flush` sends.
    pub(crate) fn close(&mut self) {
        if self.is_closing || self.is_handshaking() {
            return;
        }
        self.is_closing = true;
        let mut alert = [0; ALERT_BYTES];
        let queue =
            |traffic: &mut WriteTraffic<'_, _>, alert: &mut [u8]| traffic.queue_close_notify(alert);
        if let Ok(length) = self.encrypt(&mut alert, queue) {
            self.outgoing.extend_from_slice(&alert[..length]);
        }
    }
}
