//! `--completions`: a script that completes the flags in a shell.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::CommandFactory as _;
use clap_complete::Shell;
use sse_cli::stderr::write_line;

use super::flags::Settings;

/// Prints the script. A closed pipe is no error.
pub(crate) fn print(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(
        shell,
        &mut Settings::command(),
        "event-generator",
        &mut script,
    );
    match io::stdout().write_all(&script) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            write_line(format_args!("error: cannot write to stdout: {error}"));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}
