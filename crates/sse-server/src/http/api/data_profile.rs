//! `profile=data`: a stream for clients that parse the data of every event as their own JSON, such as
//! the SDKs of language models.
//!
//! Such a client reads the status, and not events of the server. So whatever another stream reports
//! inside of a 200 is a status here, and the log must have responded before the first byte:
//!
//! | another stream | with `profile=data` |
//! |---|---|
//! | `gap` | 410 `history_gap`; if the stream is open, it ends, and a reconnect gets the 410 |
//! | waits for the log | 503 |
//! | 200, `retry:` and the end | 503 |
//! | `event: end` | `data: [DONE]` after the reason `completed`, and otherwise only the end |

use actix_web::HttpRequest;
use sse_proto::{Channel, EventId, Position};

use super::stream_shares::NoShare;
use crate::{
    broker::{Broker, BrokerError, Continuity, PageLimits, ReadFrom, lifecycle::ChannelState},
    channel::{Envelope, SubscriptionOptions},
    fanout::start::NewSubscription,
    http::{
        error::{ApiError, ApiResult},
        request::query::{Params, find_param},
    },
};

/// One event is enough to know how a page joins its position.
const ONE: PageLimits = PageLimits {
    events_max: 1,
    bytes_max: 1,
};

/// Whether the request has the profile, before its parameters are checked.
pub(super) fn is_wanted(request: &HttpRequest) -> bool {
    let profile = find_param(request.query_string(), "profile");
    profile.is_ok_and(|profile| profile.as_deref() == Some("data"))
}

/// Reads the profile, which sets the envelope of `options`.
pub(super) fn parse(
    params: &Params,
    channels: &[Channel],
    options: &mut SubscriptionOptions,
) -> ApiResult<()> {
    if !params.is_given("profile", "data")? {
        return Ok(());
    }
    let invalid = |why| Err(ApiError::invalid_parameter("profile", why));
    if channels.len() > 1 {
        return invalid("is for one channel");
    }
    if options.envelope != Envelope::None || options.notices {
        return invalid("excludes envelope and notices");
    }
    options.envelope = Envelope::Data;
    Ok(())
}

/// Returns how the data is wrapped, apart from the profile.
pub(super) fn parse_envelope(params: &Params) -> ApiResult<Envelope> {
    if params.is_given("envelope", "json")? {
        Ok(Envelope::Json)
    } else {
        Ok(Envelope::None)
    }
}

/// Returns whether a finished channel is a 204 at once.
pub(super) fn parse_if_open(params: &Params, channels: &[Channel]) -> ApiResult<bool> {
    let if_open = params.is_given("if", "open")?;
    if if_open && channels.len() > 1 {
        return Err(ApiError::invalid_parameter("if", "is for one channel"));
    }
    Ok(if_open)
}

/// Returns the error of a stream that another profile would end at once.
pub(super) const fn rejection(why: Option<NoShare>) -> ApiError {
    match why {
        Some(NoShare::Draining) => ApiError::Draining,
        Some(NoShare::AccessUnavailable) => ApiError::AccessUnavailable,
        _ => ApiError::TooManyStreamingPublishes,
    }
}

/// Whether the channel is closed, or was deleted, so that nothing new can follow.
pub(super) async fn is_finished(broker: &Broker, channel: &Channel) -> ApiResult<bool> {
    if let Some(description) = broker.describe(channel).await? {
        return Ok(matches!(description.state, ChannelState::Closed { .. }));
    }
    // Of a deleted channel every old position gets the end.
    let old = ReadFrom::Position(Position::After(EventId::new(0, 1)));
    let page = broker.read(channel, old, ONE).await?;
    Ok(page
        .events
        .last()
        .is_some_and(crate::broker::Stored::is_end))
}

/// Checks that the log can continue where the stream starts.
///
/// # Errors
///
/// - `HistoryGap`: events are missing there.
/// - `Unavailable`: the log has not responded in time.
pub(super) async fn check_start(broker: &Broker, start: &NewSubscription) -> ApiResult<()> {
    let NewSubscription::Ready(subscription) = start else {
        let why = "the start of a stream is not known in time".to_owned();
        return Err(BrokerError::Unavailable(why).into());
    };
    let (channel, position) = subscription.only_position().ok_or(ApiError::HistoryGap)?;
    let page = broker
        .read(channel, ReadFrom::Position(position), ONE)
        .await?;
    match page.start {
        Continuity::Contiguous => Ok(()),
        Continuity::Gap { .. } => Err(ApiError::HistoryGap),
    }
}
