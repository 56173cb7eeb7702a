//! What a line of the access log contains.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

/// Most bytes of a text of a line, such as the path. A longer text is cut.
///
/// This is more than the longest last id of a stream of many channels.
pub(super) const TEXT_BYTES_MAX: usize = 4096;

/// One line. `T` is the type of its texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<T> {
    /// What the line reports.
    pub kind: LineKind,
    /// When the line was made, by the clock of the system.
    pub time: SystemTime,
    /// Address of the client; `None` for a client over a Unix socket.
    pub address: Option<IpAddr>,
    /// Method of the request.
    pub method: T,
    /// Path and query as the client sent them, with secrets.
    pub target: T,
    /// Version of HTTP.
    pub protocol: Protocol,
    /// Status of the response.
    pub status: u16,
    /// Bytes of the body that were handed to the connection, without the framing of HTTP.
    pub bytes: u64,
    /// Time since the request arrived, or since the stream started.
    pub duration: Duration,
    /// `Last-Event-ID` of the request, or the last id that the stream sent.
    pub last_id: Option<T>,
    /// Why the stream ended or was rejected, or why a request has no response.
    pub reason: Option<&'static str>,
}

/// Version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
}

impl Protocol {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2.0",
        }
    }
}

/// What a line reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineKind {
    /// A request and its whole response.
    Request,
    /// A stream whose response begins.
    StreamStart,
    /// A stream that has ended.
    StreamEnd,
}

impl LineKind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::StreamStart => "stream_start",
            Self::StreamEnd => "stream_end",
        }
    }
}

impl<T> Line<T> {
    /// Converts each text.
    pub(super) fn map_texts<U>(self, mut convert: impl FnMut(T) -> U) -> Line<U> {
        Line {
            kind: self.kind,
            time: self.time,
            address: self.address,
            method: convert(self.method),
            target: convert(self.target),
            protocol: self.protocol,
            status: self.status,
            bytes: self.bytes,
            duration: self.duration,
            last_id: self.last_id.map(convert),
            reason: self.reason,
        }
    }
}

/// Cuts a text to [`TEXT_BYTES_MAX`] bytes, between two characters.
pub(super) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}
