//! `event-generator`: publishes events to a Server-Sent Events server at a steady rate, and counts
//! their outcomes.
//!
//! This file connects the modules and turns the result of the run into an exit code. A module uses
//! only the modules above it in this table:
//!
//! | module | contents |
//! |---|---|
//! | `schedule` | when each event is due (pure) |
//! | `payload` | the type and the data of each event |
//! | `request` | events as HTTP requests: the API of sse-server, batches, templates (pure) |
//! | `publisher` | sends a request, repeats it if that is safe, and interprets the response |
//! | `report` | the output: counters and summary, `--report`, `--record`, stdout, stderr |
//! | `settings` | the command line and its environment, validated; builds the parts of a run |
//! | `run` | the loop: sends what is due, handles responses, stops at the end or on a signal |

mod payload;
mod publisher;
mod report;
mod request;
mod run;
mod schedule;
mod settings;

use std::process::ExitCode;

use anyhow::Context as _;

use sse_cli::{open_files, signals::Signals, stderr::write_line};

use crate::{
    run::Run,
    settings::{Settings, completions},
};

fn main() -> ExitCode {
    let settings = match Settings::from_args(std::env::args_os()) {
        Ok(settings) => settings,
        Err(error) => {
            // Help and version go to stdout with code 0, misuse to stderr with code 2. A closed
            // pipe is no error.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    if let Some(shell) = settings.completions {
        return completions::print(shell);
    }
    if let Some(directory) = &settings.man {
        return completions::write_manual(directory);
    }
    for variable in settings::unknown_variables() {
        write_line(format_args!(
            "unknown setting {variable}; `event-generator --help` lists all settings"
        ));
    }
    run_generator(&settings).unwrap_or_else(|error| {
        write_line(format_args!("error: {error:#}"));
        ExitCode::FAILURE
    })
}

fn run_generator(settings: &Settings) -> anyhow::Result<ExitCode> {
    // Fails only if a provider is installed already, which is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // If the limit stays too low, connecting fails, and the messages about events say so.
    let _ = open_files::raise_limit();
    // One thread: a load generator should leave the other cores to the server that it measures.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let code = runtime.block_on(run_to_end(settings));
    // Dropping the runtime would wait for a name lookup that hangs.
    runtime.shutdown_background();
    code
}

async fn run_to_end(settings: &Settings) -> anyhow::Result<ExitCode> {
    // Install the handlers before the first request: a signal must not find the default action.
    let mut signals = Signals::install().context("cannot listen for signals")?;
    let result = Run::new(settings)?.run(&mut signals).await;
    write_line(&result.stats);
    if let Some(error) = result.error {
        return Err(error.into());
    }
    result
        .report_error
        .map_or(Ok(result.code), |error| Err(error.into()))
}
