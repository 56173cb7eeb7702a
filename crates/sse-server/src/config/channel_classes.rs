//! The tables `[[channel]]` of the configuration file: the classes of channels.
//!
//! ```text
//! [[channel]]
//! match = "runs.*"                    the first class whose pattern matches a channel applies
//! ttl = "24h"                         what applies to a channel that does not set it
//! max = { ttl = "7d" }                what a channel may set at most
//! create = "explicit"                 only PUT creates channels
//! after_delete = "refuse"             a publish to a deleted channel is rejected
//! close = "manage"                    close= and settings on a publish need the right to manage
//! headers = { "x-kind" = "run" }      headers of the responses of GET /stream
//! ```

use actix_web::http::header::{HeaderName, HeaderValue};
use sse_proto::{Pattern, units::parse_size};
use toml::{Spanned, de::DeValue};

use super::{access::TableReader, file::ErrorAt};
use crate::{
    broker::lifecycle::{AfterDelete, ChannelClass, ChannelSettings, CreateRule},
    http::{parse_count, parse_ms},
};

/// Key of the tables in the configuration file.
pub(super) const KEY: &str = "channel";
/// Classes that a file can have. The name of a channel is compared with each of them.
const CLASSES_MAX: usize = 64;
/// Headers that a class can add.
const HEADERS_MAX: usize = 16;
const SETTINGS: [&str; 5] = [
    "history_events",
    "history_age",
    "history_bytes",
    "ttl",
    "ttl_closed",
];
const KEYS: [&str; 11] = [
    "match",
    "history_events",
    "history_age",
    "history_bytes",
    "ttl",
    "ttl_closed",
    "max",
    "create",
    "after_delete",
    "close",
    "headers",
];
/// Headers that the server sets itself, or that would break a stream.
const OWN_HEADERS: [&str; 10] = [
    "content-type",
    "content-length",
    "content-encoding",
    "transfer-encoding",
    "connection",
    "cache-control",
    "set-cookie",
    "vary",
    "upgrade",
    "x-accel-buffering",
];

/// An example for a configuration file, as a comment.
pub(super) const EXAMPLE: &str = r#"
# A class of channels. The first one whose pattern matches a channel applies; the settings above are
# the last class. Can be repeated.
# [[channel]]
# match = "runs.*"
# history_events = 1000
# history_age = "24h"
# history_bytes = "1MiB"
# ttl = "24h"
# ttl_closed = "1h"
# max = { ttl = "7d" }
# create = "publish"
# after_delete = "create"
# close = "publish"
# headers = { "x-kind" = "run" }
"#;

/// Parses the tables of the configuration file.
///
/// # Errors
///
/// What is wrong, and where it is in the text.
pub(super) fn parse(tables: &Spanned<DeValue<'_>>) -> Result<Vec<ChannelClass>, ErrorAt> {
    let offset = tables.span().start;
    let DeValue::Array(items) = tables.get_ref() else {
        return Err((offset, format!("write [[{KEY}]] with two brackets")));
    };
    if items.len() > CLASSES_MAX {
        return Err((offset, format!("more than {CLASSES_MAX} tables [[{KEY}]]")));
    }
    items.iter().map(parse_class).collect()
}

fn parse_class(value: &Spanned<DeValue<'_>>) -> Result<ChannelClass, ErrorAt> {
    let table = TableReader::new(KEY, value, &KEYS)?;
    let pattern = table.parse_text("match", str::parse::<Pattern>)?;
    let pattern = pattern.ok_or_else(|| table.missing("match"))?;
    let maxima = match table.find_value("max") {
        Some(value) => parse_settings(&TableReader::new("max", value, &SETTINGS)?)?,
        None => ChannelSettings::NONE,
    };
    let defaults = parse_settings(&table)?;
    check_maxima(defaults, maxima).map_err(|message| (table.offset(), message))?;
    Ok(ChannelClass {
        defaults,
        maxima,
        create: choose(
            &table,
            "create",
            [
                ("publish", CreateRule::Publish),
                ("explicit", CreateRule::Explicit),
            ],
        )?,
        after_delete: choose(
            &table,
            "after_delete",
            [
                ("create", AfterDelete::Create),
                ("refuse", AfterDelete::Refuse),
            ],
        )?,
        manage_to_close: choose(&table, "close", [("publish", false), ("manage", true)])?,
        headers: parse_headers(&table)?,
        ..ChannelClass::new(pattern)
    })
}

fn parse_settings(table: &TableReader<'_>) -> Result<ChannelSettings, ErrorAt> {
    Ok(ChannelSettings {
        history_events: table.parse_number("history_events", parse_count)?,
        history_age_ms: table.parse_text("history_age", parse_ms)?,
        history_bytes: table.parse_number("history_bytes", |text| {
            parse_size(text).map(|size| size.as_u64())
        })?,
        ttl_ms: table.parse_text("ttl", parse_ms)?,
        ttl_closed_ms: table.parse_text("ttl_closed", parse_ms)?,
    })
}

/// Checks that no default is beyond its maximum.
fn check_maxima(defaults: ChannelSettings, maxima: ChannelSettings) -> Result<(), String> {
    let pairs = defaults.to_array().into_iter().zip(maxima.to_array());
    for (name, (default, max)) in SETTINGS.into_iter().zip(pairs) {
        if let (Some(default), Some(max)) = (default, max)
            && default > max
        {
            return Err(format!("{name} is more than its maximum in max"));
        }
    }
    Ok(())
}

/// Reads a key with two words, of which the first is the default.
fn choose<T: Copy>(
    table: &TableReader<'_>,
    key: &str,
    words: [(&str, T); 2],
) -> Result<T, ErrorAt> {
    let [(first, default), (second, _)] = words;
    let chosen = table.parse_text(key, |text| {
        let found = words.iter().find(|(word, _)| *word == text);
        let found = found.map(|(_, value)| *value);
        found.ok_or_else(|| format!("write {first:?} or {second:?}"))
    })?;
    Ok(chosen.unwrap_or(default))
}

fn parse_headers(table: &TableReader<'_>) -> Result<Vec<(String, String)>, ErrorAt> {
    let Some(value) = table.find_value("headers") else {
        return Ok(Vec::new());
    };
    let offset = value.span().start;
    let DeValue::Table(headers) = value.get_ref() else {
        return Err((offset, "headers must be a table".to_owned()));
    };
    if headers.len() > HEADERS_MAX {
        return Err((offset, format!("more than {HEADERS_MAX} headers")));
    }
    let parsed = headers.iter().map(|(name, value)| {
        let offset = name.span().start;
        let name = name.get_ref().to_ascii_lowercase();
        let text = value.get_ref().as_str();
        let text = text.ok_or_else(|| (offset, format!("{name} must be a string")))?;
        let is_valid = name.parse::<HeaderName>().is_ok() && HeaderValue::from_str(text).is_ok();
        let is_own = OWN_HEADERS.contains(&&*name) || name.starts_with("access-control-");
        match (is_valid, is_own) {
            (true, false) => Ok((name, text.to_owned())),
            (_, true) => Err((offset, format!("the server sets the header {name} itself"))),
            (false, _) => Err((
                offset,
                format!("{name} is not a header, or has no valid value"),
            )),
        }
    });
    parsed.collect()
}
