//! The flags about copies of the log.

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::Args;
use sse_proto::units::parse_size;

use crate::broker::{backup::BackupSettings, embedded::DataMode};

/// The flags about copies of the log.
#[derive(Args)]
pub(super) struct BackupArgs {
    /// Let `sse-server backup` write copies of the log below this directory [default: no copies]
    ///
    /// The server chooses the directory, so a stolen credential can neither read a copy nor write
    /// elsewhere. It is created when the first copy is made, with the permissions of --data-mode.
    #[arg(
        long,
        env = "SSE_BACKUP_DIR",
        value_name = "DIRECTORY",
        help_heading = "Backup"
    )]
    pub(super) backup_dir: Option<PathBuf>,

    /// Copy at most this much per second, so that publishing is not delayed
    #[arg(
        long,
        env = "SSE_BACKUP_RATE",
        default_value = "8MiB",
        value_name = "SIZE",
        value_parser = parse_size,
        help_heading = "Backup"
    )]
    pub(super) backup_rate: ByteSize,
}

impl BackupArgs {
    pub(super) fn settings(&self, mode: DataMode, disk_reserve: ByteSize) -> BackupSettings {
        BackupSettings {
            directory: self.backup_dir.clone(),
            rate: self.backup_rate.0,
            disk_reserve: disk_reserve.0,
            mode,
        }
    }
}
