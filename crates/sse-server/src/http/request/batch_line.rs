//! One event of a batch as JSON: from a publisher, or as a reader of this server wrote it down.
//!
//! The server assigns ids. A line that a reader wrote down has an id, which is ignored, so that
//! history can be published again. Any other `id` is an error, because the publisher expects an
//! effect of it.
//!
//! ```text
//! {"event":"a","data":1,"id":"1795521996831-0"}                 ignored: `listener --format json`
//! {"event":"a","data":"1","id":"…","time":"2026-11-24T12:06Z"}  ignored: `GET /events`
//! {"event":"a","data":"1","id":"…","channel":"orders"}          ignored: an envelope
//! {"event":"a","data":1,"id":"my-42"}                           rejected
//! ```
//!
//! A `channel` without an `id` names the channel of the line.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use sse_proto::Channel;

use crate::http::error::shortened;

/// Digits of the milliseconds in an id, from the year 2001 to 2286.
const MS_DIGITS: usize = 13;

/// The keys of an event.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line<'a> {
    /// Event type.
    #[serde(borrow)]
    pub(super) event: Cow<'a, str>,
    /// Event data: the text of a string, or any other value as JSON.
    #[serde(borrow)]
    pub(super) data: &'a RawValue,
    /// Idempotency key.
    #[serde(borrow, default)]
    pub(super) key: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    time: Option<&'a RawValue>,
    #[serde(borrow, default)]
    channel: Option<&'a RawValue>,
}

impl Line<'_> {
    /// Rejects an `id` that would be ignored although the publisher means it.
    pub(super) fn check_ignored_keys(&self) -> Result<(), String> {
        match self.id {
            Some(id) if !self.is_from_a_reader() && !is_assigned_id(id.get()) => Err(format!(
                "`id` {} is not an id of this server, which assigns ids itself: use `key` to store \
                 the event only once, or put the id into `data`",
                shortened(id)
            )),
            _ => Ok(()),
        }
    }

    /// Returns the channel that the line names; `None` if it has none, or an `id` beside it.
    pub(super) fn named_channel(&self) -> Result<Option<Channel>, String> {
        match (self.id, self.channel) {
            (None, Some(channel)) => parse_channel(channel.get()).map(Some),
            _ => Ok(None),
        }
    }

    /// Whether the line has what only history and envelopes have.
    fn is_from_a_reader(&self) -> bool {
        self.time.is_some() || self.channel.is_some()
    }
}

fn parse_channel(json: &str) -> Result<Channel, String> {
    let name: String =
        serde_json::from_str(json).map_err(|_| "channel: not a string".to_owned())?;
    name.parse()
        .map_err(|why| format!("channel {:?}: {why}", shortened(&name)))
}

/// Whether JSON is the string of an id that this server assigns, like `"1795521996831-0"`.
fn is_assigned_id(json: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    json.trim_matches('"')
        .split_once('-')
        .is_some_and(|(ms, seq)| ms.len() == MS_DIGITS && is_number(ms) && is_number(seq))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(keys: &str) -> Result<(), String> {
        let json = format!(r#"{{"event":"a","data":1{keys}}}"#);
        serde_json::from_str::<Line<'_>>(&json)
            .unwrap()
            .check_ignored_keys()
    }

    #[test]
    fn an_id_is_ignored_if_a_reader_wrote_it_down() {
        for keys in [
            "",
            r#","id":null"#,
            r#","id":"1795521996831-0""#,
            r#","id":"1795521996831-12345""#,
            r#","id":"5-0","time":"2026-11-24T12:06:36.816Z""#,
            r#","id":"a=5-0,b=6-0","channel":"a""#,
            r#","time":"2026-11-24T12:06:36.816Z""#,
        ] {
            assert_eq!(check(keys), Ok(()), "{keys}");
        }
    }

    #[test]
    fn any_other_id_is_rejected_with_what_to_use() {
        for id in [
            r#""my-42""#,
            "42",
            "1795521996831",
            r#""""#,
            r#""179552199683-0""#,
            r#""17955219968310-0""#,
            r#""1795521996831-""#,
            r#""1795521996831-x""#,
            r#""@1795521996831-0""#,
            r#"{"a":1}"#,
        ] {
            let error = check(&format!(r#","id":{id}"#)).unwrap_err();
            for hint in ["`id`", "`key`", "`data`"] {
                assert!(error.contains(hint), "{id}: {error}");
            }
        }
    }

    #[test]
    fn a_channel_without_an_id_is_that_of_the_line() {
        let named = |keys: &str| {
            let json = format!(r#"{{"event":"a","data":1{keys}}}"#);
            let line = serde_json::from_str::<Line<'_>>(&json).unwrap();
            line.named_channel()
                .map(|channel| channel.map(String::from))
        };
        assert_eq!(named(r#","channel":"b""#), Ok(Some("b".to_owned())));
        for keys in ["", r#","id":"5-0","channel":"b""#, r#","channel":null"#] {
            assert_eq!(named(keys), Ok(None), "{keys}");
        }
        for channel in [r#""""#, r#""a b""#, "7", r#"["a"]"#] {
            let error = named(&format!(r#","channel":{channel}"#)).unwrap_err();
            assert!(error.starts_with("channel"), "{error}");
        }
    }
}
