//! The data directory, and the space on its disk.

use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use rustix::fs::{Access, access, statfs, statvfs};

use super::report::Report;
use crate::config::{BrokerKind, Config};

const AREA: &str = "disk";
const FILE: &str = "events.redb";
/// File systems on which the log would not survive, or whose fsync cannot be relied on, by the
/// numbers of `statfs(2)`.
const FILE_SYSTEMS: [(u64, &str); 7] = [
    (
        0x0102_1994,
        "is in memory (tmpfs): the log is gone after a restart of the machine",
    ),
    (
        0x794c_7630,
        "belongs to the container (overlayfs): the log is gone with it; mount a volume",
    ),
    (
        0x6969,
        "is on another machine (NFS): use a local disk, because locks and fsync may fail",
    ),
    (
        0xff53_4d42,
        "is on another machine (SMB): use a local disk, because locks and fsync may fail",
    ),
    (
        0xfe53_4d42,
        "is on another machine (SMB): use a local disk, because locks and fsync may fail",
    ),
    (
        0x0102_1997,
        "belongs to the host (9p): use a volume, because fsync may do nothing",
    ),
    (
        0x6573_5546,
        "is a FUSE file system: whether its fsync works is unknown",
    ),
];

pub(super) fn check(config: &Config, report: &mut Report) {
    let BrokerKind::Directory {
        path, disk_reserve, ..
    } = &config.broker.kind
    else {
        return;
    };
    let Some(existing) = nearest_directory(path) else {
        let path = path.display();
        report.fail(
            AREA,
            format_args!("{path} is not a directory; choose another --data-dir"),
        );
        return;
    };
    check_access(path, &existing, report);
    check_file_system(&existing, report);
    let used = std::fs::metadata(path.join(FILE)).map_or(0, |file| file.len());
    let needed = config.retention.bytes_max;
    check_space(&existing, *disk_reserve, needed, used, report);
}

/// Returns the directory, or the nearest one in which it would be created; `None` if a file is in
/// the way.
fn nearest_directory(path: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(path).ok()?;
    let existing = absolute.ancestors().find(|part| part.exists())?;
    existing.is_dir().then(|| existing.to_owned())
}

fn check_access(path: &Path, existing: &Path, report: &mut Report) {
    let wanted = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
    if let Err(error) = access(existing, wanted) {
        let (path, user) = (path.display(), rustix::process::geteuid().as_raw());
        report.fail(
            AREA,
            format_args!(
                "user {user} cannot use {path} ({error}): chown {}, or choose another --data-dir",
                existing.display()
            ),
        );
    }
    let file = path.join(FILE);
    let is_usable = !file.exists() || access(&file, Access::READ_OK | Access::WRITE_OK).is_ok();
    if !is_usable {
        let file = file.display();
        report.fail(
            AREA,
            format_args!("this user cannot write {file}: chown it"),
        );
    }
}

fn check_file_system(directory: &Path, report: &mut Report) {
    let Ok(found) = statfs(directory) else {
        return;
    };
    // The type of the field differs between platforms, and the numbers have 32 bits.
    let kind = u64::try_from(found.f_type).unwrap_or_default() & 0xffff_ffff;
    let known = FILE_SYSTEMS.iter().find(|(number, _)| *number == kind);
    if let Some((_, what)) = known {
        let directory = directory.display();
        report.warn(AREA, format_args!("the file system of {directory} {what}"));
    }
}

/// The file takes up to twice what its events count, because the space of trimmed events is reused
/// only later.
fn check_space(directory: &Path, reserve: u64, history_bytes: u64, used: u64, report: &mut Report) {
    let Ok(disk) = statvfs(directory) else {
        let directory = directory.display();
        report.warn(
            AREA,
            format_args!("the free space at {directory} cannot be read"),
        );
        return;
    };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let growth = history_bytes.saturating_mul(2).saturating_sub(used);
    let (place, free_text) = (directory.display(), ByteSize(free));
    if free < reserve {
        let reserve = ByteSize(reserve);
        report.fail(
            AREA,
            format_args!(
                "{free_text} are free on the disk of {place}, less than --disk-reserve ({reserve}): \
                 every publish would be rejected"
            ),
        );
    } else if free - reserve < growth {
        let growth = ByteSize(growth);
        report.warn(
            AREA,
            format_args!(
                "{free_text} are free on the disk of {place}, and the log may grow by {growth}: make \
                 room, or lower --history-bytes"
            ),
        );
    } else {
        report.ok(
            AREA,
            format_args!("{free_text} are free on the disk of {place}"),
        );
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn the_directory_need_not_exist_yet() {
        let root = TempDir::new().unwrap();
        let root = root.path();
        assert_eq!(nearest_directory(&root.join("a/b")).unwrap(), root);
        std::fs::write(root.join("file"), "").unwrap();
        assert_eq!(nearest_directory(&root.join("file/log")), None);
        assert_eq!(nearest_directory(&root.join("file")), None);
    }

    #[test]
    fn space_that_will_be_missing_is_reported() {
        let root = TempDir::new().unwrap();
        for (reserve, history_bytes, used, code) in [
            (0, 0, 0, 0),
            (u64::MAX, 0, 0, 2),
            (0, u64::MAX, 0, 1),
            (0, u64::MAX, u64::MAX, 0),
        ] {
            let mut report = Report::default();
            check_space(root.path(), reserve, history_bytes, used, &mut report);
            assert_eq!(report.exit_code(), code, "{}", report.to_text());
        }
    }
}
