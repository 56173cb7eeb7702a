//! The flags of commands that ask a running server.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use clap::Args;

use crate::diagnosis::connect::Trust;

/// Longest credential in a file.
const TOKEN_BYTES_MAX: u64 = 64 << 10;

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

/// Reads the API key or token in a file.
pub(super) fn read_token(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(TOKEN_BYTES_MAX).read_to_string(&mut text))
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let token = text.trim();
    if token.is_empty() || token.contains(char::is_whitespace) {
        return Err(format!(
            "{} does not have one API key or token",
            path.display()
        ));
    }
    Ok(token.to_owned())
}
