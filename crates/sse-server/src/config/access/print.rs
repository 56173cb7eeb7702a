//! The tables as `config print` shows them, and as an example.
//!
//! A digest is shortened. It does not lead to the key, but it is of no use to a reader either.

use std::fmt::Write as _;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// Characters of a digest that are shown.
const DIGEST_SHOWN: usize = 8;

/// What `config print --example` shows.
pub(in crate::config) const EXAMPLE: &str = r#"
# Who may do what. Without this table every caller may do everything, and the server listens on this
# machine only, unless --allow-anonymous is set. In a pattern, * matches one or more characters,
# including dots.
#
# [access]
# claim = "sse"
# cookie = "__Host-sse"
# query_token_life = "1h"
#
# [access.anonymous]
# subscribe = ["public.*"]
#
# [[access.key]]
# name = "billing"
# sha256 = "<printed by sse-server key new>"
# publish = ["orders.*"]
# limits = { events = "100/s", bytes = "1MiB/s", streams = 50, opens = "10/s", channels = "10/s", searches = "5/s" }
#
# [[access.issuer]]
# issuer = "https://id.example.org"
# audience = ["https://hub.example.org"]
# jwks_url = "https://id.example.org/jwks.json"
# grants = { subscribe = ["users.{sub}", "users.{sub}.*"] }
#
# [access.signing]
# key_file = "signing.pem"
"#;

/// Settings of `[access]` that have a default.
const DEFAULTS: [(&str, &str); 3] = [
    ("claim", "sse"),
    ("cookie", "__Host-sse"),
    ("query_token_life", "1h"),
];

/// Returns the table `[access]` with the line of each key. `line` returns the line of an offset.
pub(in crate::config) fn print_tables(
    value: &Spanned<DeValue<'_>>,
    line: &dyn Fn(usize) -> usize,
) -> String {
    let mut text = String::new();
    if let DeValue::Table(table) = value.get_ref() {
        text.push_str("\n[access]\n");
        for (key, default) in DEFAULTS.iter().filter(|(key, _)| !table.contains_key(*key)) {
            print_line(&mut text, &format!("# {key} = \"{default}\""), "default");
        }
        print_table(&mut text, "access", table, line);
    }
    text
}

/// Prints the keys of a table, and then the tables in it.
fn print_table(text: &mut String, path: &str, table: &DeTable<'_>, line: &dyn Fn(usize) -> usize) {
    let (sections, settings): (Vec<_>, Vec<_>) = table
        .iter()
        .partition(|(key, value)| is_section(key.get_ref(), value.get_ref()));
    for (key, value) in settings {
        let setting = format!(
            "{} = {}",
            key.get_ref(),
            format_value(key.get_ref(), value.get_ref())
        );
        print_line(
            text,
            &setting,
            &format!("file, line {}", line(key.span().start)),
        );
    }
    for (key, value) in sections {
        let path = format!("{path}.{}", key.get_ref());
        print_section(text, &path, value.get_ref(), line);
    }
}

pub(in crate::config) fn print_section(
    text: &mut String,
    path: &str,
    section: &DeValue<'_>,
    line: &dyn Fn(usize) -> usize,
) {
    let items = match section {
        DeValue::Array(items) => items.iter().map(Spanned::get_ref).collect(),
        single => vec![single],
    };
    let header = match section {
        DeValue::Array(_) => format!("\n[[{path}]]\n"),
        _ => format!("\n[{path}]\n"),
    };
    for table in items.into_iter().filter_map(DeValue::as_table) {
        text.push_str(&header);
        print_table(text, path, table, line);
    }
}

fn print_line(text: &mut String, setting: &str, source: &str) {
    // Writing to a string never fails.
    let _ = writeln!(text, "{setting:48}  # {source}");
}

/// Returns whether a value has a header of its own. Limits and grants are written in one line.
fn is_section(key: &str, value: &DeValue<'_>) -> bool {
    match value {
        DeValue::Table(_) => !["limits", "grants", "max", "headers"].contains(&key),
        DeValue::Array(items) => items.iter().any(|item| item.get_ref().is_table()),
        _ => false,
    }
}

/// Returns a value in one line of TOML.
fn format_value(key: &str, value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) if key == "sha256" => format_string(&shorten_digest(text)),
        DeValue::String(text) => format_string(text),
        DeValue::Array(items) => {
            let items: Vec<_> = items
                .iter()
                .map(|item| format_value(key, item.get_ref()))
                .collect();
            format!("[{}]", items.join(", "))
        }
        DeValue::Table(table) => {
            let settings = table.iter().map(|(key, value)| {
                format!(
                    "{} = {}",
                    key.get_ref(),
                    format_value(key.get_ref(), value.get_ref())
                )
            });
            format!("{{ {} }}", settings.collect::<Vec<_>>().join(", "))
        }
        DeValue::Integer(number) => number.as_str().to_owned(),
        DeValue::Boolean(is_on) => is_on.to_string(),
        DeValue::Float(_) | DeValue::Datetime(_) => String::new(),
    }
}

fn shorten_digest(digest: &str) -> String {
    let shown: String = digest.chars().take(DIGEST_SHOWN).collect();
    format!("{shown}…")
}

/// A string of JSON is a string of TOML.
fn format_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
