//! `check` and `config print` accept the server's flags behind them as well as before them.
//!
//! Both report on the settings of a server, so people write them in front of the flags of that
//! server: `sse-server check --data-dir D`. The grammar knows these flags before a command only.

use std::ffi::OsString;

use clap::Command;

const COMMANDS: [&[&str]; 2] = [&["check"], &["config", "print"]];

/// Moves one of these commands, with its own flags, to the end of the command line `args` if that
/// begins with it.
pub(super) fn move_to_end(args: Vec<OsString>, grammar: &Command) -> Vec<OsString> {
    let is_first = |command: &&&[&str]| {
        let given = args.iter().skip(1).take(command.len());
        given.eq(command.iter())
    };
    let Some(names) = COMMANDS.iter().find(is_first) else {
        return args;
    };
    let mut command = grammar;
    for name in *names {
        let Some(found) = command.find_subcommand(name) else {
            return args;
        };
        command = found;
    }
    let is_own = |arg: &OsString| {
        let flag = arg.to_str().and_then(|arg| arg.strip_prefix("--"));
        let is_help = arg == "-h" || arg == "--help";
        is_help
            || flag.is_some_and(|flag| {
                let mut flags = command.get_arguments().filter_map(clap::Arg::get_long);
                flags.any(|own| own == flag)
            })
    };
    let mut args = args.into_iter();
    let program = args.next();
    let (own, settings): (Vec<_>, Vec<_>) = args.skip(names.len()).partition(is_own);
    let names = names.iter().map(OsString::from);
    program
        .into_iter()
        .chain(settings)
        .chain(names)
        .chain(own)
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::config::cli::Args;

    fn moved(line: &str) -> String {
        let args = line.split(' ').map(OsString::from).collect();
        let moved = move_to_end(args, &Args::command());
        let moved: Vec<_> = moved.iter().map(|arg| arg.to_str().unwrap()).collect();
        moved.join(" ")
    }

    #[test]
    fn a_command_may_precede_the_settings_that_it_reports_on() {
        for (line, expected) in [
            ("sse check --memory", "sse --memory check"),
            (
                "sse check --json --data-dir D --bind A",
                "sse --data-dir D --bind A check --json",
            ),
            ("sse check -h", "sse check -h"),
            (
                "sse config print --memory --example",
                "sse --memory config print --example",
            ),
            ("sse --memory check --json", "sse --memory check --json"),
            ("sse config check FILE", "sse config check FILE"),
            ("sse token check TOKEN", "sse token check TOKEN"),
            ("sse --data-dir check", "sse --data-dir check"),
        ] {
            assert_eq!(moved(line), expected);
        }
    }
}
