//! The files that the tables name. A relative path starts at the directory of the configuration file.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::table::TableReader;
use crate::config::file::ErrorAt;

/// A larger file is rejected.
const BYTES_MAX: u64 = 1 << 20;

/// Reads files that the tables name.
#[derive(Debug)]
pub(super) struct NamedFiles {
    directory: PathBuf,
}

impl NamedFiles {
    /// Files named in the configuration file `path`.
    pub(super) fn of(path: &Path) -> Self {
        let directory = path.parent().unwrap_or(Path::new("")).to_owned();
        Self { directory }
    }

    /// Reads and parses the file that `key` names.
    pub(super) fn parse<T>(
        &self,
        table: &TableReader<'_>,
        key: &str,
        parse: impl FnOnce(&[u8]) -> Result<T, String>,
    ) -> Result<T, ErrorAt> {
        let (offset, name) = table.read_required_text(key)?;
        self.parse_named(name, parse)
            .map_err(|message| (offset, format!("{key}: {message}")))
    }

    /// Reads and parses the file `name`.
    pub(super) fn parse_named<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&[u8]) -> Result<T, String>,
    ) -> Result<T, String> {
        let path = self.directory.join(name);
        let path_text = path.display();
        let bytes = read(&path).map_err(|error| format!("cannot read {path_text}: {error}"))?;
        parse(&bytes).map_err(|error| format!("{path_text}: {error}"))
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut bytes = Zeroizing::new(Vec::new());
    let file = File::open(path).map_err(|error| error.to_string())?;
    let length = file.take(BYTES_MAX + 1).read_to_end(&mut bytes);
    if length.map_err(|error| error.to_string())? as u64 > BYTES_MAX {
        return Err("it is larger than 1 MiB".to_owned());
    }
    Ok(bytes)
}
