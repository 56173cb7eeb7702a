//! The program `listener`: parses the command line, runs the command, and reports an error.
//!
//! Exit codes: 0 success (also after a signal and for a closed pipe), 1 failure, 2 misuse (by
//! clap).

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
use sse_cli::{environment::unknown_variables, manual::write_man_pages};

/// Time for a running write to stdout and the state file to finish at the end. A busy disk needs
/// some time, and an event whose position is not stored is printed again by the next run.
const LAST_WRITE_MAX: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let result = match Invocation::from_args(std::env::args_os()) {
        Ok(Invocation::Completions(shell)) => print_completions(shell),
        Ok(Invocation::ManPages(directory)) => {
            write_man_pages(command_line::command(), &directory).map_err(anyhow::Error::msg)
        }
        Ok(Invocation::Follow(settings)) => {
            warn_about_unknown_variables();
            follow(&settings)
        }
        Ok(Invocation::Load(settings)) => {
            warn_about_unknown_variables();
            listener::load::run(&settings).map_err(Into::into)
        }
        Err(error) => {
            // A help text that cannot be printed is not an error of the program.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            stderr::log_line(format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn warn_about_unknown_variables() {
    for variable in unknown_variables(&command_line::command(), "LISTENER_") {
        stderr::log_line(format_args!(
            "unknown setting {variable}; `listener --help` and `listener bench --help` list all settings"
        ));
    }
}

fn print_completions(shell: Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command_line::command(), "listener", &mut script);
    std::io::stdout()
        .write_all(&script)
        .context("cannot write to standard output")
}

fn follow(settings: &FollowSettings) -> anyhow::Result<()> {
    // Fails only if a provider is installed already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let outcome = runtime.block_on(listener::follow::run(settings));
    // Without a timeout, a reader that has stopped reading would block the last write, and the
    // process, forever.
    runtime.shutdown_timeout(LAST_WRITE_MAX);
    Ok(outcome?)
}
