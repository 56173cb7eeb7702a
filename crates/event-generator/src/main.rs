//! `event-generator`: posts events to a Server-Sent Events server at a steady rate, and counts what became of them.
//!
//! This file only puts the parts together and turns how the run ended into an exit code.
//!
//! | module | holds |
//! |---|---|
//! | `settings` | the command line and its environment twins, checked |
//! | `base_url` | where the server is, and the address of each action |
//! | `pace` | when each event is due (pure) |
//! | `actions`, `payload` | which event: its action, its user, its body |
//! | `publisher` | one request |
//! | `outcome` | what an answer says about an event (pure) |
//! | `in_flight` | the requests that wait for their answers |
//! | `run` | the loop: sends what is due, takes what was answered, stops when told |
//! | `signals` | Ctrl-C and SIGTERM |
//! | `results` | what is done with each outcome: the four below |
//! | `status_lines` | stdout: a status code a line |
//! | `complaints` | stderr: what failed, at most one message of a kind a second |
//! | `report` | the counters and the summary |
//! | `record` | the file of `--record` |

mod actions;
mod base_url;
mod complaints;
mod in_flight;
mod outcome;
mod pace;
mod payload;
mod publisher;
mod record;
mod report;
mod results;
mod run;
mod settings;
mod signals;
mod status_lines;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;

use crate::{report::say, run::Run, settings::Settings, signals::Signals};

fn main() -> ExitCode {
    // Ends with code 2 and a message if the command line is misused.
    let settings = Settings::parse();
    generate(&settings).unwrap_or_else(|error| {
        say(format_args!("error: {error:#}"));
        ExitCode::FAILURE
    })
}

fn generate(settings: &Settings) -> anyhow::Result<ExitCode> {
    // Fails only if there is a provider already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // One thread: a load generator should leave the other cores to the server that it measures.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the async runtime")?;
    let code = runtime.block_on(async {
        // Before the first request, so that no signal finds the default action.
        let mut signals = Signals::listen().context("cannot listen for signals")?;
        let ended = Run::new(settings)?.run(&mut signals).await;
        say(&ended.report);
        ended.error.map_or(Ok(ended.code), |error| Err(error.into()))
    });
    // Not dropped: that would wait for a name lookup that hangs.
    runtime.shutdown_background();
    code
}
