//! The clock from which ids are made. libfaketime steps the clock for a program that is unaware of
//! it.
//!
//! Only the time of day steps. Monotonic time, which programs use for waiting, is not changed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;

use crate::processes::{Output, Process, until};

const LIBRARY: &str = "libfaketimeMT.so.1";
/// Library whose allocator is preloaded before the program's own. jemalloc reads the time while it
/// starts, when libfaketime still has to allocate before it can return a time.
const ALLOCATOR: &str = "libc.so.6";
/// Longer than a program takes to print its version.
const SUITS_WITHIN: Duration = Duration::from_secs(10);

/// A clock that can be stepped.
#[derive(Debug)]
pub(crate) struct Clock {
    library: PathBuf,
    offset_file: PathBuf,
    offset_s: i64,
    /// The furthest that the clock was ever ahead, in seconds.
    furthest_s: i64,
}

impl Clock {
    /// Returns a clock that shows the right time, or `None` if libfaketime is not installed.
    pub(crate) fn find(directory: &Path) -> anyhow::Result<Option<Self>> {
        let places = ["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(PathBuf::from);
        let below = places
            .iter()
            .filter_map(|place| fs::read_dir(place).ok())
            .flatten()
            .flatten();
        let directories = below
            .map(|entry| entry.path())
            .chain(places.iter().cloned());
        let files = directories
            .flat_map(|place| [place.join("faketime").join(LIBRARY), place.join(LIBRARY)]);
        let given = std::env::var_os("FAKETIME_LIBRARY").map(PathBuf::from);
        let Some(library) = given.into_iter().chain(files).find(|file| file.exists()) else {
            return Ok(None);
        };
        let mut clock = Self {
            library,
            offset_file: directory.join("clock"),
            offset_s: 0,
            furthest_s: 0,
        };
        clock.set(0)?;
        Ok(Some(clock))
    }

    /// Checks whether a program works with this clock. A program with a built-in allocator may
    /// hang.
    pub(crate) async fn suits(&self, program: &Path, log: &Path) -> anyhow::Result<bool> {
        let mut command = Command::new(program);
        self.preload(command.arg("--version"));
        let mut process = Process::start(
            "a program with another clock",
            command,
            log,
            &Output::Nowhere,
        )?;
        let ended = until(SUITS_WITHIN, async || process.ended()).await;
        let complaints = fs::metadata(log).context("cannot look at a log")?.len();
        Ok(ended.is_some_and(|status| status.success()) && complaints == 0)
    }

    /// Makes a program use this clock.
    pub(crate) fn preload(&self, command: &mut Command) {
        command.env(
            "LD_PRELOAD",
            format!("{}:{ALLOCATOR}", self.library.display()),
        );
        command.env("FAKETIME_TIMESTAMP_FILE", &self.offset_file);
        // Without this, libfaketime reads the file only every ten seconds.
        command.env("FAKETIME_NO_CACHE", "1");
        for switch in [
            "DONT_FAKE_MONOTONIC",
            "FAKETIME_DONT_FAKE_MONOTONIC",
            "NO_FAKE_STAT",
            "FAKETIME_DISABLE_SHM",
        ] {
            command.env(switch, "1");
        }
    }

    /// Steps the clock to `seconds` ahead of its furthest point.
    pub(crate) fn leap(&mut self, seconds: i64) -> anyhow::Result<()> {
        self.furthest_s += seconds;
        self.set(self.furthest_s)
    }

    /// Steps the clock to `seconds` behind the right time.
    pub(crate) fn fall_back(&mut self, seconds: i64) -> anyhow::Result<()> {
        self.set(-seconds)
    }

    /// Returns the clock's time in milliseconds since the Unix epoch.
    pub(crate) fn now_ms(&self) -> u64 {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_millis();
        u64::try_from(now)
            .unwrap_or(u64::MAX)
            .saturating_add_signed(self.offset_s * 1000)
    }

    fn set(&mut self, offset_s: i64) -> anyhow::Result<()> {
        // The rename is atomic, so a program reads either the old offset or the new one.
        let beside = self.offset_file.with_extension("new");
        fs::write(&beside, format!("{offset_s:+}\n")).context("cannot set the clock")?;
        fs::rename(&beside, &self.offset_file).context("cannot set the clock")?;
        self.offset_s = offset_s;
        Ok(())
    }
}
