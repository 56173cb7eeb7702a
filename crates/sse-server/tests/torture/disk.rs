//! A small disk for the embedded log, which the test can fill.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

const SIZE: &str = "size=192m";

/// A mounted disk, unmounted when dropped.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) directory: PathBuf,
}

impl Disk {
    /// Mounts a disk; returns `None` if the user is not allowed to.
    pub(crate) fn mount(directory: &Path) -> anyhow::Result<Option<Self>> {
        fs::create_dir_all(directory).context("cannot make a directory for the disk")?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", SIZE, "tmpfs"])
            .arg(directory)
            .output();
        let is_there = mounted.is_ok_and(|output| output.status.success());
        Ok(is_there.then(|| Self {
            directory: directory.to_owned(),
        }))
    }

    fn filler(&self) -> PathBuf {
        self.directory.join("filler")
    }

    /// Fills the disk to the last byte.
    pub(crate) fn fill(&self) -> anyhow::Result<()> {
        let mut file = fs::File::create(self.filler()).context("cannot fill the disk")?;
        for piece in [vec![0_u8; 1 << 20], vec![0; 4096]] {
            while file.write_all(&piece).is_ok() {}
        }
        Ok(())
    }

    /// Frees the space again.
    pub(crate) fn empty(&self) -> anyhow::Result<()> {
        fs::remove_file(self.filler()).context("cannot empty the disk")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.directory).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("cannot unmount {}", self.directory.display());
        }
    }
}
