//! What a line contains, and its JSON.

use std::{io, net::IpAddr, time::SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::{Serializer, Value, ser::Formatter};

/// The result of what was permitted and done.
pub const OK: &str = "ok";
/// The result of a permitted request whose client was gone before there was a response. It may be
/// done.
pub const NO_RESPONSE: &str = "no_response";
/// Most bytes of a path. A longer one is cut.
const PATH_BYTES_MAX: usize = 512;
/// Most bytes of a target. A longer one is cut.
const TARGET_BYTES_MAX: usize = 1024;

/// One action of a caller.
#[derive(Debug, Clone)]
pub struct AuditRecord {
    /// When the response began.
    pub time: SystemTime,
    /// Who the caller is, as JSON; `None` if its credential was rejected.
    pub identity: Option<Value>,
    /// The number of the caller's principal; `None` for anonymous callers.
    pub caller: Option<u64>,
    /// Address of the client; `None` for a client over a Unix socket.
    pub address: Option<IpAddr>,
    /// The right that was used or missing, or `authenticate`.
    pub action: &'static str,
    /// The channels that the request names.
    pub channels: Vec<String>,
    /// What an operator or the creator of a ticket acted on.
    pub target: Option<String>,
    /// Method of the request.
    pub method: String,
    /// Path of the request, without the query, which may have a secret.
    pub path: String,
    /// Status of the response; `None` if the client was gone before there was one.
    pub status: Option<u16>,
    /// [`OK`], the code of an error, or why a stream was rejected.
    pub result: &'static str,
    /// Why, if the caller was rejected.
    pub reason: Option<String>,
}

/// A line, in the order of its fields.
#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    identity: Option<&'a Value>,
    address: Option<IpAddr>,
    action: &'static str,
    channels: &'a [String],
    target: Option<&'a str>,
    method: &'a str,
    path: &'a str,
    status: Option<u16>,
    result: &'static str,
    reason: Option<&'a str>,
    count: u64,
}

impl AuditRecord {
    /// Whether the action was not done. A caller must not be able to hide what it did by closing its
    /// connections.
    pub(super) fn is_rejection(&self) -> bool {
        !matches!(self.result, OK | NO_RESPONSE)
    }

    /// Returns the line, with its end, for `count` actions like this one.
    pub(super) fn to_line(&self, count: u64) -> Box<[u8]> {
        let time = DateTime::<Utc>::from(self.time);
        let line = Line {
            timestamp: time.to_rfc3339_opts(SecondsFormat::Micros, true),
            identity: self.identity.as_ref(),
            address: self.address.map(|address| address.to_canonical()),
            action: self.action,
            channels: &self.channels,
            target: self
                .target
                .as_deref()
                .map(|text| cut(text, TARGET_BYTES_MAX)),
            method: cut(&self.method, PATH_BYTES_MAX),
            path: cut(&self.path, PATH_BYTES_MAX),
            status: self.status,
            result: self.result,
            reason: self
                .reason
                .as_deref()
                .map(|text| cut(text, TARGET_BYTES_MAX)),
            count,
        };
        let mut text = Vec::with_capacity(256);
        // Writing to a vector cannot fail, and no key of a map is anything but a string.
        let _ = line.serialize(&mut Serializer::with_formatter(&mut text, AsciiFormatter));
        text.push(b'\n');
        text.into_boxed_slice()
    }
}

/// Cuts a text between two characters.
fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// Writes every character beyond ASCII as `\uNNNN`, because some programs also end a line there.
struct AsciiFormatter;

impl Formatter for AsciiFormatter {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        for part in fragment.split_inclusive(|char: char| !is_plain(char)) {
            let other = part.chars().next_back().filter(|char| !is_plain(*char));
            let plain = part.len() - other.map_or(0, char::len_utf8);
            writer.write_all(&part.as_bytes()[..plain])?;
            for unit in other
                .iter()
                .flat_map(|char| char.encode_utf16(&mut [0; 2]).to_vec())
            {
                write!(writer, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }
}

const fn is_plain(char: char) -> bool {
    matches!(char, ' '..='~')
}
