//! Paths and query strings.
//!
//! They are parsed strictly. Text that is not percent-encoded UTF-8 is rejected, never replaced. A
//! parameter that the route does not have is rejected as well, because it is probably mistyped.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sse_proto::{Channel, Cursor, event::InvalidName};

use crate::http::error::{ApiError, shortened};

/// The characters to encode: all but those without a meaning in a query and in a header.
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
    /// Parses `query` for a route that has the parameters `known`.
    ///
    /// Names that begin with `_` are ignored, because clients add them to bypass caches.
    pub(crate) fn parse(query: &str, known: &[&'static str]) -> Result<Self, ApiError> {
        let mut params = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decode = |text: &str| percent_decode(&text.replace('+', " "), "query");
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

    /// Returns the query string without the parameters `names`, followed by the given one.
    pub(crate) fn with_instead_of(&self, names: &[&str], (name, value): (&str, &str)) -> String {
        let encode = |text| utf8_percent_encode(text, ENCODED);
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .filter(|(name, _)| !names.contains(name))
            .chain([(name, value)])
            .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
            .collect::<Vec<_>>()
            .join("&")
    }

    /// Returns all values of a parameter.
    pub(crate) fn all(&self, name: &'static str) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }

    /// Returns the value of a parameter, which may be given only once.
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

    /// Returns the channel; `sse` if none is given.
    pub(crate) fn channel(&self) -> Result<Channel, ApiError> {
        self.one("channel")?
            .map_or_else(|| Ok(Channel::default_channel()), parse_channel)
    }

    /// Returns the channels of a stream, each once, in the order of their names; `sse` if none is
    /// given.
    pub(crate) fn channels(&self) -> Result<Vec<Channel>, ApiError> {
        let mut channels = self
            .all("channel")
            .map(parse_channel)
            .collect::<Result<Vec<_>, _>>()?;
        channels.sort_unstable();
        channels.dedup();
        if channels.len() > Cursor::CHANNELS_MAX {
            return Err(ApiError::InvalidParameter {
                name: "channel",
                why: format!("is given for more than {} channels", Cursor::CHANNELS_MAX),
            });
        }
        if channels.is_empty() {
            channels.push(Channel::default_channel());
        }
        Ok(channels)
    }
}

fn parse_channel(name: &str) -> Result<Channel, ApiError> {
    name.parse()
        .map_err(|why: InvalidName| ApiError::InvalidName {
            what: "channel",
            value: shortened(name),
            why,
        })
}

/// Decodes percent-encoded text; `what` names its place in an error, `path` or `query`.
pub(crate) fn percent_decode(encoded: &str, what: &'static str) -> Result<String, ApiError> {
    let is_escape =
        |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    if !encoded.split('%').skip(1).all(is_escape) {
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
        assert_eq!(percent_decode("a%20b%C3%A9", "path").unwrap(), "a bé");
        for bad in ["%", "%4", "%zz", "a%FF", "%C3", "%C3%28", "%ED%A0%80"] {
            assert!(percent_decode(bad, "path").is_err(), "{bad}");
        }
    }

    #[test]
    fn an_unknown_parameter_is_rejected_but_a_cache_buster_is_ignored() {
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
    fn a_written_query_parses_to_the_same_parameters() {
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
    fn repeated_channels_count_once_and_at_most_32_are_allowed() {
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
