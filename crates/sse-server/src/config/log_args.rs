//! The flags about the log and the access log.

use std::path::PathBuf;

use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};

use super::values::{parse_access_log, parse_audit_log};
use crate::access_log::{AccessLogTarget, LogFormat};

const TEXT: &str = "text";
const JSON: &str = "json";

/// The flags about the log and the access log.
#[derive(Args)]
pub(super) struct LogArgs {
    /// Log on stderr from this level on: error, warn, info, debug, trace, or a filter like
    /// `info,sse_server=debug`
    #[arg(long, env = "SSE_LOG", default_value = "info", value_name = "LEVEL")]
    pub(super) log: String,

    /// Write the log and the access log as text, or as one JSON object per line
    #[arg(
        long,
        env = "SSE_LOG_FORMAT",
        default_value = TEXT,
        value_name = "FORMAT",
        value_parser = log_format_parser()
    )]
    pub(super) log_format: LogFormat,

    /// Write one line per request, and one at the end of each stream, to this file [default: off;
    /// stdout if no file is given]
    ///
    /// Secrets in the query become ***. Lines that cannot be written are dropped and counted by a
    /// metric; they delay no request. In the variable, `-` is stdout.
    #[arg(
        long,
        env = "SSE_ACCESS_LOG",
        num_args = 0..=1,
        default_missing_value = "-",
        value_name = "FILE",
        value_parser = parse_access_log
    )]
    pub(super) access_log: Option<AccessLogTarget>,

    /// Write what callers do, and what is rejected, to this file, as one JSON object per line
    ///
    /// A line has the identity, the address, the action, the channels and the result. Rejections
    /// that are alike share a line with their count. Lines that cannot be written are dropped and
    /// counted by a metric; they delay no request. The file is created for its owner only, and must
    /// not be a symbolic link.
    #[arg(long, env = "SSE_AUDIT_LOG", value_name = "FILE", value_parser = parse_audit_log)]
    pub(super) audit_log: Option<PathBuf>,
}

fn log_format_parser() -> impl TypedValueParser<Value = LogFormat> {
    PossibleValuesParser::new([TEXT, JSON]).map(|format| match &*format {
        JSON => LogFormat::Json,
        _ => LogFormat::Text,
    })
}
