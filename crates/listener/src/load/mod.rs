//! `listener bench`: many streams at once, on one thread, and an account of every event on each of
//! them.
//!
//! The path of a byte, file by file: `engine` (readiness) → `connection` → `head`, then `body`
//! (chunks) → [`event_reader`] → `collector` → `stats` and `connection_sequences`. `report` adds
//! everything up.
//!
//! | module | holds |
//! |---|---|
//! | `plan` | the settings, prepared: addresses instead of names, bytes of a `request` |
//! | `engine` | the loop over all connections |
//! | `schedule`, `sources` | when something is due; source addresses of the connections |
//! | `connection` | one connection; `head`, `response` and `body` are its HTTP/1.1 |
//! | `transport` | its socket, with TLS or without |
//! | `http2` | connections with several streams |
//! | [`event_reader`] | bytes to events by the listener's rules, without an allocation per event |
//! | `collector` | what is counted per event; `stamp`, `json_scalar` and `timestamp` read its data |
//! | `publishers` | the publishers of numbered events, over all connections |
//! | `connection_sequences` | the numbered events of one connection |
//! | `sequence_tracker` | the numbered events of one publisher on one connection |
//! | `stats`, `loss`, `hints` | what was counted; what was lost; what to do about it |
//! | `report`, `text` | the report as data; as text for people |
//! | `progress`, `open_files` | progress on stderr; the limit of open files |

mod body;
mod collector;
mod connection;
mod connection_sequences;
mod engine;
pub mod event_reader;
mod head;
mod hints;
mod http2;
mod json_scalar;
mod loss;
mod open_files;
mod plan;
mod progress;
mod publishers;
mod report;
mod request;
mod response;
mod schedule;
mod sequence_tracker;
mod sources;
mod stamp;
mod stats;
mod text;
mod timestamp;
mod transport;

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

use chrono::Utc;
use sse_cli::signals::Signals;

use self::{
    engine::{EndReason, Engine, StopHandle},
    plan::Plan,
    progress::Progress,
    report::Report,
};
pub use self::{open_files::TooFewFiles, plan::NoAddress};
use crate::settings::load::LoadSettings;

/// Why a load test failed.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There are more connections than open files.
    #[error(transparent)]
    Files(#[from] TooFewFiles),
    /// A host has no address.
    #[error(transparent)]
    Address(#[from] NoAddress),
    /// TLS cannot be set up.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
    /// Signals cannot be received.
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    /// The event loop failed.
    #[error("the event loop of the operating system failed")]
    Loop(#[source] io::Error),
    /// No stream was opened.
    #[error("no connection could be opened; the report states why")]
    NothingOpened,
    /// `--expect-no-loss` is not fulfilled.
    #[error("--expect-no-loss: {0}")]
    Loss(&'static str),
    /// The file for the report cannot be written.
    #[error("cannot write the report to {}", .path.display())]
    Report {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        cause: io::Error,
    },
    /// Standard output cannot be written.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
}

/// Runs the load test and prints its report on stdout.
///
/// # Errors
/// See [`LoadError`]. The report is printed even then, if the test has run.
pub fn run(settings: &LoadSettings) -> Result<(), LoadError> {
    open_files::raise_limit_for(settings.sockets() as usize)?;
    let plan = Plan::new(settings, rand::random::<u32>().into())?;
    // Create the file before the test, so that a wrong path does not cost its result.
    let report_path = settings.report.as_deref();
    let file = report_path.map(create_report_file).transpose()?;
    let engine = Engine::new(&plan).map_err(LoadError::Loop)?;
    stop_on_signals(engine.stop_handle()).map_err(LoadError::Signals)?;
    let mut progress = Progress::new(Instant::now(), plan.duration, settings.progress_every);
    let started = Utc::now();
    let finished = engine.run(&mut progress);
    progress.end();
    let finished = finished.map_err(LoadError::Loop)?;
    let report = Report::new(settings, &plan, &finished, started);
    if let Some((path, file)) = file {
        write_json(file, &report).map_err(|cause| LoadError::Report { path, cause })?;
    }
    print_text(&report)?;
    if finished.reason == EndReason::NothingOpened {
        Err(LoadError::NothingOpened)
    } else if settings.expect_no_loss {
        check_no_loss(&report)
    } else {
        Ok(())
    }
}

fn check_no_loss(report: &Report) -> Result<(), LoadError> {
    if report.is_without_loss() {
        return Ok(());
    }
    Err(LoadError::Loss(describe_loss(report)))
}

const fn describe_loss(report: &Report) -> &'static str {
    if report.loss.publishers.is_empty() {
        "no numbered events were received, so loss cannot be judged"
    } else {
        "events were lost, received twice or out of order; the report lists them"
    }
}

fn create_report_file(path: &Path) -> Result<(PathBuf, File), LoadError> {
    let path = path.to_owned();
    match File::create(&path) {
        Ok(file) => Ok((path, file)),
        Err(cause) => Err(LoadError::Report { path, cause }),
    }
}

fn write_json(file: File, report: &Report) -> io::Result<()> {
    let mut file = BufWriter::new(file);
    serde_json::to_writer_pretty(&mut file, report)?;
    file.write_all(b"\n")?;
    file.into_inner()?.sync_all()
}

/// Prints the report. A closed pipe is not an error.
fn print_text(report: &Report) -> Result<(), LoadError> {
    match io::stdout().lock().write_all(report.to_string().as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(LoadError::Output(error)),
        _ => Ok(()),
    }
}

/// Starts a thread that waits for signals and passes each to the engine.
fn stop_on_signals(stop: StopHandle) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let signals = {
        let _in_runtime = runtime.enter();
        Signals::install()?
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || runtime.block_on(pass_signals(signals, stop)))
        .map(drop)
}

async fn pass_signals(mut signals: Signals, stop: StopHandle) {
    loop {
        signals.next().await;
        stop.request_stop();
    }
}
