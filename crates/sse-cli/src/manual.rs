//! Man pages of a command line.

use std::{io, path::Path};

use clap::Command;

/// Writes a man page for `command` and for each of its subcommands to an existing directory, in
/// section 1: `listener.1` and `listener-bench.1`.
///
/// # Errors
///
/// A file cannot be written. The error names the directory.
pub fn write_man_pages(command: Command, directory: &Path) -> Result<(), String> {
    generate(command, directory)
        .map_err(|error| format!("cannot write man pages to {}: {error}", directory.display()))
}

fn generate(command: Command, directory: &Path) -> io::Result<()> {
    // A page must not show the values that variables have here.
    let command = command.mut_args(|flag| flag.hide_env_values(true));
    clap_mangen::generate_to(command.disable_help_subcommand(true), directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subcommand_has_a_page_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let command = || {
            Command::new("tool")
                .about("Does it")
                .subcommand(Command::new("part"))
        };
        write_man_pages(command(), directory.path()).unwrap();
        let page = std::fs::read_to_string(directory.path().join("tool.1")).unwrap();
        assert!(page.contains("Does it"), "{page}");
        assert!(directory.path().join("tool-part.1").exists());
        let error = write_man_pages(command(), Path::new("/nonexistent")).unwrap_err();
        assert!(error.contains("/nonexistent"), "{error}");
    }
}
