//! Advice for `--host` and `--port`, which many other servers have instead of `--bind`.

use std::ffi::OsString;

use clap::{
    CommandFactory as _, Error,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::cli::Args;

const DEFAULT_HOST: &str = "127.0.0.1";
const DEFAULT_PORT: &str = "5000";

/// Returns `error` with advice if it is about one of these flags on the command line `args`.
pub(super) fn add_bind_hint(error: Error, args: &[OsString]) -> Error {
    let flag = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(flag)) if error.kind() == ErrorKind::UnknownArgument => flag,
        _ => return error,
    };
    if !matches!(flag.as_str(), "--host" | "--port") {
        return error;
    }
    let message = format!("there is no {flag} here: use --bind {}", address(args));
    Args::command().error(ErrorKind::UnknownArgument, message)
}

/// Returns the address that the command line means.
fn address(args: &[OsString]) -> String {
    let host = value_of("--host", args).unwrap_or(DEFAULT_HOST);
    let port = value_of("--port", args).unwrap_or(DEFAULT_PORT);
    let is_bare_ipv6 = host.contains(':') && !host.starts_with('[');
    if is_bare_ipv6 {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Returns the value in `--flag value` or `--flag=value`.
fn value_of<'a>(flag: &str, args: &'a [OsString]) -> Option<&'a str> {
    let mut args = args.iter().filter_map(|arg| arg.to_str());
    let value = args.find_map(|arg| match arg.strip_prefix(flag)? {
        "" => Some(None),
        rest => rest.strip_prefix('=').map(Some),
    })?;
    value
        .or_else(|| args.next())
        .filter(|value| !value.is_empty() && !value.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_has_what_the_command_line_names_and_the_defaults() {
        for (line, expected) in [
            ("--port 8080", "127.0.0.1:8080"),
            ("--port=8080", "127.0.0.1:8080"),
            ("--memory --host 10.0.0.1 --port 80", "10.0.0.1:80"),
            ("--host=localhost", "localhost:5000"),
            ("--host ::1", "[::1]:5000"),
            ("--host [::1]", "[::1]:5000"),
            ("--port", "127.0.0.1:5000"),
            ("--port --memory", "127.0.0.1:5000"),
            ("--portal 3 --port=4", "127.0.0.1:4"),
        ] {
            let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            assert_eq!(address(&args), expected, "{line}");
        }
    }
}
