//! The flags of commands that ask a running server.

use std::path::PathBuf;

use clap::Args;

use crate::diagnosis::connect::Trust;

/// Which certificates of the server are accepted.
#[derive(Clone, Args)]
pub(super) struct TrustArgs {
    /// Trust the certificates of this PEM file instead of those of the system
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    cacert: Option<PathBuf>,
    /// Accept any certificate
    #[arg(long)]
    insecure: bool,
}

impl TrustArgs {
    /// Reads the certificates.
    pub(super) fn read(self) -> Result<Trust, String> {
        let read = |path: PathBuf| {
            std::fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))
        };
        Ok(Trust {
            certificates: self.cacert.map(read).transpose()?,
            insecure: self.insecure,
        })
    }
}
