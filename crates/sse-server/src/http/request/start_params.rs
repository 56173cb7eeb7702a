//! Start and end of a read, from the header and the URL of `GET /stream` and `GET /events`.
//!
//! [`StartParam`] is what the request contains. [`start_positions`] turns it into one [`StartAt`]
//! per channel, which the broker then resolves. A `Last-Event-ID` that is no cursor is not an error
//! here: an `EventSource` that gets an error status never reconnects.

use std::time::Duration;

use actix_web::{HttpRequest, http::header::HeaderName};
use chrono::Utc;
use sse_proto::{
    Channel, Cursor, EventId,
    moment::{Moment, is_zero, parse_moment, parse_time_ms},
};
use tokio::time::timeout;

use super::{header::header_text, query::Params};
use crate::{
    broker::Broker,
    channel::{StartAt, UnreadableCursor},
    http::error::{ApiError, ApiResult},
};

/// The query parameters that name a start or an end.
pub(crate) const PARAMETERS: [&str; 6] = [
    "last_event_id",
    "lastEventId",
    "since",
    "last",
    "from",
    "until",
];
/// The query parameters that name a start.
pub(crate) const START_PARAMETERS: [&str; 5] =
    ["last_event_id", "lastEventId", "since", "last", "from"];
/// The header that an `EventSource` reconnects with (WHATWG HTML §9.2.4).
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Largest value of `last`.
const LAST_MAX: usize = 10_000;
/// A time that is relative to now waits at most this long for the log's clock.
const CLOCK_TIMEOUT: Duration = Duration::from_millis(500);

/// A start, as the request names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StartParam {
    /// The id of the last event that the client has seen, unparsed.
    Resume(String),
    /// `since=`.
    Since(Moment),
    /// `last=`.
    Last(usize),
    /// `from=oldest`.
    Oldest,
}

impl StartParam {
    /// Reads the start from the request; returns `None` if the request names no start.
    ///
    /// The `Last-Event-ID` header overrides the URL, because an `EventSource` reconnects with its
    /// old URL. The parameter `lastEventId` counts as that header, because some polyfills send it
    /// instead. An empty id counts as absent.
    pub(crate) fn from_request(request: &HttpRequest, params: &Params) -> ApiResult<Option<Self>> {
        let in_url = Self::from_url(params)?;
        Ok(Self::of_reconnect(request, params)?.or(in_url))
    }

    fn of_reconnect(request: &HttpRequest, params: &Params) -> ApiResult<Option<Self>> {
        let polyfilled = params.non_empty("lastEventId")?;
        let id = last_event_id_header(request).or(polyfilled);
        Ok(id.map(Self::Resume))
    }

    fn from_url(params: &Params) -> ApiResult<Option<Self>> {
        let mut given = Self::all_from_url(params)?.into_iter().flatten();
        match (given.next(), given.next()) {
            (Some(one), Some(other)) => Err(Self::conflict(&one, &other)),
            (start, _) => Ok(start),
        }
    }

    fn all_from_url(params: &Params) -> ApiResult<[Option<Self>; 4]> {
        Ok([
            params.non_empty("last_event_id")?.map(Self::Resume),
            params.parsed("since", Self::parse_since)?,
            params.number("last", 0..=LAST_MAX)?.map(Self::Last),
            params.is_given("from", "oldest")?.then_some(Self::Oldest),
        ])
    }

    fn parse_since(text: &str) -> Result<Self, String> {
        if is_zero(text) {
            let why =
                "is not a time: write from=oldest in its place to start with the oldest event";
            return Err(format!("{text:?} {why}"));
        }
        parse_moment(text)
            .map(Self::Since)
            .map_err(|why| format!("cannot be read: {why}"))
    }

    /// Returns the query parameter that names such a start.
    const fn parameter(&self) -> &'static str {
        match self {
            Self::Resume(_) => "last_event_id",
            Self::Since(_) => "since",
            Self::Last(_) => "last",
            Self::Oldest => "from",
        }
    }

    fn conflict(one: &Self, other: &Self) -> ApiError {
        let one = one.parameter();
        let why = format!("and {one:?} both name a start: give one of them");
        ApiError::invalid_parameter(other.parameter(), why)
    }
}

