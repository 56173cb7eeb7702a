//! A line as text or as JSON.
//!
//! The text is a line of the Common Log Format, followed by named fields:
//!
//! ```text
//! 127.0.0.1 - - [30/Nov/2026:05:04:16 +0000] "GET /stream HTTP/1.1" 200 0 kind=stream_start duration=0.000312 last_id=- reason=-
//! ```

use std::{
    fmt,
    io::Write as _,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use chrono::DateTime;

use super::{
    LogFormat,
    escape::{append_escaped, append_json_string},
    line::Line,
    redact::redact,
};

/// Time in the Common Log Format.
const TEXT_TIME: &str = "%d/%b/%Y:%H:%M:%S +0000";
/// Time in JSON up to the second (RFC 3339).
const JSON_TIME: &str = "%Y-%m-%dT%H:%M:%S";

/// Formats lines. The text of a second is made once.
#[derive(Debug)]
pub(super) struct Formatter {
    format: LogFormat,
    /// Seconds since the Unix epoch that `second_text` shows.
    second: u64,
    second_text: String,
}

impl Formatter {
    pub(super) fn new(format: LogFormat) -> Self {
        let mut formatter = Self {
            format,
            second: 0,
            second_text: String::new(),
        };
        formatter.show_second(0);
        formatter
    }

    /// Appends `line` and the end of the line to `out`.
    pub(super) fn append(&mut self, out: &mut Vec<u8>, line: &Line<&str>) {
        let since_epoch = line.time.duration_since(SystemTime::UNIX_EPOCH);
        let since_epoch = since_epoch.unwrap_or(Duration::ZERO);
        if since_epoch.as_secs() != self.second {
            self.show_second(since_epoch.as_secs());
        }
        match self.format {
            LogFormat::Text => self.append_text(out, line),
            LogFormat::Json => self.append_json(out, line, since_epoch.subsec_micros()),
        }
        out.push(b'\n');
    }

    fn show_second(&mut self, second: u64) {
        let format = match self.format {
            LogFormat::Text => TEXT_TIME,
            LogFormat::Json => JSON_TIME,
        };
        let time = i64::try_from(second).ok();
        // A clock that shows no year of the calendar is shown as the epoch.
        let time = time.and_then(|second| DateTime::from_timestamp(second, 0));
        self.second = second;
        self.second_text = time.unwrap_or_default().format(format).to_string();
    }

    fn append_text(&self, out: &mut Vec<u8>, line: &Line<&str>) {
        match line.address {
            Some(address) => append(out, format_args!("{}", address.to_canonical())),
            None => out.push(b'-'),
        }
        append(out, format_args!(" - - [{}] \"", self.second_text));
        append_escaped(out, line.method);
        out.push(b' ');
        append_escaped(out, &redact(line.target));
        append(
            out,
            format_args!(
                " {}\" {} {} kind={} duration=",
                line.protocol.as_str(),
                line.status,
                line.bytes,
                line.kind.as_str()
            ),
        );
        append_seconds(out, line.duration);
        append_last_id(out, line.last_id);
        append(out, format_args!(" reason={}", line.reason.unwrap_or("-")));
    }

    fn append_json(&self, out: &mut Vec<u8>, line: &Line<&str>, micros: u32) {
        append(
            out,
            format_args!(
                r#"{{"timestamp":"{}.{micros:06}Z","kind":"{}","address":"#,
                self.second_text,
                line.kind.as_str()
            ),
        );
        append_json_address(out, line.address);
        out.extend_from_slice(br#","method":"#);
        append_json_string(out, line.method);
        out.extend_from_slice(br#","path":"#);
        append_json_string(out, &redact(line.target));
        append(
            out,
            format_args!(
                r#","protocol":"{}","status":{},"bytes":{},"duration":"#,
                line.protocol.as_str(),
                line.status,
                line.bytes
            ),
        );
        append_seconds(out, line.duration);
        out.extend_from_slice(br#","last_id":"#);
        append_json_option(out, line.last_id);
        out.extend_from_slice(br#","reason":"#);
        append_json_option(out, line.reason);
        out.push(b'}');
    }
}

fn append_last_id(out: &mut Vec<u8>, last_id: Option<&str>) {
    out.extend_from_slice(b" last_id=");
    match last_id {
        Some(id) => {
            out.push(b'"');
            append_escaped(out, id);
            out.push(b'"');
        }
        None => out.push(b'-'),
    }
}

fn append_json_address(out: &mut Vec<u8>, address: Option<IpAddr>) {
    match address {
        Some(address) => append(out, format_args!("\"{}\"", address.to_canonical())),
        None => out.extend_from_slice(b"null"),
    }
}

fn append_json_option(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => append_json_string(out, text),
        None => out.extend_from_slice(b"null"),
    }
}

/// Appends a time in seconds, to the microsecond.
fn append_seconds(out: &mut Vec<u8>, time: Duration) {
    append(
        out,
        format_args!("{}.{:06}", time.as_secs(), time.subsec_micros()),
    );
}

fn append(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    // Writing to a vector cannot fail.
    let _ = out.write_fmt(text);
}
