//! Where a reader of a stream or of history wants to start, and where to end: from the header and the URL.

use std::time::Duration;

use actix_web::{HttpRequest, http::header::HeaderName};
use chrono::Utc;
use sse_proto::{
    Channel, Cursor, EventId, Position,
    units::{Moment, parse_moment, parse_time_ms},
};
use tokio::time::timeout;

use super::query::Params;
use crate::{
    broker::Broker,
    channel::{Beginning, Start},
    fanout::start::Asked,
    http::error::ApiError,
};

/// The parameters that say where to start and where to end.
pub(crate) const PARAMETERS: [&str; 6] = [
    "last_event_id",
    "lastEventId",
    "since",
    "last",
    "from",
    "until",
];
/// Those of them that say where to start.
pub(crate) const STARTS: [&str; 5] = ["last_event_id", "lastEventId", "since", "last", "from"];
/// The last event id of an `EventSource` (WHATWG HTML §9.2.4).
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Events that `last` may ask for.
const LAST_MAX: usize = 10_000;
/// How long "ago" waits for the log's clock.
const CLOCK_WITHIN: Duration = Duration::from_millis(500);

/// Where to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Whence {
    /// Where the reader stopped: a cursor, or what it takes for one.
    Cursor(String),
    /// `since=`.
    Since(Moment),
    /// `last=`.
    Last(usize),
    /// `from=oldest`.
    Oldest,
}

impl Whence {
    /// Where to start; none if nothing says so.
    ///
    /// The `Last-Event-ID` header beats the URL, because an `EventSource` reconnects with its old URL; `lastEventId`, in
    /// which some polyfills put it there, counts as that header. An empty id is none.
    pub(crate) fn of(request: &HttpRequest, params: &Params) -> Result<Option<Self>, ApiError> {
        let in_url = Self::in_url(params)?;
        let polyfilled = params
            .one("lastEventId")?
            .filter(|text| !text.is_empty())
            .map(ToOwned::to_owned);
        Ok(header_id(request)
            .or(polyfilled)
            .map(Self::Cursor)
            .or(in_url))
    }

    fn in_url(params: &Params) -> Result<Option<Self>, ApiError> {
        let mut accepted = Vec::new();
        if let Some(text) = params.one("last_event_id")?.filter(|text| !text.is_empty()) {
            accepted.push(("last_event_id", Self::Cursor(text.to_owned())));
        }
        if let Some(text) = params.one("since")? {
            let moment = parse_moment(text)
                .map_err(|why| invalid("since")(format!("cannot be read: {why}")))?;
            accepted.push(("since", Self::Since(moment)));
        }
        if let Some(text) = params.one("last")? {
            let count = text.parse().ok().filter(|count| *count <= LAST_MAX);
            let why = || invalid("last")(format!("is a number from 0 to {LAST_MAX}"));
            accepted.push(("last", Self::Last(count.ok_or_else(why)?)));
        }
        match params.one("from")? {
            None => {}
            Some("oldest") => accepted.push(("from", Self::Oldest)),
            Some(_) => return Err(invalid("from")("can only be \"oldest\"".to_owned())),
        }
        match accepted.as_slice() {
            [(one, _), (other, _), ..] => Err(invalid(other)(format!(
                "and {one:?} both say where to start: give one of them"
            ))),
            _ => Ok(accepted.pop().map(|(_, whence)| whence)),
        }
    }
}

/// Where to end, if anywhere: the last id that is wanted.
pub(crate) fn until(params: &Params) -> Result<Option<EventId>, ApiError> {
    let Some(text) = params.one("until")? else {
        return Ok(None);
    };
    if let Ok(id) = text.parse() {
        return Ok(Some(id));
    }
    // With all of its millisecond.
    let ms = parse_time_ms(text)
        .map_err(|why| invalid("until")(format!("cannot be read: {why}, or the id of an event")))?;
    Ok(Some(EventId::new(ms, u64::MAX)))
}

fn invalid(name: &'static str) -> impl Fn(String) -> ApiError {
    move |why| ApiError::InvalidParameter { name, why }
}

