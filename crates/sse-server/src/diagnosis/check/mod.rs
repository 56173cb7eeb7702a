//! What will cause trouble with these settings on this machine.
//!
//! | file | contents |
//! |---|---|
//! | `report` | findings as sentences and as JSON |
//! | `disk` | the data directory, and the space on its disk |
//! | `ports` | whether the addresses can be listened on |
//! | `limits` | open files, memory, waiting connections |
//! | `redis` | whether Redis responds, and is set up to keep events |
//! | `clock` | the time |
//! | `modes` | who may read and write the files |
//! | `certificates` | the files of TLS |
//!
//! Nothing is opened for writing, created or changed, so a check is safe beside a running server.

mod certificates;
mod clock;
mod disk;
mod limits;
mod modes;
mod ports;
mod redis;
mod report;

use anyhow::Context as _;

use self::report::Report;
use crate::config::Config;

/// Checks everything that the settings need. Returns the report, as sentences or as `json`, and the
/// exit code: 0, 1 with warnings, 2 with errors.
///
/// # Errors
///
/// The check itself cannot run.
pub fn check(config: &Config, json: bool) -> anyhow::Result<(String, u8)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let report = runtime.block_on(check_all(config));
    let text = if json {
        report.to_json()
    } else {
        report.to_text()
    };
    Ok((text, report.exit_code()))
}

async fn check_all(config: &Config) -> Report {
    let mut report = Report::default();
    disk::check(config, &mut report);
    ports::check(config, &mut report).await;
    limits::check(config, &mut report);
    redis::check(config, &mut report).await;
    clock::check(config, &mut report);
    modes::check(config, &mut report);
    certificates::check(config, &mut report);
    report
}
