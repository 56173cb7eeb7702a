//! Where the value of a setting comes from.

use std::fmt;

use clap::{ArgMatches, parser::ValueSource};

use super::file::ConfigFile;

/// Where a value comes from. The first one overrides the others, and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Flag,
    Variable,
    /// The configuration file, in this line.
    File(usize),
    Default,
}

impl Source {
    /// Returns the source of the flag with this id.
    pub(super) fn of(id: &str, matches: &ArgMatches, file: &ConfigFile) -> Self {
        match matches.value_source(id) {
            Some(ValueSource::CommandLine) => Self::Flag,
            Some(ValueSource::EnvVariable) => Self::Variable,
            _ => file.line_of(id).map_or(Self::Default, Self::File),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Variable => f.write_str("variable"),
            Self::File(line) => write!(f, "file, line {line}"),
            Self::Default => f.write_str("default"),
        }
    }
}
