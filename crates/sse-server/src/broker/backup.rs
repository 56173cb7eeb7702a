//! Copies of a log: what a caller requests, and how a copy proceeds.
//!
//! Only the embedded log makes copies. A log in memory has nothing to restore them to, and Redis has
//! backups of its own. A node makes one copy at a time.

use std::{fmt, path::PathBuf, str::FromStr};

use serde::Serialize;

use super::{Broker, embedded::DataMode};

/// Where and how fast the server copies its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupSettings {
    /// The directory of all copies; `None` if the server makes none.
    pub directory: Option<PathBuf>,
    /// Bytes of keys and values per second.
    pub rate: u64,
    /// Free bytes that stay on the disks of the log and of the copies.
    pub disk_reserve: u64,
    /// Permissions of what is created.
    pub mode: DataMode,
}

/// The name of a copy, which is a directory in [`BackupSettings::directory`].
///
/// A name has no separator and does not begin with a dot, so it leads to no other directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupName(String);

/// The text is not the name of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the name of a copy has 1 to 64 characters out of A-Z a-z 0-9 . _ -, and begins with a letter \
     or a digit; the server makes a directory of that name in its --backup-dir"
)]
pub struct InvalidBackupName;

impl BackupName {
    const BYTES_MAX: usize = 64;

    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BackupName {
    type Err = InvalidBackupName;

    fn from_str(text: &str) -> Result<Self, InvalidBackupName> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let begins_well = text.starts_with(|first: char| first.is_ascii_alphanumeric());
        if begins_well && text.len() <= Self::BYTES_MAX && text.bytes().all(is_allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidBackupName)
        }
    }
}

impl fmt::Display for BackupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The last copy of this process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackupStatus {
    /// The name of the copy.
    pub name: String,
    /// How far the copy is.
    pub state: BackupState,
    /// Bytes of keys and values that were copied.
    pub copied_bytes: u64,
    /// Bytes of the events when the copy began, which are most of what is copied.
    pub total_bytes: u64,
    /// A sentence about why the copy failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How far a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BackupState {
    /// The copy is being made.
    Running,
    /// The copy is whole and on disk.
    Done,
    /// There is no copy of this name.
    Failed,
}

/// Why a copy cannot begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    /// The broker makes no copies.
    #[error("this server makes no copies, because {0}")]
    NotSupported(&'static str),
    /// Another copy is being made.
    #[error("the copy {0:?} is being made, and a server makes one at a time; try again later")]
    Running(String),
    /// There is a copy of this name.
    #[error("there is a copy {0:?} already, and no copy is replaced: choose another name")]
    Exists(String),
    /// The copy cannot begin.
    #[error("the copy cannot be made: {0}")]
    Failed(String),
}

impl Broker {
    /// Begins to copy the log. [`backup_status`](Self::backup_status) reports how the copy proceeds.
    ///
    /// # Errors
    ///
    /// Every [`BackupError`].
    pub async fn start_backup(
        &self,
        name: &BackupName,
        settings: &BackupSettings,
    ) -> Result<BackupStatus, BackupError> {
        match self {
            Self::Embedded(broker) => broker.start_backup(name, settings).await,
            Self::Memory(_) => Err(BackupError::NotSupported(
                "its events are in memory only (--memory)",
            )),
            Self::Redis(_) => Err(BackupError::NotSupported(
                "its events are in Redis: back up Redis itself",
            )),
        }
    }

    /// Returns the copy that is being made, or the last one since the start of the process.
    #[must_use]
    pub fn backup_status(&self) -> Option<BackupStatus> {
        match self {
            Self::Embedded(broker) => broker.backup_status(),
            Self::Memory(_) | Self::Redis(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_to_no_other_directory() {
        for good in ["monday", "2026-11-30T12.00", "a", &"x".repeat(64)] {
            assert_eq!(good.parse::<BackupName>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            ".",
            "..",
            "../a",
            "a/b",
            "/a",
            ".partial",
            "a b",
            "é",
            "a\0",
            &"x".repeat(65),
        ] {
            assert_eq!(bad.parse::<BackupName>(), Err(InvalidBackupName), "{bad:?}");
        }
    }
}
