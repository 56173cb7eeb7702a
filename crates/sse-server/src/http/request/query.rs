//! Paths and query strings, read strictly: what is not UTF-8 is refused, never replaced, and a parameter that the route
//! does not have is refused too, because it is most often a mistyped one.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sse_proto::{Channel, Cursor, event::InvalidName};

use crate::http::error::{ApiError, shortened};

/// What is written with `%`: all but what means nothing in a query, nor in a header.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b':')
    .remove(b'@');

/// The parameters of a query string, in order.
#[derive(Debug)]
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    /// Reads `query`, of a route that has the parameters `known`. Names that begin with `_` are for getting past
    /// caches, and ignored.
    pub(crate) fn parse(query: &str, known: &[&'static str]) -> Result<Self, ApiError> {
        let mut params = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decode = |text: &str| decoded(&text.replace('+', " "), "query");
            let (name, value) = (decode(name)?, decode(value)?);
            if name.starts_with('_') {
                continue;
            }
            if !known.contains(&name.as_str()) {
                return Err(ApiError::UnknownParameter {
                    name: shortened(name),
                    known: known.join(", "),
                });
            }
            params.push((name, value));
        }
        Ok(Self(params))
    }

    /// The query string of the same request but for these parameters, with this one in their place.
    pub(crate) fn with_instead_of(&self, names: &[&str], (name, value): (&str, &str)) -> String {
        let kept = self
            .0
            .iter()
            .filter(|(found, _)| !names.contains(&found.as_str()));
        let kept = kept.map(|(name, value)| (name.as_str(), value.as_str()));
        let encoded = |text| utf8_percent_encode(text, ENCODED);
        let pairs = kept
            .chain([(name, value)])
            .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
        pairs.collect::<Vec<_>>().join("&")
    }

    /// All values of a parameter.
    pub(crate) fn all(&self, name: &'static str) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }

    /// The value of a parameter that may be given once.
    pub(crate) fn one(&self, name: &'static str) -> Result<Option<&str>, ApiError> {
        let mut values = self.all(name);
        let first = values.next();
        if values.next().is_some() {
            return Err(ApiError::InvalidParameter {
                name,
                why: "is given more than once".to_owned(),
            });
        }
        Ok(first)
    }

    /// The channel; `sse` if none is given.
    pub(crate) fn channel(&self) -> Result<Channel, ApiError> {
        self.one("channel")?
            .map_or_else(|| Ok(Channel::default_channel()), channel)
    }

    /// The channels of one stream, each once, in their order by name; `sse` if none is given.
    pub(crate) fn channels(&self) -> Result<Vec<Channel>, ApiError> {
        let mut channels = self
            .all("channel")
            .map(channel)
            .collect::<Result<Vec<_>, _>>()?;
        channels.sort_unstable();
        channels.dedup();
        if channels.len() > Cursor::CHANNELS_MAX {
            let why = format!("is given for more than {} channels", Cursor::CHANNELS_MAX);
            return Err(ApiError::InvalidParameter {
                name: "channel",
                why,
            });
        }
        if channels.is_empty() {
            channels.push(Channel::default_channel());
        }
        Ok(channels)
    }
}

fn channel(name: &str) -> Result<Channel, ApiError> {
    name.parse()
        .map_err(|why: InvalidName| ApiError::InvalidName {
            what: "channel",
            value: shortened(name),
            why,
        })
}

/// The text that `encoded` stands for.
pub(crate) fn decoded(encoded: &str, what: &'static str) -> Result<String, ApiError> {
    let valid_escape =
        |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    if !encoded.split('%').skip(1).all(valid_escape) {
        return Err(ApiError::InvalidEncoding(what));
    }
    let text = percent_decode_str(encoded)
        .decode_utf8()
        .map_err(|_| ApiError::InvalidEncoding(what))?;
    Ok(text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoding_is_strict() {
        assert_eq!(decoded("a%20b%C3%A9", "path").unwrap(), "a bé");
        for bad in ["%", "%4", "%zz", "a%FF", "%C3", "%C3%28", "%ED%A0%80"] {
            assert!(decoded(bad, "path").is_err(), "{bad}");
        }
    }

    #[test]
    fn a_mistyped_parameter_is_refused_and_a_cache_buster_is_not() {
        let params = Params::parse(
            "channel=a%2Eb&event=x&event=y+z&_=17",
            &["channel", "event"],
        )
        .unwrap();
        assert_eq!(params.channel().unwrap().as_str(), "a.b");
        assert_eq!(params.all("event").collect::<Vec<_>>(), ["x", "y z"]);
        assert!(matches!(
            Params::parse("chanel=a", &["channel"]),
            Err(ApiError::UnknownParameter { .. })
        ));
        assert!(
            Params::parse("channel=a&channel=b", &["channel"])
                .unwrap()
                .channel()
                .is_err()
        );
        assert!(
            Params::parse("channel=", &["channel"])
                .unwrap()
                .channel()
                .is_err()
        );
    }

    #[test]
    fn a_query_is_written_as_it_is_read() {
        let known = ["event", "last", "limit"];
        let params =
            Params::parse("event=a%26b%3E&last=3&event=%C3%A9+x&limit=2&_=1", &known).unwrap();
        let next = params.with_instead_of(&["last"], ("last_event_id", "@5-0"));
        assert_eq!(
            next,
            "event=a%26b%3E&event=%C3%A9%20x&limit=2&last_event_id=@5-0"
        );
    }

    #[test]
    fn channels_are_merged_and_not_too_many() {
        let channels = |query: &str| {
            let channels = Params::parse(query, &["channel"]).unwrap().channels();
            channels.map(|channels| channels.into_iter().map(String::from).collect::<Vec<_>>())
        };
        assert_eq!(
            channels("channel=b&channel=a&channel=b").unwrap(),
            ["a", "b"]
        );
        assert_eq!(channels("").unwrap(), ["sse"]);
        assert!(channels("channel=a&channel=").is_err());
        let many = |count| {
            (0..count)
                .map(|nth| format!("channel=c{nth}&channel=c{nth}"))
                .collect::<Vec<_>>()
                .join("&")
        };
        assert_eq!(channels(&many(32)).unwrap().len(), 32);
        assert!(channels(&many(33)).is_err());
    }
}
