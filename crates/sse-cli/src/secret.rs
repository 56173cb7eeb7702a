//! Command-line values that may be secrets: no error message quotes them.

use std::{ffi::OsStr, fmt::Display};

use clap::{
    Arg, Command,
    builder::TypedValueParser,
    error::{ContextKind, ContextValue, Error, ErrorKind},
};

/// A value parser for clap, from a function. Clap's own parsers begin an error with the value.
#[derive(Debug, Clone, Copy)]
pub struct Unquoted<T, E>(pub fn(&str) -> Result<T, E>);

impl<T, E> TypedValueParser for Unquoted<T, E>
where
    T: Clone + Send + Sync + 'static,
    E: Display + Clone + Send + Sync + 'static,
{
    type Value = T;

    fn parse_ref(&self, command: &Command, flag: Option<&Arg>, value: &OsStr) -> Result<T, Error> {
        match value.to_str().map(self.0) {
            Some(Ok(parsed)) => Ok(parsed),
            Some(Err(why)) => Err(invalid_value(command, flag, &why)),
            None => Err(invalid_value(command, flag, &"it is not UTF-8")),
        }
    }
}

fn invalid_value(command: &Command, flag: Option<&Arg>, why: &dyn Display) -> Error {
    let flag = flag.map(ToString::to_string).unwrap_or_default();
    let message =
        format!("invalid value for '{flag}': {why}\n\nFor more information, try '--help'.\n");
    Error::raw(ErrorKind::ValueValidation, message).with_cmd(command)
}

/// Returns whether clap rejected a value that no flag precedes.
///
/// The value may be a secret: in `--header X-Api-Key: 123` without quotes, the shell makes `123` a
/// word of its own, and clap's message would quote it.
#[must_use]
pub fn rejects_stray_value(error: &Error) -> bool {
    error.kind() == ErrorKind::UnknownArgument
        && matches!(
            error.get(ContextKind::InvalidArg),
            Some(ContextValue::String(stray)) if !stray.starts_with('-')
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<(), Error> {
        let parser = Unquoted(|text| text.parse::<u8>().map_err(|_| "write a number"));
        let command = Command::new("test").arg(Arg::new("n").long("n").value_parser(parser));
        command
            .try_get_matches_from([&["test"], arguments].concat())
            .map(|_| ())
    }

    #[test]
    fn an_error_states_what_to_write_and_does_not_quote_the_value() {
        assert!(parse(&["--n", "7"]).is_ok());
        let error = parse(&["--n", "secret"]).expect_err("no number");
        assert_eq!(
            (error.kind(), error.to_string().contains("secret")),
            (ErrorKind::ValueValidation, false)
        );
        assert!(error.to_string().contains("'--n <n>': write a number"));
    }

    #[test]
    fn a_stray_value_is_distinguished_from_an_unknown_flag() {
        for (arguments, expected) in [
            (&["--n", "7", "secret"][..], true),
            (&["--m"], false),
            (&["--n", "x"], false),
        ] {
            let error = parse(arguments).expect_err("misuse");
            assert_eq!(rejects_stray_value(&error), expected, "{arguments:?}");
        }
    }
}
