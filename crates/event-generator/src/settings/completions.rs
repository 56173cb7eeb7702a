//! `--completions`: a script that completes the flags in a shell. `--man`: the man page.

use std::{
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use clap::CommandFactory as _;
use clap_complete::Shell;
use sse_cli::{manual::write_man_pages, stderr::write_line};

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

/// Writes the man page.
pub(crate) fn write_manual(directory: &Path) -> ExitCode {
    match write_man_pages(Settings::command(), directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            write_line(format_args!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}
