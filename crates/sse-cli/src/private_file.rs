//! Files that only their owner may read, and that are never reached through a symbolic link.
//!
//! A user who can write to the directory of a file could put a link there, which leads to a file of
//! somebody else.

use std::{fs::OpenOptions, io};

#[cfg(unix)]
use std::os::unix::fs::OpenOptionsExt as _;

/// Permissions of a file that only its owner may read and write.
pub const PRIVATE: u32 = 0o600;

/// Options that create a file with the permissions `mode`, and open no symbolic link.
///
/// The file that is opened must still be chosen: `read`, `write`, `create` and the like.
#[must_use]
pub fn options(mode: u32) -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    options
        .mode(mode)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
    options
}

/// Explains the error of an open if the path is a symbolic link; returns other errors unchanged.
#[must_use]
pub fn explain(error: io::Error) -> io::Error {
    #[cfg(unix)]
    if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
        return io::Error::other(
            "the path is a symbolic link, which is not followed: name the file itself",
        );
    }
    error
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_new_file_is_private_and_a_link_is_not_followed() {
        let directory = tempfile::tempdir().expect("a directory");
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        let create = |path| options(PRIVATE).write(true).create(true).open(path);
        let mode = create(&file).and_then(|file| file.metadata());
        let mode = mode.expect("a file").permissions().mode();
        assert_eq!(mode & 0o777 & !PRIVATE, 0);
        symlink(&file, &link).expect("a link");
        let error = explain(create(&link).expect_err("a link"));
        assert!(error.to_string().contains("symbolic link"), "{error}");
        let absent = explain(create(&directory.path().join("a/b")).expect_err("no directory"));
        assert_eq!(absent.kind(), io::ErrorKind::NotFound);
    }
}
