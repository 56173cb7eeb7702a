//! `[access.anonymous]` and `[[access.key]]`: who may do what, and how much.

use std::num::NonZeroUsize;

use toml::de::DeValue;

use super::{Notes, table::TableReader};
use crate::{
    access::{
        Rights, parse_digest,
        rules::{CallerRules, KeyRules},
    },
    config::file::ErrorAt,
    quota::{Limits, Rate},
};

pub(super) const ANONYMOUS_KEYS: [&str; 6] = [
    "publish",
    "subscribe",
    "manage",
    "observe",
    "admin",
    "limits",
];
pub(super) const KEY_KEYS: [&str; 8] = [
    "name",
    "sha256",
    "publish",
    "subscribe",
    "manage",
    "observe",
    "admin",
    "limits",
];
const LIMIT_KEYS: [&str; 6] = [
    "events", "bytes", "streams", "opens", "channels", "searches",
];
/// Two while a key is rotated.
const DIGESTS_MAX: usize = 2;
const NAME_BYTES_MAX: usize = 64;

/// Reads what a caller may do and how much.
pub(super) fn read_caller(table: &TableReader<'_>) -> Result<CallerRules, ErrorAt> {
    let patterns = |key| table.parse_texts(key, str::parse);
    let rights = Rights {
        publish: patterns("publish")?,
        subscribe: patterns("subscribe")?,
        manage: patterns("manage")?,
        observe: table.read_switch("observe")?,
        admin: table.read_switch("admin")?,
        within: None,
    };
    Ok(CallerRules {
        rights,
        limits: read_limits(table)?,
    })
}

/// Reads an API key. `earlier` are those before it in the file.
pub(super) fn read_key(
    table: &TableReader<'_>,
    earlier: &[KeyRules],
    notes: &mut Notes,
) -> Result<KeyRules, ErrorAt> {
    let (name_at, name) = table.read_required_text("name")?;
    check_name(name).map_err(|message| (name_at, message))?;
    let digests_at = table
        .find_value("sha256")
        .map_or(table.offset(), |value| value.span().start);
    let digests = table.parse_texts("sha256", parse_digest)?;
    if !(1..=DIGESTS_MAX).contains(&digests.len()) {
        return Err((
            digests_at,
            "sha256 is one digest, or two while a key is rotated".to_owned(),
        ));
    }
    let key = KeyRules {
        name: name.into(),
        digests,
        caller: read_caller(table)?,
    };
    if let Some((offset, message)) = find_duplicate(&key, earlier, name_at, digests_at) {
        return Err((offset, message));
    }
    if key.caller.rights.is_empty() {
        notes.warn(table.offset(), format!("the key {name} grants nothing"));
    }
    Ok(key)
}

/// Checks the name of a key, which is printed in logs and lists.
pub(in crate::config) fn check_name(name: &str) -> Result<(), String> {
    let is_allowed = |c: char| !c.is_control() && !c.is_whitespace();
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(is_allowed) {
        return Err("name is 1 to 64 bytes without spaces and control characters".to_owned());
    }
    Ok(())
}

fn find_duplicate(
    key: &KeyRules,
    earlier: &[KeyRules],
    name_at: usize,
    digests_at: usize,
) -> Option<ErrorAt> {
    if earlier.iter().any(|other| other.name == key.name) {
        return Some((name_at, format!("the name {} is used twice", key.name)));
    }
    let digests = earlier.iter().flat_map(|other| &other.digests);
    if digests
        .into_iter()
        .any(|digest| key.digests.contains(digest))
    {
        return Some((digests_at, "another key has the same digest".to_owned()));
    }
    None
}

/// Reads `limits = { … }`.
pub(super) fn read_limits(table: &TableReader<'_>) -> Result<Limits, ErrorAt> {
    let Some(value) = table.find_value("limits") else {
        return Ok(Limits::default());
    };
    let limits = TableReader::new("limits", value, &LIMIT_KEYS)?;
    let count = |key| limits.parse_text(key, Rate::parse_count);
    Ok(Limits {
        events: count("events")?,
        bytes: limits.parse_text("bytes", Rate::parse_bytes)?,
        streams: read_count(&limits, "streams")?,
        opens: count("opens")?,
        channels: count("channels")?,
        searches: count("searches")?,
    })
}

fn read_count(table: &TableReader<'_>, key: &str) -> Result<Option<NonZeroUsize>, ErrorAt> {
    let Some(value) = table.find_value(key) else {
        return Ok(None);
    };
    let number = match value.get_ref() {
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().parse().ok(),
        _ => None,
    };
    let wrong = || {
        (
            value.span().start,
            format!("{key} must be a whole number from 1"),
        )
    };
    number.map(Some).ok_or_else(wrong)
}
