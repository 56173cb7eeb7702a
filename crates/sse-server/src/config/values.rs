//! The forms of single values. The message of each error states what to write instead.

use std::{num::NonZeroUsize, path::PathBuf, time::Duration};

use sse_cli::number::{parse_number, parse_positive_number};
use sse_proto::{Channel, units::parse_duration};

use crate::access_log::AccessLogTarget;

/// More fan-out threads than any machine has use for.
const THREADS_MAX: usize = 256;
const COALESCE_MAX: Duration = Duration::from_millis(100);

pub(super) fn parse_threads(text: &str) -> Result<usize, String> {
    parse_number(text, &(0..=THREADS_MAX))
}

pub(super) fn parse_flask_channel(text: &str) -> Result<Channel, String> {
    text.parse().map_err(|error| {
        format!(
            "{error}; a channel of Flask-SSE with another name cannot be bridged, nor a pattern"
        )
    })
}

pub(super) fn parse_positive(text: &str) -> Result<NonZeroUsize, &'static str> {
    parse_positive_number(text)
}

/// Parses `on` or `off`, and the values of a switch.
pub(super) fn parse_on_off(text: &str) -> Result<bool, &'static str> {
    match text {
        "on" | "1" | "true" => Ok(true),
        "off" | "0" | "false" => Ok(false),
        _ => Err("write on or off"),
    }
}

pub(super) fn parse_history_events(text: &str) -> Result<NonZeroUsize, &'static str> {
    text.parse().map_err(|_| {
        "write a whole number from 1 on: the newest event of a channel always stays, so that \
         subscribers can resume after it; --memory keeps nothing on disk"
    })
}

pub(super) fn parse_coalesce(text: &str) -> Result<Duration, String> {
    // "0" needs no unit.
    let duration = if text == "0" {
        Duration::ZERO
    } else {
        parse_duration(text)?
    };
    if duration > COALESCE_MAX {
        return Err("write a time from 0 to 100ms: events wait for it".to_owned());
    }
    Ok(duration)
}

/// Parses the permissions of a socket's file, in octal.
pub(super) fn parse_socket_mode(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    u32::from_str_radix(digits, 8)
        .ok()
        // A decimal number would mostly take the permission to connect from the owner.
        .filter(|mode| *mode <= 0o777 && mode & 0o600 == 0o600)
        .ok_or_else(|| {
            "write an octal number from 0600 to 0777 with which the owner may read and write, such \
             as 0660"
                .to_owned()
        })
}

pub(super) fn parse_access_log(text: &str) -> Result<AccessLogTarget, String> {
    if text == "-" {
        return Ok(AccessLogTarget::Stdout);
    }
    let path = parse_log_file(text).map_err(|text| {
        format!(
            "{text:?} is not a file: write a path such as /var/log/sse-server/access.log, or - for \
             stdout"
        )
    });
    path.map(AccessLogTarget::File)
}

pub(super) fn parse_audit_log(text: &str) -> Result<PathBuf, String> {
    parse_log_file(text).map_err(|text| {
        format!("{text:?} is not a file: write a path such as /var/log/sse-server/audit.log")
    })
}

/// Rejects the values of a switch, because a file with such a name is hardly ever meant.
fn parse_log_file(text: &str) -> Result<PathBuf, &str> {
    match text {
        "" | "-" | "0" | "1" | "true" | "false" => Err(text),
        path => Ok(PathBuf::from(path)),
    }
}
