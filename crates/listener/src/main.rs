//! The command `listener`: reads the settings, follows the stream until it is done or told to stop, says how it ended.
//!
//! Exit codes: 0 done (also on a signal and on a closed pipe), 1 failed, 2 misused (clap's own).

use std::{io::Write, process::ExitCode, time::Duration};

use anyhow::Context;
use clap_complete::Shell;
use listener::{
    output::stderr,
    settings::{
        command_line::{self, Invocation},
        follow::FollowSettings,
    },
};

/// How long a batch that is being written to stdout, and the note of how far that is, may take to finish when the listener is
/// told to stop: a busy disk needs its time, and what is not noted comes again.
const LAST_WRITE_MAX: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let done = match Invocation::from_args(std::env::args_os()) {
        Ok(Invocation::Follow(settings)) => follow(&settings),
        Ok(Invocation::Completions(shell)) => completions(shell),
        Ok(Invocation::Load(settings)) => listener::load::run(&settings).map_err(Into::into),
        Err(error) => {
            // The text is help or advice; where it cannot be printed there is nobody to read it.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            stderr::log_line(format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn completions(shell: Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command_line::command(), "listener", &mut script);
    std::io::stdout()
        .write_all(&script)
        .context("cannot write to standard output")
}

fn follow(settings: &FollowSettings) -> anyhow::Result<()> {
    // Fails only when one is installed already, and then that one serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let outcome = runtime.block_on(listener::follow::run(settings));
    // A reader that has stopped reading would otherwise hold the last write, and so the process, for ever.
    runtime.shutdown_timeout(LAST_WRITE_MAX);
    Ok(outcome?)
}
