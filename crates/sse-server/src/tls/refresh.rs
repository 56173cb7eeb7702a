//! Reads certificates again whose files have changed, and warns before they expire.
//!
//! Programs that renew a certificate replace its two files one after the other. So changed files are
//! read only when they have not changed any more since the last look. If they cannot be used, the
//! error is logged once, and the old pair stays until the files change again.

use std::{path::Path, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{
    certificate::{CertificateFiles, FileStamps},
    certificates::Certificates,
};

/// Time between two looks at the files.
const INTERVAL: Duration = Duration::from_secs(2);
/// Time between two reports of one certificate.
const WARN_INTERVAL: Duration = Duration::from_hours(24);

/// Keeps the certificates up to date until `stopping` is cancelled.
pub(crate) async fn refresh_certificates(certificates: Certificates, stopping: CancellationToken) {
    let mut watched: Vec<_> = certificates.files().map(WatchedPair::new).collect();
    let mut next_warning = Instant::now();
    let mut tick = interval(INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stopping.run_until_cancelled(tick.tick()).await.is_some() {
        let mut has_changed = false;
        for (nth, pair) in watched.iter_mut().enumerate() {
            if pair.must_reload() {
                reload(&certificates, nth, pair.files.certificate.as_path());
                has_changed = true;
            }
        }
        if has_changed || Instant::now() >= next_warning {
            warn_about_expiry(&certificates);
            next_warning = Instant::now() + WARN_INTERVAL;
        }
    }
}

fn reload(certificates: &Certificates, nth: usize, path: &Path) {
    match certificates.reload(nth) {
        Ok(()) => tracing::info!("the certificate {} is in use", path.display()),
        Err(error) => {
            let error = anyhow::Error::new(error);
            tracing::error!(
                "a changed certificate is not used, and the old one remains: {error:#}"
            );
        }
    }
}

/// The files of a pair, and what was last seen of them.
struct WatchedPair {
    files: CertificateFiles,
    loaded: FileStamps,
    seen: FileStamps,
}

impl WatchedPair {
    fn new(files: &CertificateFiles) -> Self {
        let stamps = files.stamps();
        Self {
            files: files.clone(),
            loaded: stamps.clone(),
            seen: stamps,
        }
    }

    /// Whether the files have changed since they were read, and not since the last call.
    fn must_reload(&mut self) -> bool {
        let stamps = self.files.stamps();
        let is_settled = stamps == self.seen;
        self.seen = stamps;
        if !is_settled || self.seen == self.loaded {
            return false;
        }
        self.loaded = self.seen.clone();
        true
    }
}

fn warn_about_expiry(certificates: &Certificates) {
    for warning in certificates.expiry_warnings() {
        if warning.has_expired() {
            tracing::error!("{warning}");
        } else {
            tracing::warn!("{warning}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::tls::test_support::write_pair;

    #[test]
    fn changed_files_are_read_once_when_they_do_not_change_any_more() {
        let directory = TempDir::new().unwrap();
        let files = write_pair(directory.path(), "a.example");
        let mut pair = WatchedPair::new(&files);
        assert!(!pair.must_reload());
        fs::write(&files.certificate, "one").unwrap();
        assert!(!pair.must_reload());
        fs::write(&files.key, "another one").unwrap();
        assert!(!pair.must_reload(), "the other file has changed since");
        assert!(pair.must_reload());
        assert!(!pair.must_reload());
        fs::remove_file(&files.key).unwrap();
        assert!(!pair.must_reload());
        assert!(pair.must_reload());
    }
}
