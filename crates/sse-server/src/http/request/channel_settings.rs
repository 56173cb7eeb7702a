//! The settings of a channel, in the query of a publish or in JSON.

use std::time::Duration;

use serde::Deserialize;
use sse_proto::units::{duration_text, parse_positive_duration, parse_size};

use super::query::Params;
use crate::{
    broker::lifecycle::{ChannelSettings, CloseReason},
    http::error::{ApiError, ApiResult},
};

/// The parameters of a publish that concern its channel.
pub(in crate::http) const PARAMETERS: [&str; 6] = [
    "close",
    "history_events",
    "history_age",
    "history_bytes",
    "ttl",
    "ttl_closed",
];

/// Returns the reason with which a publish closes its channel.
pub(in crate::http) fn close_reason(params: &Params) -> ApiResult<Option<CloseReason>> {
    params.parsed("close", |text| {
        text.parse().map_err(|why| format!("{text:?} {why}"))
    })
}

/// Returns the settings in a query.
pub(in crate::http) fn from_params(params: &Params) -> ApiResult<ChannelSettings> {
    Ok(ChannelSettings {
        history_events: params.parsed("history_events", parse_count)?,
        history_age_ms: params.parsed("history_age", parse_ms)?,
        history_bytes: params.parsed("history_bytes", parse_bytes)?,
        ttl_ms: params.parsed("ttl", parse_ms)?,
        ttl_closed_ms: params.parsed("ttl_closed", parse_ms)?,
    })
}

/// The settings as JSON: numbers, or texts with a unit.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct SettingsBody {
    history_events: Option<Value>,
    history_age: Option<Value>,
    history_bytes: Option<Value>,
    ttl: Option<Value>,
    ttl_closed: Option<Value>,
}

/// A number, or a text.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Value {
    Number(u64),
    Text(String),
}

impl SettingsBody {
    /// Returns the settings. An error names the setting.
    pub(in crate::http) fn settings(&self) -> ApiResult<ChannelSettings> {
        Ok(ChannelSettings {
            history_events: read("history_events", self.history_events.as_ref(), parse_count)?,
            history_age_ms: read("history_age", self.history_age.as_ref(), parse_ms)?,
            history_bytes: read("history_bytes", self.history_bytes.as_ref(), parse_bytes)?,
            ttl_ms: read("ttl", self.ttl.as_ref(), parse_ms)?,
            ttl_closed_ms: read("ttl_closed", self.ttl_closed.as_ref(), parse_ms)?,
        })
    }
}

fn read(
    name: &str,
    value: Option<&Value>,
    parse: impl Fn(&str) -> Result<u64, String>,
) -> ApiResult<Option<u64>> {
    let text = match value {
        None => return Ok(None),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Text(text)) => text.clone(),
    };
    let parsed = parse(&text).map_err(|why| ApiError::InvalidRequest(format!("{name} {why}")))?;
    Ok(Some(parsed))
}

/// Parses a number of at least 1. An error is a clause whose subject is the setting.
///
/// # Errors
///
/// The text is not such a number.
pub fn parse_count(text: &str) -> Result<u64, String> {
    let count = text.parse().ok().filter(|count| *count > 0);
    count.ok_or_else(|| "must be a number of at least 1".to_owned())
}

/// Parses a duration that is not zero, in milliseconds.
///
/// # Errors
///
/// The text is not such a duration.
pub fn parse_ms(text: &str) -> Result<u64, String> {
    let ms = parse_positive_duration(text)?.as_millis();
    Ok(u64::try_from(ms).unwrap_or(u64::MAX).max(1))
}

fn parse_bytes(text: &str) -> Result<u64, String> {
    Ok(parse_size(text)?.as_u64())
}

/// Returns a duration in milliseconds as text that [`parse_ms`] reads.
pub(crate) fn format_ms(ms: u64) -> String {
    duration_text(Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_and_a_body_mean_the_same() {
        let expected = ChannelSettings {
            history_events: Some(10),
            history_age_ms: None,
            history_bytes: Some(1 << 20),
            ttl_ms: Some(900_000),
            ttl_closed_ms: Some(5),
        };
        let query = "history_events=10&history_bytes=1MiB&ttl=15m&ttl_closed=5ms";
        let params = Params::parse(query, &PARAMETERS).unwrap();
        assert_eq!(from_params(&params).unwrap(), expected);
        let body = r#"{"history_events":10,"history_bytes":"1MiB","ttl":"15m","ttl_closed":"5ms"}"#;
        let body: SettingsBody = serde_json::from_str(body).unwrap();
        assert_eq!(body.settings().unwrap(), expected);
        assert_eq!(format_ms(900_000), "15m");
        assert_eq!(parse_ms(&format_ms(93_784_005)), Ok(93_784_005));
    }

    #[test]
    fn a_wrong_value_is_named() {
        for (body, name) in [
            (r#"{"ttl":"0s"}"#, "ttl"),
            (r#"{"ttl":5}"#, "ttl"),
            (r#"{"history_events":0}"#, "history_events"),
            (r#"{"history_bytes":"x"}"#, "history_bytes"),
        ] {
            let body: SettingsBody = serde_json::from_str(body).unwrap();
            let error = body.settings().unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
        assert!(serde_json::from_str::<SettingsBody>(r#"{"ttl_":"5s"}"#).is_err());
        let params = Params::parse("close=Done", &PARAMETERS).unwrap();
        assert!(close_reason(&params).is_err());
    }
}
