//! `/channels`: lists, describes, creates, configures, closes and deletes channels.
//!
//! | route | right | file |
//! |---|---|---|
//! | `GET /channels` | subscribe or manage, for each channel that is listed | `list` |
//! | `GET`, `HEAD /channels/{name}` | subscribe or manage | `describe` |
//! | `PUT /channels/{name}` | manage | `configure` |
//! | `DELETE /channels/{name}` | manage | `remove` |
//! | `POST /channels/{name}/close` | manage | `close` |
//!
//! `name_ranges` has the names that a list examines, and `list_cursor` the places where its pages end.

pub(in crate::http) mod close;
pub(in crate::http) mod configure;
pub(in crate::http) mod describe;
pub(in crate::http) mod list;
mod list_cursor;
mod name_ranges;
pub(in crate::http) mod remove;

use actix_web::{
    HttpRequest,
    http::header::{ETAG, HeaderName},
};
use serde_json::{Value, json};
use sse_proto::{Channel, EventId, units::time_text};

use crate::{
    access::Right,
    broker::lifecycle::{
        ChannelDescription, ChannelSettings, ChannelState, Effective, SettingSource,
    },
    http::{
        access::caller::Caller,
        error::{ApiError, ApiResult},
        request::{
            channel_settings::format_ms,
            query::{Params, percent_decode},
        },
        state::AppState,
    },
};

/// Reads the name of the channel in the path, after checking that the caller has one of `rights` for
/// it. The request may have the parameters `known`.
fn channel_of(
    request: &HttpRequest,
    caller: &Caller,
    rights: &[Right],
    known: &[&'static str],
) -> ApiResult<Channel> {
    caller.require_some_of(rights)?;
    let encoded = request.match_info().get("name").unwrap_or_default();
    let name = percent_decode(encoded, "path")?;
    let channel: Channel = name
        .parse()
        .map_err(|why| ApiError::invalid_name("channel", &name, why))?;
    caller.require_one_of(rights, &channel)?;
    Params::parse_any(request.query_string())?.check_known(known)?;
    Ok(channel)
}

/// Returns the header with the newest id of a channel.
pub(in crate::http) fn etag(newest: EventId) -> (HeaderName, String) {
    (ETAG, format!("\"{newest}\""))
}

/// Returns a channel as the API describes it.
fn description_json(state: &AppState, channel: &ChannelDescription, streams: usize) -> Value {
    let broker = state.hub.broker();
    let effective = broker.effective(&channel.channel, channel.settings);
    let (name, reason) = match &channel.state {
        ChannelState::Open => ("open", None),
        ChannelState::Closed { reason, .. } => ("closed", Some(reason.as_str())),
    };
    let mut json = json!({
        "channel": channel.channel,
        "state": name,
        "events": channel.events,
        "bytes": channel.bytes,
        "oldest": channel.oldest,
        "newest": channel.newest,
        "streams": streams,
        "settings": settings_json(&effective, broker.counts_bytes()),
        "expires": channel.expires_ms.map(time_text),
    });
    if let Some(reason) = reason {
        json["reason"] = reason.into();
    }
    json
}

fn settings_json(effective: &Effective, has_bytes: bool) -> Value {
    let ChannelSettings {
        history_events,
        history_age_ms,
        history_bytes,
        ttl_ms,
        ttl_closed_ms,
    } = effective.settings;
    let [events, age, bytes, ttl, ttl_closed] = effective.sources.map(SettingSource::as_str);
    let setting = |value: Value, source: &str| json!({ "value": value, "source": source });
    let time = |ms: Option<u64>| ms.map(format_ms).into();
    let mut json = json!({
        "history_events": setting(history_events.into(), events),
        "history_age": setting(time(history_age_ms), age),
        "ttl": setting(time(ttl_ms), ttl),
        "ttl_closed": setting(time(ttl_closed_ms), ttl_closed),
    });
    if has_bytes {
        json["history_bytes"] = setting(history_bytes.into(), bytes);
    }
    json
}

/// Rejects settings beyond the maxima of the class of `channel`, and settings that the log does not
/// have.
pub(in crate::http) fn check_settings(
    state: &AppState,
    channel: &Channel,
    settings: ChannelSettings,
) -> ApiResult<()> {
    let broker = state.hub.broker();
    if settings.history_bytes.is_some() && !broker.counts_bytes() {
        return Err(ApiError::InvalidRequest(
            "history_bytes has no effect over Redis: use history_events or history_age".to_owned(),
        ));
    }
    let Some(class) = broker.classes().class_of(channel) else {
        return Ok(());
    };
    let names = [
        "history_events",
        "history_age",
        "history_bytes",
        "ttl",
        "ttl_closed",
    ];
    let pairs = settings.to_array().into_iter().zip(class.maxima.to_array());
    for (name, (value, max)) in names.into_iter().zip(pairs) {
        if let (Some(value), Some(max)) = (value, max)
            && value > max
        {
            let max = if name.ends_with("events") || name.ends_with("bytes") {
                max.to_string()
            } else {
                format_ms(max)
            };
            return Err(ApiError::InvalidRequest(format!(
                "{name} is more than {max}, which is the most in this class of channels"
            )));
        }
    }
    Ok(())
}