/// Returns the names of the parameters of a read: `own`, and those that name a start and an end.
pub(crate) fn known_parameters(own: &[&'static str]) -> Vec<&'static str> {
    [own, &PARAMETERS[..]].concat()
}

/// Reads `until`: the last id that the reader wants. Returns `None` if there is no end.
pub(crate) fn parse_until(params: &Params) -> ApiResult<Option<EventId>> {
    params.parsed("until", parse_end)
}

fn parse_end(text: &str) -> Result<EventId, String> {
    text.parse().or_else(|_| parse_end_time(text))
}

/// A time includes every event of its millisecond.
fn parse_end_time(text: &str) -> Result<EventId, String> {
    parse_time_ms(text)
        .map(|ms| EventId::new(ms, u64::MAX))
        .map_err(|why| format!("cannot be read: {why}, or the id of an event"))
}

fn last_event_id_header(request: &HttpRequest) -> Option<String> {
    let text = header_text(request, LAST_EVENT_ID)?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// Returns where a reader starts in each of `channels`: by `param`, or else at `default`.
pub(crate) async fn start_positions(
    param: Option<&StartParam>,
    default: StartAt,
    channels: Vec<Channel>,
    broker: &Broker,
) -> Vec<(Channel, StartAt)> {
    let start = match param {
        Some(StartParam::Resume(text)) => return resume_positions(text, channels),
        Some(StartParam::Since(moment)) => StartAt::Since(moment_ms(*moment, broker).await),
        Some(StartParam::Last(count)) => StartAt::Last(*count),
        Some(StartParam::Oldest) => StartAt::Oldest,
        None => default,
    };
    same_start(channels, &start)
}

fn same_start(channels: Vec<Channel>, start: &StartAt) -> Vec<(Channel, StartAt)> {
    let with_start = |channel| (channel, start.clone());
    channels.into_iter().map(with_start).collect()
}

/// Parses a cursor once, and returns its position in each channel.
fn resume_positions(text: &str, channels: Vec<Channel>) -> Vec<(Channel, StartAt)> {
    let is_single = channels.len() == 1;
    let cursor = parse_cursor(text, is_single);
    let resume_in = |channel: &Channel| {
        cursor
            .as_ref()?
            .position_in(channel)
            .map(|position| StartAt::Resume(Ok(position)))
            // The client has added this channel to those that it had before.
            .or_else(|| (!is_single).then_some(StartAt::Now))
    };
    let unreadable = || StartAt::Resume(Err(UnreadableCursor::new(text)));
    channels
        .into_iter()
        .map(|channel| {
            let start = resume_in(&channel).unwrap_or_else(unreadable);
            (channel, start)
        })
        .collect()
}

fn parse_cursor(text: &str, is_single: bool) -> Option<Cursor> {
    match text.parse() {
        // A plain position does not name the channel that it belongs to.
        Ok(Cursor::Plain(_)) if !is_single => None,
        cursor => cursor.ok(),
    }
}

/// Returns the moment in milliseconds since the Unix epoch, by the log's clock.
///
/// If the log does not answer in time, the clock of this machine replaces it.
async fn moment_ms(moment: Moment, broker: &Broker) -> u64 {
    match moment {
        Moment::At(ms) => ms,
        Moment::Ago(ago) => now_ms(broker).await.saturating_sub(whole_ms(ago)),
    }
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

async fn now_ms(broker: &Broker) -> u64 {
    match timeout(CLOCK_TIMEOUT, broker.now_ms()).await {
        Ok(Ok(now_ms)) => now_ms,
        _ => local_now_ms(),
    }
}

fn local_now_ms() -> u64 {
    u64::try_from(Utc::now().timestamp_millis()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_url(query: &str) -> Result<Option<StartParam>, String> {
        let params = Params::parse(query, &PARAMETERS).unwrap();
        StartParam::from_url(&params).map_err(|error| error.to_string())
    }

    #[test]
    fn a_url_names_at_most_one_start() {
        assert_eq!(from_url("last=10"), Ok(Some(StartParam::Last(10))));
        assert_eq!(from_url("from=oldest"), Ok(Some(StartParam::Oldest)));
        assert_eq!(
            from_url("since=1795521996855"),
            Ok(Some(StartParam::Since(Moment::At(1_795_521_996_855))))
        );
        assert_eq!(
            from_url("last_event_id=&last=0"),
            Ok(Some(StartParam::Last(0)))
        );
        for two in [
            "last=1&from=oldest",
            "since=5m&last=1",
            "last_event_id=x&since=5m",
            "from=oldest&last_event_id=x",
        ] {
            assert!(
                from_url(two).unwrap_err().contains("give one of them"),
                "{two}"
            );
        }
        for bad in [
            "last=10001",
            "last=-1",
            "last=",
            "from=newest",
            "since=",
            "since=0",
            "since=10",
            "since=yesterday",
            "from=",
        ] {
            assert!(from_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_end_is_an_id_or_a_whole_millisecond() {
        let end = |query: &str| {
            parse_until(&Params::parse(query, &PARAMETERS).unwrap())
                .map_err(|error| error.to_string())
        };
        assert_eq!(end("until=5-7"), Ok(Some(EventId::new(5, 7))));
        assert_eq!(
            end("until=1795521996855"),
            Ok(Some(EventId::new(1_795_521_996_855, u64::MAX)))
        );
        assert_eq!(
            end("until=1970-01-01T00:00:00.005Z"),
            Ok(Some(EventId::new(5, u64::MAX)))
        );
        assert_eq!(end(""), Ok(None));
        for bad in [
            "until=10m",
            "until=",
            "until=5",
            "until=@5-7",
            "until=a=5-7",
        ] {
            assert!(end(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_cursor_gives_each_channel_its_own_position() {
        let start = |text: &str, channels: &str| {
            let channels = channels
                .split(' ')
                .map(|name| name.parse().unwrap())
                .collect();
            let starts =
                resume_positions(text, channels)
                    .into_iter()
                    .map(|(_, start)| match start {
                        StartAt::Resume(Ok(position)) => position.to_string(),
                        StartAt::Resume(Err(unreadable)) => format!("? {unreadable}"),
                        start => format!("{start:?}"),
                    });
            starts.collect::<Vec<_>>()
        };
        assert_eq!(start("5-1", "a"), ["5-1"]);
        assert_eq!(start("a=5-1,b=@6-1", "b"), ["@6-1"]);
        assert_eq!(start("a=5-1,b=6-1", "c"), ["? a=5-1,b=6-1"]);
        assert_eq!(start("b=6-1,a=5-1", "a b"), ["5-1", "6-1"]);
        assert_eq!(start("a=5-1", "a b"), ["5-1", "Now"]);
        assert_eq!(start("5-1", "a b"), ["? 5-1", "? 5-1"]);
        assert_eq!(start("a=5-1,b=x", "a b"), ["? a=5-1,b=x", "? a=5-1,b=x"]);
        assert_eq!(start("garbage", "a"), ["? garbage"]);
    }
}
