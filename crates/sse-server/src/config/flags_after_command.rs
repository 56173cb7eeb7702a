//! `check`, `config print`, `copy` and `restore` accept the server's flags behind them as well as before them.
//!
//! They concern the settings of a server, so people write them in front of the flags of that
//! server: `sse-server check --data-dir D`. The grammar knows these flags before a command only.

use std::ffi::OsString;

use clap::Command;

const COMMANDS: [&[&str]; 4] = [&["check"], &["config", "print"], &["copy"], &["restore"]];

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
    let long = |arg: &OsString| Some(arg.to_str()?.strip_prefix("--")?.to_owned());
    let has = |command: &Command, flag: &str| {
        command
            .get_arguments()
            .any(|own| own.get_long() == Some(flag))
    };
    let takes_value = |flag: &str| {
        let found = grammar.get_arguments();
        let mut found = found.filter(|known| known.get_long() == Some(flag));
        found.any(|known| known.get_action().takes_values())
    };
    let mut is_value = false;
    let is_own = |arg: &OsString| {
        let flag = long(arg);
        // What follows a flag of the settings is its value. Other words are the command's own.
        let is_value_now = std::mem::take(&mut is_value) && flag.is_none();
        is_value = flag.as_deref().is_some_and(takes_value);
        let is_help = arg == "-h" || arg == "--help";
        is_help || flag.map_or(!is_value_now, |flag| has(command, &flag))
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
            (
                "sse restore COPY --data-dir D --memory",
                "sse --data-dir D --memory restore COPY",
            ),
            (
                "sse restore --data-dir=D --data-mode 0750 COPY",
                "sse --data-dir=D --data-mode 0750 restore COPY",
            ),
            (
                "sse copy --from D --redis-ca F --to U --redis-prefix a:",
                "sse --redis-ca F --redis-prefix a: copy --from D --to U",
            ),
            ("sse config check FILE", "sse config check FILE"),
            ("sse token check TOKEN", "sse token check TOKEN"),
            ("sse --data-dir check", "sse --data-dir check"),
        ] {
            assert_eq!(moved(line), expected);
        }
    }
}
