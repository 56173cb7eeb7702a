//! `listener bench`: very many streams at once, on one thread, and an account of every event on each of them.
//!
//! The path of a byte, a file a hop: `engine` (readiness) → `connection` → `head`, then `body` (chunks) → [`events`] →
//! `collector` → `stats` and `publishers`. `report` adds it all up.
//!
//! | module | holds |
//! |---|---|
//! | `plan` | the command line, and what it comes to: addresses, and the bytes of the request (`request`) |
//! | `engine` | the loop over all connections; `schedule` says when what is due, `sources` from where to connect |
//! | `connection` | one connection: what it waits for, what it makes of bytes; `head` and `body` are HTTP/1.1 |
//! | [`events`] | bytes to events by the listener's rules, without an allocation for each |
//! | `collector`, `stamp` | what is done with an event; what its data says about its publisher and its time |
//! | `sequence_tracker`, `publishers`, `loss` | numbered events: of one publisher on one connection; of all; added up |
//! | `stats`, `report`, `text`, `hints` | what is counted, and how it is told |
//! | `progress`, `open_files` | how it goes, on stderr; the limit of open files |

mod body;
mod collector;
mod connection;
mod engine;
pub mod events;
mod head;
mod hints;
mod loss;
mod open_files;
mod plan;
mod progress;
mod publishers;
mod report;
mod request;
mod schedule;
mod sequence_tracker;
mod sources;
mod stamp;
mod stats;
mod text;

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
    engine::{Engine, Reason, Stop},
    plan::Plan,
    progress::Progress,
    report::Report,
};
pub use self::{open_files::TooFewFiles, plan::NoAddress};
use crate::settings::load::LoadSettings;

/// Why a load test failed.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// More connections than files.
    #[error(transparent)]
    Files(#[from] TooFewFiles),
    /// A name without an address.
    #[error(transparent)]
    Address(#[from] NoAddress),
    /// Signals cannot be listened for.
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    /// No event loop.
    #[error("the event loop of the operating system fails")]
    Loop(#[source] io::Error),
    /// No stream at all.
    #[error("no connection could be opened; the report says why")]
    NothingOpened,
    /// `--expect-no-loss`, and it was not so.
    #[error("--expect-no-loss: {0}")]
    Loss(&'static str),
    /// The file for the report cannot be written.
    #[error("cannot write the report to {}", .path.display())]
    Report {
        /// The file.
        path: PathBuf,
        /// Why.
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
/// What kept it from being done; the text says what was tried and what to do. The report is printed all the same if
/// there is one.
pub fn run(settings: &LoadSettings) -> Result<(), LoadError> {
    open_files::make_room_for(settings.connections as usize)?;
    let plan = Plan::new(settings, rand::random::<u32>().into())?;
    // Opened before anything is measured: what cannot be written is better known now.
    let file = settings.report.as_deref().map(create).transpose()?;
    let engine = Engine::new(&plan).map_err(LoadError::Loop)?;
    ask_to_stop_on_signals(engine.stop()).map_err(LoadError::Signals)?;
    let mut progress = Progress::new(Instant::now(), plan.duration, settings.progress_every);
    let started = Utc::now();
    let finished = engine.run(&mut progress);
    progress.end();
    let finished = finished.map_err(LoadError::Loop)?;
    let report = Report::new(settings, &plan, &finished, started);
    if let Some((path, file)) = file {
        write_json(file, &report).map_err(|cause| LoadError::Report { path, cause })?;
    }
    print(&report)?;
    if finished.reason == Reason::NothingOpened {
        return Err(LoadError::NothingOpened);
    }
    match report.loss.publishers.is_empty() {
        _ if !settings.expect_no_loss || report.is_without_loss() => Ok(()),
        true => Err(LoadError::Loss(
            "no numbered events came, so nothing can be said",
        )),
        false => Err(LoadError::Loss(
            "events were lost, doubled or out of order; the report says which",
        )),
    }
}

fn create(path: &Path) -> Result<(PathBuf, File), LoadError> {
    let file = File::create(path).map_err(|cause| LoadError::Report {
        path: path.to_owned(),
        cause,
    })?;
    Ok((path.to_owned(), file))
}

fn write_json(file: File, report: &Report) -> io::Result<()> {
    let mut file = BufWriter::new(file);
    serde_json::to_writer_pretty(&mut file, report)?;
    file.write_all(b"\n")?;
    file.into_inner()?.sync_all()
}

fn print(report: &Report) -> Result<(), LoadError> {
    match io::stdout().lock().write_all(report.to_string().as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(LoadError::Output(error)),
        _ => Ok(()),
    }
}

/// Signals are waited for on a thread of their own, which sleeps until there is one.
fn ask_to_stop_on_signals(stop: Stop) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut signals = {
        let _in_runtime = runtime.enter();
        Signals::install()?
    };
    let wait = move || {
        runtime.block_on(async {
            loop {
                signals.next().await;
                stop.ask();
            }
        });
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(wait)
        .map(drop)
}
