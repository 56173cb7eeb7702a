//! What the program writes to stderr: its log, and the messages of a failure.
//!
//! With `--log-format json` every line is one JSON object, also that of a panic or of the error
//! that ends the program. Only a wrong command line is answered in text, because the format is not
//! known yet.

use std::{
    io::{IsTerminal as _, Write as _},
    panic,
};

use chrono::{SecondsFormat, Utc};
use serde_json::json;
use sse_server::{
    access_log::LogFormat, broker::embedded::is_catching_panic, log_writer::LogWriter,
    supervised_part,
};
use tracing_subscriber::EnvFilter;

/// Starts the log. `levels` is a filter of `tracing_subscriber`.
pub(crate) fn start_log(levels: &str, format: LogFormat) -> anyhow::Result<()> {
    // actix-server logs several lines per start and stop; --log actix_server=info shows them.
    // `server/protocol_errors` logs what the dispatcher would log without an address.
    let levels = format!("actix_server=warn,actix_http::h1::dispatcher=off,h2=off,{levels}");
    let log = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(levels)?)
        // The crate would report its own errors with a macro that panics if stderr is closed.
        .log_internal_errors(false)
        .with_writer(LogWriter::default);
    match format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    Ok(())
}

/// Installs a panic hook that prints nothing for a panic that the embedded log catches.
///
/// The log reports such a panic as an error; the message of the panic would look like a crash.
/// `failed` is called after a panic of a supervised part of the server.
pub(crate) fn install_panic_hook(
    format: LogFormat,
    failed: impl Fn(&'static str) + Send + Sync + 'static,
) {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if is_catching_panic() {
            return;
        }
        match format {
            LogFormat::Text => print(panic),
            LogFormat::Json => print_json(&panic.to_string()),
        }
        if let Some(part) = supervised_part() {
            failed(part);
        }
    }));
}

/// Prints the error that ends the program. The level of the log does not suppress it.
pub(crate) fn print_error(error: &anyhow::Error, format: LogFormat) {
    match format {
        // A closed stderr has no reader.
        LogFormat::Text => drop(writeln!(std::io::stderr(), "sse-server: {error:#}")),
        LogFormat::Json => print_json(&format!("{error:#}")),
    }
}

/// Prints an error with the fields that each line of the log has.
fn print_json(message: &str) {
    let line = json!({
        "timestamp": Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true),
        "level": "ERROR",
        "message": message,
        "target": "sse_server",
    });
    // A closed stderr has no reader.
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use sse_server::supervised;

    use super::*;

    #[test]
    fn only_the_panic_of_a_supervised_part_is_a_failure() {
        let (failed, failures) = mpsc::channel();
        install_panic_hook(LogFormat::Json, move |part| {
            let _ = failed.send(part);
        });
        let request = thread::spawn(|| panic!("a request"));
        assert!(request.join().is_err());
        let part = thread::spawn(|| supervised("a part", || panic!("a defect")));
        assert!(part.join().is_err());
        drop(panic::take_hook());
        assert_eq!(failures.iter().collect::<Vec<_>>(), ["a part"]);
    }
}
