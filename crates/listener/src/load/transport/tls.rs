//! A socket with a TLS session.

use std::{
    io::{self, Read, Write},
    sync::Arc,
};

use mio::net::TcpStream;
use rustls::{ClientConfig, ClientConnection, pki_types::ServerName};

use super::{Received, TransportBuffers, is_not_ready};

/// A socket with the TLS session of a client.
#[derive(Debug)]
pub(crate) struct TlsTransport {
    socket: TcpStream,
    session: ClientConnection,
}

impl TlsTransport {
    /// Prepares a session with the server of this name.
    ///
    /// # Errors
    /// The settings cannot be used.
    pub(crate) fn new(
        socket: TcpStream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, rustls::Error> {
        Ok(Self {
            socket,
            session: ClientConnection::new(config, name)?,
        })
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.shake_hands()?;
        let count = self.session.writer().write(bytes)?;
        match self.flush() {
            // The session keeps what the socket has no room for, up to a limit.
            Err(error) if is_not_ready(&error) && count > 0 => Ok(count),
            Err(error) => Err(error),
            Ok(()) => Ok(count),
        }
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            self.session.write_tls(&mut self.socket)?;
        }
        Ok(())
    }

    fn shake_hands(&mut self) -> io::Result<()> {
        loop {
            self.flush()?;
            if !self.session.is_handshaking() {
                return Ok(());
            }
            if self.session.read_tls(&mut self.socket)? == 0 {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            self.process_received()?;
        }
    }

    pub(super) fn receive(&mut self, buffers: &mut TransportBuffers) -> io::Result<Received> {
        let TransportBuffers { data, wire } = buffers;
        // The server may send data together with the end of the handshake.
        let held = self.take_data(data)?;
        if held > 0 {
            return Ok(Received {
                data: held,
                ..Received::default()
            });
        }
        let mut received = Received::from_read(self.socket.read(wire)?);
        let mut encrypted = &wire[..received.wire];
        while !encrypted.is_empty() {
            self.session.read_tls(&mut encrypted)?;
            self.process_received()?;
            received.data += self.take_data(&mut data[received.data..])?;
        }
        match self.flush() {
            Err(error) if !is_not_ready(&error) => Err(error),
            _ => Ok(received),
        }
    }

    fn process_received(&mut self) -> io::Result<()> {
        if let Err(error) = self.session.process_new_packets() {
            // The alert is for the server's log, and may be lost.
            let _ = self.flush();
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        Ok(())
    }

    /// Copies decrypted data to the start of `buffer`, and returns its length.
    fn take_data(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut count = 0;
        while count < buffer.len() {
            match self.session.reader().read(&mut buffer[count..]) {
                // The server has announced the end. The socket reports it too.
                Ok(0) => break,
                Ok(more) => count += more,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(count)
    }

    pub(super) fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.socket.take_error()
    }

    pub(super) fn protocol(&self) -> Option<&[u8]> {
        self.session.alpn_protocol()
    }
}
