//! Variables of the environment that look like settings and are none, probably mistyped ones.

use std::ffi::{OsStr, OsString};

use clap::{Arg, Command};

/// Returns the variables that begin with `prefix` and are no setting of `command` or of its
/// subcommands, sorted.
#[must_use]
pub fn unknown_variables(command: &Command, prefix: &str) -> Vec<String> {
    let names = std::env::vars_os().map(|(name, _)| name);
    filter_unknown(command, prefix, names)
}

fn filter_unknown(
    command: &Command,
    prefix: &str,
    names: impl Iterator<Item = OsString>,
) -> Vec<String> {
    let known = known_variables(command);
    let mut unknown: Vec<String> = names
        .filter(|name| !known.contains(&name.as_os_str()))
        .filter_map(|name| name.into_string().ok())
        .filter(|name| name.starts_with(prefix))
        .collect();
    unknown.sort();
    unknown
}

fn known_variables(command: &Command) -> Vec<&OsStr> {
    command
        .get_arguments()
        .chain(command.get_subcommands().flat_map(Command::get_arguments))
        .filter_map(Arg::get_env)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_with_the_prefix_that_no_flag_has_is_unknown() {
        let flag =
            |name: &'static str, variable: &'static str| Arg::new(name).long(name).env(variable);
        let command = Command::new("test")
            .arg(flag("a", "T_A"))
            .subcommand(Command::new("sub").arg(flag("b", "T_SUB_B")));
        let names = ["T_C", "T_A", "T_SUB_B", "OTHER", "T_", "t_a"].map(OsString::from);
        assert_eq!(
            filter_unknown(&command, "T_", names.into_iter()),
            ["T_", "T_C"]
        );
    }
}
