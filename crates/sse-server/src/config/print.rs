//! `config print`: the settings as a configuration file.

use std::fmt::Write as _;

use clap::{Arg, ArgAction, Command};

use super::{
    SettingValues,
    access::EXAMPLE,
    channel_classes,
    environment::GivenSettings,
    file::{flags, key_of},
    sources::Source,
    tls_pairs,
};
use crate::{
    broker::redis::without_password,
    http::{PrintedSetting, PrintedSettings, Tables},
};

/// Columns of the text of an example.
const WIDTH: usize = 98;

/// Returns every setting that has a value, and where it comes from. A default is a comment.
pub(super) fn settings(given: &GivenSettings) -> String {
    let mut text = String::new();
    for (key, value, source) in rows(given) {
        let comment = if source == Source::Default { "# " } else { "" };
        // Writing to a string never fails.
        let _ = writeln!(
            text,
            "{:48}  # {source}",
            format!("{comment}{key} = {value}")
        );
    }
    text.push_str(&tls_pairs::print(given.file.tls_pairs()));
    text + &given.file.print_classes() + &given.file.print_access()
}

/// Returns the settings as a running server shows them to operators.
pub(super) fn printed(given: &GivenSettings) -> PrintedSettings {
    let rows = rows(given).into_iter();
    let rows = rows.map(|(key, value, source)| PrintedSetting {
        key,
        value,
        origin: source.to_string(),
    });
    let tables = Tables {
        tls: tls_pairs::print(given.file.tls_pairs()),
        access: given.access.printed.clone(),
    };
    PrintedSettings::new(rows, tables)
}

/// Returns the key of each setting that has a value, the value in TOML without passwords, and where
/// it comes from.
fn rows(given: &GivenSettings) -> Vec<(String, String, Source)> {
    let row = |flag: &Arg| {
        let (key, id) = (key_of(flag)?, flag.get_id().as_str());
        let values = given.matches.get_raw(id)?;
        let values = values.map(|value| value.to_string_lossy().into_owned());
        let values = values.map(|value| match id {
            "redis_url" => without_password(&value),
            "redis_password" | "redis_sentinel_password" => "***".to_owned(),
            _ => value,
        });
        let value = toml_value(flag, &values.collect::<Vec<_>>());
        Some((key, value, Source::of(id, &given.matches, &given.file)))
    };
    flags(&given.command).filter_map(row).collect()
}

/// Returns the values of all settings that have one, defaults included.
pub(super) fn values(given: &GivenSettings) -> SettingValues {
    let settings = flags(&given.command).filter_map(|flag| {
        let values = given.matches.get_raw(flag.get_id().as_str())?;
        let values = values.map(|value| value.to_string_lossy().into_owned());
        Some((key_of(flag)?, values.collect()))
    });
    let mut settings: SettingValues = settings.collect();
    let pairs = tls_pairs::print(given.file.tls_pairs());
    settings.insert(tls_pairs::KEY.to_owned(), vec![pairs]);
    settings
}

/// Returns a file in which every key is a comment, with its help and its default.
pub(super) fn example(command: &Command) -> String {
    let mut text = String::from(
        "# Settings of sse-server. Remove the \"# \" before a key to set it. A flag overrides a variable,\n\
         # and a variable this file.\n",
    );
    for flag in flags(command) {
        let Some(key) = key_of(flag) else { continue };
        let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
        text.push('\n');
        for line in wrapped(&help) {
            let _ = writeln!(text, "# {line}");
        }
        let defaults = flag.get_default_values().iter();
        let defaults: Vec<_> = defaults
            .map(|value| value.to_string_lossy().into_owned())
            .collect();
        let value = match (flag.get_action(), defaults.is_empty()) {
            (ArgAction::SetTrue, _) => "false".to_owned(),
            (ArgAction::Append, _) | (_, false) => toml_value(flag, &defaults),
            (_, true) => toml_string(&value_name(flag)),
        };
        let _ = writeln!(text, "# {key} = {value}");
    }
    text.push_str(tls_pairs::EXAMPLE);
    text.push_str(channel_classes::EXAMPLE);
    text + EXAMPLE
}

/// Returns the values of a flag in TOML.
fn toml_value(flag: &Arg, values: &[String]) -> String {
    match flag.get_action() {
        ArgAction::SetTrue => switch(values).to_owned(),
        ArgAction::Append => {
            let values: Vec<_> = values.iter().map(|value| toml_string(value)).collect();
            format!("[{}]", values.join(", "))
        }
        _ => {
            let value = values.first().map_or("", String::as_str);
            match value.parse::<u64>() {
                Ok(number) if number.to_string() == value => value.to_owned(),
                _ => toml_string(value),
            }
        }
    }
}

fn switch(values: &[String]) -> &'static str {
    if values.iter().any(|value| value == "true" || value == "1") {
        "true"
    } else {
        "false"
    }
}

/// Returns what the help calls the value of a flag.
fn value_name(flag: &Arg) -> String {
    let name = flag.get_value_names().and_then(|names| names.first());
    name.map_or_else(String::new, |name| format!("<{name}>"))
}

/// A string of JSON is a string of TOML.
fn toml_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Splits a text into lines of at most [`WIDTH`] columns.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last().map_or(0, String::len);
        if line > 0 && line + 1 + word.len() > WIDTH {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
