//! The configuration file: a TOML file in which every flag has a key.
//!
//! ```text
//! bind = ["127.0.0.1:5000", "unix:/run/sse.sock"]     --bind, which is repeatable
//! history_age = "7d"                                  --history-age
//! channels_max = 50_000                               --channels-max
//! memory = true                                       --memory, a switch
//! [[tls]]                                             see `tls_pairs`
//! ```
//!
//! Only the tables `[access]` and `[[channel]]` have no flags; `config::access` and
//! `config::channel_classes` read them.
//!
//! A value of the file takes the place of the flag's default, so flags and variables override it.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use clap::{Arg, ArgAction, Command};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    access::{Notes, print_section, print_tables, read_access},
    channel_classes, tls_pairs,
};
use crate::{access::AccessRules, broker::lifecycle::ChannelClass, tls::CertificateFiles};

/// The table of access rules, which has no flags.
const ACCESS: &str = "access";
/// The tables that have no flags.
const TABLES: [&str; 3] = [ACCESS, tls_pairs::KEY, channel_classes::KEY];
/// A larger file is rejected. It may not be a configuration file at all.
const BYTES_MAX: u64 = 1 << 20;

/// The settings of a file, each of which is valid by itself.
#[derive(Debug, Default)]
pub(super) struct ConfigFile {
    path: PathBuf,
    text: String,
    settings: Vec<FileSetting>,
    tls_pairs: Vec<CertificateFiles>,
    classes: Vec<ChannelClass>,
}

#[derive(Debug)]
struct FileSetting {
    /// The id of the flag in clap.
    id: String,
    line: usize,
    values: Vec<String>,
}

impl ConfigFile {
    /// Reads a file with settings of `command`.
    ///
    /// # Errors
    ///
    /// What is wrong, where, and what to write instead.
    pub(super) fn read(path: &Path, command: &Command) -> Result<Self, String> {
        let error = |error| {
            format!(
                "cannot read the configuration file {}: {error}",
                path.display()
            )
        };
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(error)?;
        let read = file.take(BYTES_MAX + 1).read_to_end(&mut bytes);
        if read.map_err(error)? as u64 > BYTES_MAX {
            return Err(format!("{} is larger than 1 MiB", path.display()));
        }
        let text = String::from_utf8(bytes);
        let text = text.map_err(|_| format!("{} is not UTF-8 text", path.display()))?;
        let parsed = parse(&text, command);
        let (settings, tls_pairs, classes) = parsed.map_err(|(offset, message)| {
            format!("{}:{}: {message}", path.display(), line(&text, offset))
        })?;
        Ok(Self {
            path: path.to_owned(),
            text,
            settings,
            tls_pairs,
            classes,
        })
    }

    pub(super) fn tls_pairs(&self) -> &[CertificateFiles] {
        &self.tls_pairs
    }

    /// Returns the classes of channels.
    pub(super) fn classes(&self) -> &[ChannelClass] {
        &self.classes
    }

    /// Returns the tables `[[channel]]` as `config print` shows them.
    pub(super) fn print_classes(&self) -> String {
        let mut text = String::new();
        if let Ok(table) = parse_table(&self.text)
            && let Some(classes) = table.get_ref().get(channel_classes::KEY)
        {
            let line = |offset| line(&self.text, offset);
            print_section(&mut text, channel_classes::KEY, classes.get_ref(), &line);
        }
        text
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the table `[access]`. `public_url` is the first one of the server.
    ///
    /// # Errors
    ///
    /// What is wrong, where, and what to write instead.
    pub(super) fn read_access(&self, public_url: Option<&str>) -> Result<FileAccess, String> {
        let mut notes = Notes::default();
        let table = parse_table(&self.text).map_err(|error| self.with_line(error))?;
        let rules = match table.get_ref().get(ACCESS) {
            Some(value) => read_access(value, &self.path, public_url, &mut notes)
                .map_err(|error| self.with_line(error))?,
            None => AccessRules::default(),
        };
        let warnings = notes
            .0
            .into_iter()
            .map(|note| self.with_line(note))
            .collect();
        let printed = self.print_access();
        Ok(FileAccess {
            rules,
            warnings,
            printed,
        })
    }

    /// Returns the table `[access]` as `config print` shows it.
    pub(super) fn print_access(&self) -> String {
        let table = parse_table(&self.text).ok();
        let access = table.as_ref().and_then(|table| table.get_ref().get(ACCESS));
        access.map_or_else(String::new, |value| {
            print_tables(value, &|offset| line(&self.text, offset))
        })
    }

    /// Adds the file and the line to a message.
    fn with_line(&self, (offset, message): ErrorAt) -> String {
        format!(
            "{}:{}: {message}",
            self.path.display(),
            line(&self.text, offset)
        )
    }

    /// Returns the line of the setting with this id; `None` if the file does not contain it.
    pub(super) fn line_of(&self, id: &str) -> Option<usize> {
        let setting = self.settings.iter().find(|setting| setting.id == id);
        setting.map(|setting| setting.line)
    }

    /// Returns the command, which was not used yet, with the values of the file as defaults.
    pub(super) fn apply(&self, command: Command) -> Command {
        command.mut_args(|flag| {
            let id = flag.get_id().as_str();
            match self.settings.iter().find(|setting| setting.id == id) {
                Some(setting) => flag.default_values(setting.values.clone()),
                None => flag,
            }
        })
    }
}

/// Returns the key of a flag.
pub(super) fn key_of(flag: &Arg) -> Option<String> {
    flag.get_long().map(|name| name.replace('-', "_"))
}

/// Returns the flags that have a key: all settings, but not the file itself.
pub(super) fn flags(command: &Command) -> impl Iterator<Item = &Arg> {
    let others = ["config", "help", "version"];
    let flags = command.get_arguments();
    flags.filter(move |flag| !others.contains(&flag.get_id().as_str()))
}

/// An error, and where it is in the text.
pub(super) type ErrorAt = (usize, String);

/// The rules of a file, and what is probably not meant, with the lines.
#[derive(Debug, Default)]
pub struct FileAccess {
    /// The rules.
    pub rules: AccessRules,
    /// What is probably not meant, with the line.
    pub warnings: Vec<String>,
    /// The table as `config print` shows it.
    pub printed: String,
}

fn parse_table(text: &str) -> Result<Spanned<DeTable<'_>>, ErrorAt> {
    DeTable::parse(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        (offset, format!("this is not TOML: {}", error.message()))
    })
}

