//! The permissions of the data directory and its files.
//!
//! Events can be private, so only the owner has access unless `--data-mode` adds a group. A
//! directory or file that exists keeps its permissions, and the log warns if they are wider.

use std::{
    fs::{self, DirBuilder, File, Metadata, Permissions},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::Path,
    str::FromStr,
};

use sse_cli::private_file;

/// Permissions of the data directory; a file has the same ones without execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataMode(u32);

impl DataMode {
    /// Access for the owner only.
    pub const PRIVATE: Self = Self(0o700);

    const fn directory(self) -> u32 {
        self.0
    }

    const fn file(self) -> u32 {
        self.0 & 0o666
    }
}

impl FromStr for DataMode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match u32::from_str_radix(text, 8) {
            Ok(mode @ (0o700 | 0o750 | 0o770)) => Ok(Self(mode)),
            _ => Err(
                "write 0700 (the owner), 0750 (the group may read) or 0770 (the group may \
                      read and write)",
            ),
        }
    }
}

/// Creates the directory if it does not exist. Rejects a path that is not a directory.
pub(super) fn create_directory(path: &Path, mode: DataMode) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            warn_if_exposed(path, &found, mode.directory());
            Ok(())
        }
        Ok(_) => Err(io::Error::new(
            ErrorKind::NotADirectory,
            "it is not a directory: choose another one with --data-dir",
        )),
        Err(_) => {
            let mut builder = DirBuilder::new();
            builder
                .recursive(true)
                .mode(mode.directory())
                .create(path)?;
            // The umask can have removed permissions of the group.
            fs::set_permissions(path, Permissions::from_mode(mode.directory()))
        }
    }
}

/// Opens a file of the log for reading and writing, and creates it if it does not exist. Follows no
/// symbolic link.
pub(super) fn open_data_file(path: &Path, mode: DataMode) -> io::Result<File> {
    let mut options = private_file::options(mode.file());
    options.read(true).write(true);
    match options.open(path) {
        Ok(file) => {
            warn_if_exposed(path, &file.metadata()?, mode.file());
            Ok(file)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let file = options.create_new(true).open(path)?;
            file.set_permissions(Permissions::from_mode(mode.file()))?;
            Ok(file)
        }
        Err(error) => Err(private_file::explain(error)),
    }
}

/// Warns if others can read the events, or could have written them.
fn warn_if_exposed(path: &Path, found: &Metadata, mode: u32) {
    let path = path.display();
    let found_mode = found.mode() & 0o777;
    if found_mode & !mode != 0 {
        tracing::warn!(
            "{path} has permissions {found_mode:04o}, which are wider than {mode:04o}: others may \
             read the events; run chmod {mode:04o}, or set --data-mode"
        );
    }
    let owner = found.uid();
    if owner != rustix::process::geteuid().as_raw() {
        tracing::warn!(
            "{path} belongs to another user ({owner}), who can read and change the events"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).expect("it exists").mode() & 0o777
    }

    #[test]
    fn a_mode_gives_access_to_the_owner_and_perhaps_the_group() {
        assert_eq!("0700".parse(), Ok(DataMode::PRIVATE));
        assert_eq!("770".parse::<DataMode>().map(DataMode::file), Ok(0o660));
        for wrong in ["", "0755", "0777", "0600", "rwx", "-1", "0o700"] {
            assert!(wrong.parse::<DataMode>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_created_has_the_permissions_of_the_mode() {
        let parent = tempfile::tempdir().expect("a directory");
        for (name, mode) in [("own", 0o700), ("group", 0o770)] {
            let (directory, mode) = (parent.path().join(name), DataMode(mode));
            create_directory(&directory, mode).expect("created");
            open_data_file(&directory.join("file"), mode).expect("created");
            assert_eq!(mode_of(&directory), mode.directory());
            assert_eq!(mode_of(&directory.join("file")), mode.file());
        }
    }

    #[test]
    fn what_exists_keeps_its_permissions() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        fs::write(&path, "content").expect("a file");
        fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("its permissions");
        let file = open_data_file(&path, DataMode::PRIVATE).expect("opened");
        assert_eq!(file.metadata().expect("its size").len(), 7);
        assert_eq!(mode_of(&path), 0o644);
    }

    #[test]
    fn a_symbolic_link_is_not_followed() {
        let directory = tempfile::tempdir().expect("a directory");
        let (target, link) = (
            directory.path().join("target"),
            directory.path().join("link"),
        );
        for exists in [false, true] {
            if exists {
                fs::write(&target, "content").expect("a file");
            }
            let _ = fs::remove_file(&link);
            symlink(&target, &link).expect("a link");
            let error = open_data_file(&link, DataMode::PRIVATE).expect_err("a link");
            assert!(error.to_string().contains("symbolic link"), "{error}");
            assert_eq!(target.exists(), exists);
        }
    }
}
