//! Who may read and write the server's files.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use super::report::Report;
use crate::config::{BrokerKind, Config};

const AREA: &str = "files";
const OTHERS: u32 = 0o007;
const GROUP_AND_OTHERS: u32 = 0o077;
const WRITABLE_BY_OTHERS: u32 = 0o002;

pub(super) fn check(config: &Config, report: &mut Report) {
    if let BrokerKind::Directory { path, .. } = &config.broker.kind {
        // Only the directory counts: nothing below it can be opened without it.
        check_mode(path, OTHERS, "may read the events", report);
        check_owner(path, report);
    }
    for files in &config.certificates {
        check_mode(&files.key, OTHERS, "may use the private key", report);
    }
    if let Some(file) = &config.file {
        let (forbidden, what) = match &config.broker.kind {
            BrokerKind::Redis { url, .. } if names_password(file, url) => {
                (GROUP_AND_OTHERS, "may read the password of Redis in it")
            }
            _ => (WRITABLE_BY_OTHERS, "may change the settings"),
        };
        check_mode(file, forbidden, what, report);
    }
}

/// Whether the configuration file, and not a variable, has the URL with its password.
fn names_password(file: &Path, url: &str) -> bool {
    let has_password = url
        .split_once("://")
        .is_some_and(|(_, rest)| rest.contains('@'));
    has_password && fs::read_to_string(file).is_ok_and(|text| text.contains(url))
}

fn check_mode(path: &Path, forbidden: u32, what: &str, report: &mut Report) {
    let Ok(found) = fs::metadata(path) else {
        return;
    };
    let mode = found.mode() & 0o777;
    let path = path.display();
    if mode & forbidden == 0 {
        report.ok(AREA, format_args!("{path} has mode {mode:04o}"));
    } else {
        let right = mode & !forbidden;
        report.warn(
            AREA,
            format_args!("{path} has mode {mode:04o}, so others {what}: chmod {right:04o} {path}"),
        );
    }
}

fn check_owner(path: &Path, report: &mut Report) {
    let user = rustix::process::geteuid().as_raw();
    let owner = fs::metadata(path).map(|found| found.uid());
    // Root owns the directories of a service that runs as another user, when root runs the check.
    if let Ok(owner) = owner
        && owner != user
        && user != 0
    {
        let path = path.display();
        report.warn(
            AREA,
            format_args!("{path} belongs to user {owner}, and the check runs as user {user}"),
        );
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use tempfile::NamedTempFile;

    use super::*;

    #[test]
    fn permissions_for_others_are_reported_with_the_right_ones() {
        let file = NamedTempFile::new().unwrap();
        for (mode, forbidden, right) in [
            (0o644, OTHERS, Some("chmod 0640")),
            (0o640, OTHERS, None),
            (0o640, GROUP_AND_OTHERS, Some("chmod 0600")),
            (0o666, WRITABLE_BY_OTHERS, Some("chmod 0664")),
        ] {
            let mut report = Report::default();
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            check_mode(file.path(), forbidden, "may read it", &mut report);
            let text = report.to_text();
            assert_eq!(report.exit_code(), u8::from(right.is_some()), "{text}");
            assert!(right.is_none_or(|right| text.contains(right)), "{text}");
        }
    }

    #[test]
    fn a_password_counts_only_where_it_is() {
        let file = NamedTempFile::new().unwrap();
        let url = "redis://:secret@localhost";
        fs::write(file.path(), format!("redis_url = \"{url}\"")).unwrap();
        assert!(names_password(file.path(), url));
        assert!(!names_password(file.path(), "redis://:other@localhost"));
        assert!(!names_password(file.path(), "redis://localhost"));
    }
}