fn header_id(request: &HttpRequest) -> Option<String> {
    let value = request.headers().get(LAST_EVENT_ID)?;
    let text = String::from_utf8_lossy(value.as_bytes()).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// What `text` says of one channel, for a reader of it alone.
pub(crate) fn position_in(text: &str, channel: &Channel) -> Option<Position> {
    text.parse::<Cursor>().ok()?.position_in(channel)
}

/// Where a stream of these channels is asked to begin in each.
///
/// Garbage is told as a gap, not as an error: an `EventSource` would give up for ever.
pub(crate) async fn asked(
    whence: Option<&Whence>,
    channels: Vec<Channel>,
    broker: &Broker,
) -> Vec<(Channel, Asked)> {
    let beginning = match whence {
        Some(Whence::Cursor(text)) => return resumed(text, channels),
        Some(Whence::Since(moment)) => Beginning::Since(moment_ms(*moment, broker).await),
        Some(Whence::Last(count)) => Beginning::Newest(*count),
        Some(Whence::Oldest) => Beginning::Oldest,
        None => Beginning::Now,
    };
    channels
        .into_iter()
        .map(|channel| (channel, Asked::Beginning(beginning)))
        .collect()
}

fn resumed(text: &str, channels: Vec<Channel>) -> Vec<(Channel, Asked)> {
    let cursor = text.parse::<Cursor>().ok();
    let is_alone = channels.len() == 1;
    let asked = |channel: &Channel| match &cursor {
        // The id of a stream of one channel does not say which, and this stream has several.
        Some(Cursor::Plain(_)) if !is_alone => Asked::Start(Start::unreadable(text)),
        Some(cursor) => match cursor.position_in(channel) {
            Some(position) => Asked::Start(Start::Claimed(position)),
            None if is_alone => Asked::Start(Start::unreadable(text)),
            // New to this reader's set of channels.
            None => Asked::Beginning(Beginning::Now),
        },
        None => Asked::Start(Start::unreadable(text)),
    };
    channels
        .into_iter()
        .map(|channel| {
            let asked = asked(&channel);
            (channel, asked)
        })
        .collect()
}

/// The moment in milliseconds since 1970, by the log's clock; by our own while the log does not answer.
pub(crate) async fn moment_ms(moment: Moment, broker: &Broker) -> u64 {
    let ago = match moment {
        Moment::At(ms) => return ms,
        Moment::Ago(ago) => ago,
    };
    let now_ms = match timeout(CLOCK_WITHIN, broker.now_ms()).await {
        Ok(Ok(now_ms)) => now_ms,
        _ => u64::try_from(Utc::now().timestamp_millis()).unwrap_or(0),
    };
    now_ms.saturating_sub(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_url(query: &str) -> Result<Option<Whence>, String> {
        let params = Params::parse(query, &PARAMETERS).unwrap();
        Whence::in_url(&params).map_err(|error| error.to_string())
    }

    #[test]
    fn a_url_says_once_where_to_start() {
        assert_eq!(in_url("last=10"), Ok(Some(Whence::Last(10))));
        assert_eq!(in_url("from=oldest"), Ok(Some(Whence::Oldest)));
        assert_eq!(in_url("since=5"), Ok(Some(Whence::Since(Moment::At(5)))));
        assert_eq!(in_url("last_event_id=&last=0"), Ok(Some(Whence::Last(0))));
        for two in [
            "last=1&from=oldest",
            "since=5m&last=1",
            "last_event_id=x&since=5m",
            "from=oldest&last_event_id=x",
        ] {
            assert!(
                in_url(two).unwrap_err().contains("give one of them"),
                "{two}"
            );
        }
        for bad in [
            "last=10001",
            "last=-1",
            "last=",
            "from=newest",
            "since=",
            "since=yesterday",
            "from=",
        ] {
            assert!(in_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_end_is_an_id_or_a_whole_millisecond() {
        let end = |query: &str| {
            until(&Params::parse(query, &PARAMETERS).unwrap()).map_err(|error| error.to_string())
        };
        assert_eq!(end("until=5-7"), Ok(Some(EventId::new(5, 7))));
        assert_eq!(end("until=5"), Ok(Some(EventId::new(5, u64::MAX))));
        assert_eq!(
            end("until=1970-01-01T00:00:00.005Z"),
            Ok(Some(EventId::new(5, u64::MAX)))
        );
        assert_eq!(end(""), Ok(None));
        for bad in ["until=10m", "until=", "until=@5-7", "until=a=5-7"] {
            assert!(end(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_cursor_starts_each_channel_where_it_says() {
        let start = |text: &str, channels: &str| {
            let channels = channels
                .split(' ')
                .map(|name| name.parse().unwrap())
                .collect();
            let starts = resumed(text, channels)
                .into_iter()
                .map(|(_, asked)| match asked {
                    Asked::Start(Start::Claimed(position)) => position.to_string(),
                    Asked::Start(Start::Unreadable(text)) => format!("? {text}"),
                    Asked::Beginning(beginning) => format!("{beginning:?}"),
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
    }
}