/// The settings that have flags, the certificates and the classes of channels.
type Parsed = (Vec<FileSetting>, Vec<CertificateFiles>, Vec<ChannelClass>);

fn parse(text: &str, command: &Command) -> Result<Parsed, ErrorAt> {
    let table = parse_table(text)?;
    let mut settings: Vec<_> = table
        .get_ref()
        .iter()
        .filter(|(key, _)| !TABLES.contains(&key.get_ref().as_ref()))
        .map(|(key, value)| {
            let offset = key.span().start;
            let flag = find_flag(command, key.get_ref()).map_err(|message| (offset, message))?;
            let values = values(key.get_ref(), flag, value)?;
            check(command, flag, &values).map_err(|message| (offset, message))?;
            Ok(FileSetting {
                id: flag.get_id().to_string(),
                line: line(text, offset),
                values,
            })
        })
        .collect::<Result<_, _>>()?;
    settings.sort_by_key(|setting| setting.line);
    let tls_pairs = table.get_ref().get(tls_pairs::KEY).map(tls_pairs::parse);
    let classes = table.get_ref().get(channel_classes::KEY);
    let classes = classes.map(channel_classes::parse).transpose()?;
    Ok((
        settings,
        tls_pairs.transpose()?.unwrap_or_default(),
        classes.unwrap_or_default(),
    ))
}

/// Returns the number of the line that contains the byte at `offset`.
fn line(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().iter().take(offset);
    1 + before.filter(|byte| **byte == b'\n').count()
}

fn find_flag<'c>(command: &'c Command, key: &str) -> Result<&'c Arg, String> {
    let keys = || flags(command).filter_map(|flag| Some((flag, key_of(flag)?)));
    if let Some((flag, _)) = keys().find(|(_, known)| known == key) {
        return Ok(flag);
    }
    let known: Vec<_> = keys().map(|(_, known)| known).collect();
    let known = known.iter().map(String::as_str).chain(TABLES);
    Err(format!(
        "there is no setting {key}{}",
        nearest_key(known, key)
    ))
}

/// Returns advice that names the known key which is most similar to `key`.
pub(super) fn nearest_key<'k>(known: impl Iterator<Item = &'k str>, key: &str) -> String {
    let similarity = |known: &str| strsim::jaro_winkler(known, key);
    let nearest = known.max_by(|one, other| similarity(one).total_cmp(&similarity(other)));
    nearest.map_or_else(String::new, |known| format!("; did you mean {known}?"))
}

/// Returns a value as the texts that the flag takes.
fn values(key: &str, flag: &Arg, value: &Spanned<DeValue<'_>>) -> Result<Vec<String>, ErrorAt> {
    let is_switch = matches!(flag.get_action(), ArgAction::SetTrue);
    let is_list = matches!(flag.get_action(), ArgAction::Append);
    let wrong = |expected: &str| {
        let offset = value.span().start;
        Err((offset, format!("{key} must be {expected}")))
    };
    match value.get_ref() {
        DeValue::Boolean(is_on) if is_switch => Ok(vec![is_on.to_string()]),
        _ if is_switch => wrong("true or false"),
        DeValue::String(text) => Ok(vec![text.to_string()]),
        DeValue::Integer(number) if number.radix() == 10 => Ok(vec![number.as_str().to_owned()]),
        DeValue::Array(items) if is_list => {
            let texts = items.iter().map(|item| match item.get_ref() {
                DeValue::String(text) => Some(text.to_string()),
                _ => None,
            });
            match texts.collect() {
                Some(texts) => Ok(texts),
                None => wrong("a list of strings"),
            }
        }
        _ if is_list => wrong("a string or a list of strings"),
        _ => wrong("a string or a whole number"),
    }
}

/// Checks the values as if they were given with the flag.
fn check(command: &Command, flag: &Arg, values: &[String]) -> Result<(), String> {
    if matches!(flag.get_action(), ArgAction::SetTrue) {
        return Ok(());
    }
    let name = flag.get_long().unwrap_or_default();
    let arguments = values.iter().map(|value| format!("--{name}={value}"));
    let command = command.clone().mut_args(|arg| arg.env(None));
    let program = command.get_name().to_owned();
    match command.try_get_matches_from([program].into_iter().chain(arguments)) {
        Ok(_) => Ok(()),
        Err(error) => {
            let text = error.to_string();
            let message = text.lines().next().unwrap_or_default();
            Err(message.trim_start_matches("error: ").to_owned())
        }
    }
}
