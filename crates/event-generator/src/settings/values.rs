//! Parsers of flag values that need no type of their own.

use hyper::{Method, Uri};
use sse_cli::number::parse_number;
use sse_proto::units;

use crate::{
    payload::{USERS_MAX, replay::Recording},
    request::Template,
};

/// Highest `--concurrency`. Each request takes a file descriptor and some memory.
const CONCURRENCY_MAX: usize = 16_384;
/// Highest `--batch`. A server may be configured for this many; the default of sse-server is 10
/// 000.
const BATCH_MAX: usize = 100_000;
/// Highest `--retry`. A minute, the longest time for retries, is over before.
const RETRY_MAX: u32 = 100;
/// Highest `--data-size`. Servers reject larger events.
const DATA_SIZE_MAX: u64 = 16 << 20;

pub(super) fn parse_concurrency(text: &str) -> Result<usize, String> {
    parse_number(text, &(1..=CONCURRENCY_MAX))
}

pub(super) fn parse_batch(text: &str) -> Result<usize, String> {
    parse_number(text, &(1..=BATCH_MAX))
}

pub(super) fn parse_count(text: &str) -> Result<u64, String> {
    parse_number(text, &(1..=u64::MAX))
}

pub(super) fn parse_users(text: &str) -> Result<u32, String> {
    parse_number(text, &(1..=USERS_MAX))
}

pub(super) fn parse_retry(text: &str) -> Result<u32, String> {
    parse_number(text, &(1..=RETRY_MAX))
}

pub(super) fn parse_seed(text: &str) -> Result<u64, String> {
    parse_number(text, &(0..=u64::MAX))
}

pub(super) fn parse_data_size(text: &str) -> Result<usize, String> {
    let bytes = units::parse_size(text)?.as_u64();
    if bytes > DATA_SIZE_MAX {
        return Err("at most 16MiB: servers reject larger events".to_owned());
    }
    usize::try_from(bytes).map_err(|_| "more than this machine can address".to_owned())
}

pub(super) fn parse_recording(text: &str) -> Result<Recording, &'static str> {
    if text.is_empty() {
        Err("write the path of a file, or - for stdin")
    } else {
        Ok(text.into())
    }
}

pub(super) fn parse_method(text: &str) -> Result<Method, &'static str> {
    match text.to_ascii_uppercase().parse() {
        Ok(Method::CONNECT) => Err("CONNECT opens a tunnel, which carries no events"),
        Ok(method) => Ok(method),
        Err(_) => Err("a method is a word like POST or PUT"),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "clap wants a Result")]
pub(super) fn parse_template(text: &str) -> Result<Template, &'static str> {
    Ok(Template::parse(text))
}

/// Parses a path. Its placeholders are percent-encoded, so that only the text around them can be
/// wrong.
pub(super) fn parse_path(text: &str) -> Result<Template, &'static str> {
    let path = Template::parse(text).percent_encoded();
    let sample = path.render_sample();
    if !sample.starts_with('/') {
        return Err("a path begins with a slash, like /pub?id={channel}; --url sets the server");
    }
    if is_valid_target(sample) {
        Ok(path)
    } else {
        Err(
            "percent-encode spaces, \"#\" and characters that are not ASCII; placeholders are encoded already",
        )
    }
}

/// Returns whether a request can have this path and query (RFC 9112 §3.2.1).
fn is_valid_target(target: String) -> bool {
    let is_plain = target
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'#');
    is_plain && Uri::try_from(target).is_ok()
}
