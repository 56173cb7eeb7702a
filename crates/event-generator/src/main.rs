//! `event-generator`: posts events to a Server-Sent Events server at a steady rate, and counts what became of them.
//!
//! This file only puts the parts together and turns how the run ended into an exit code.
//!
//! | module | holds |
//! |---|---|
//! | `settings` | the command line and its environment twins, checked |
//! | `base_url` | where the server is |
//! | `pace` | when each event is due (pure) |
//! | `payload` | which event: its type and its data |
//! | `request` | events as requests: ours, batches, templates (pure) |
//! | `publisher` | sends a request |
//! | `retry` | sends a request again, with the same key |
//! | `outcome` | what an answer says about events (pure) |
//! | `in_flight` | the requests that wait for their answers |
//! | `lanes` | which of them come one after the other, so that numbers prove an order (pure) |
//! | `run` | the loop: sends what is due, takes what was answered, stops when told |
//! | `breather` | the pause of a closed loop after connections that failed (pure) |
//! | `alarm` | the timer that wakes the loop |
//! | `signals` | Ctrl-C and SIGTERM |
//! | `results` | what is done with each outcome: the five below |
//! | `status_lines` | stdout: a status code a line |
//! | `complaints` | log lines about failures: at most one per kind and second (pure) |
//! | `talk` | stderr: those messages, and the progress |
//! | `report` | the counters, the summary, the file of `--report` |
//! | `record` | the file of `--record` |

mod alarm;
mod base_url;
mod breather;
mod complaints;
mod completions;
mod in_flight;
mod lanes;
mod open_files;
mod outcome;
mod pace;
mod payload;
mod publisher;
mod record;
mod report;
mod request;
mod results;
mod retry;
mod run;
mod settings;
mod signals;
mod status_lines;
mod talk;

use std::process::ExitCode;

use anyhow::Context as _;

use crate::{run::Run, settings::Settings, signals::Signals, talk::write_line};

fn main() -> ExitCode {
    let settings = match Settings::from_args(std::env::args_os()) {
        Ok(settings) => settings,
        Err(error) => {
            // Help and version go to stdout with code 0, misuse to stderr with code 2. A closed pipe is a quiet end.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    if let Some(shell) = settings.completions {
        return completions::print(shell);
    }
    run_generator(&settings).unwrap_or_else(|error| {
        write_line(format_args!("error: {error:#}"));
        ExitCode::FAILURE
    })
}

fn run_generator(settings: &Settings) -> anyhow::Result<ExitCode> {
    // Fails only if there is a provider already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    open_files::make_room_for(settings.concurrency);
    // One thread: a load generator should leave the other cores to the server that it measures.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let code = runtime.block_on(async {
        // Before the first request, so that no signal finds the default action.
        let mut signals = Signals::listen().context("cannot listen for signals")?;
        let ended = Run::new(settings)?.run(&mut signals).await;
        write_line(&ended.report);
        if let Some(error) = ended.error {
            return Err(error.into());
        }
        ended
            .report_error
            .map_or(Ok(ended.code), |error| Err(error.into()))
    });
    // Not dropped: that would wait for a name lookup that hangs.
    runtime.shutdown_background();
    code
}
