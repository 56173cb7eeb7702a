//! The short help: `-h` shows the flags that a first user needs, and `--help` shows all.

use clap::Command;

/// Hides every flag from `-h`, except `shown`, which are names without hyphens before them.
#[must_use]
pub fn shorten_help(command: Command, shown: &[&str]) -> Command {
    command.mut_args(|flag| {
        let is_shown = flag.get_long().is_some_and(|name| shown.contains(&name));
        flag.hide_short_help(!is_shown)
    })
}

/// Returns the names in `shown` that are no flags of `command`: for a test of the list.
#[must_use]
pub fn missing_flags<'n>(command: &Command, shown: &[&'n str]) -> Vec<&'n str> {
    let is_flag = |name: &str| {
        command
            .get_arguments()
            .any(|flag| flag.get_long() == Some(name))
    };
    shown
        .iter()
        .copied()
        .filter(|name| !is_flag(name))
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::{Arg, error::ErrorKind};

    use super::*;

    #[test]
    fn the_short_help_has_the_listed_flags_and_the_long_help_has_all() {
        let shown = ["often", "absent"];
        let flag = |name: &'static str| Arg::new(name).long(name).help(name);
        let command = Command::new("test").arg(flag("often")).arg(flag("rarely"));
        let command = shorten_help(command, &shown);
        assert_eq!(missing_flags(&command, &shown), ["absent"]);
        let help = |how| {
            let error = command
                .clone()
                .try_get_matches_from(["test", how])
                .expect_err("help");
            assert_eq!(error.kind(), ErrorKind::DisplayHelp);
            error.to_string()
        };
        for (how, has_all) in [("-h", false), ("--help", true)] {
            let text = help(how);
            assert!(text.contains("--often"), "{text}");
            assert_eq!(text.contains("--rarely"), has_all, "{text}");
        }
        assert!(help("-h").contains("see more with '--help'"));
    }
}
