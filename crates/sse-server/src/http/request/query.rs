//! Paths and query strings.
//!
//! They are parsed strictly. Text that is not percent-encoded UTF-8 is rejected, never replaced. A
//! parameter that the route does not have is rejected as well, because it is probably mistyped.

use std::{collections::BTreeSet, ops::RangeInclusive};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sse_proto::{Channel, Cursor};

use crate::http::error::{ApiError, ApiResult};

/// The characters to encode: all but those without a meaning in a query and in a header.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b':')
    .remove(b'@');

/// Channels per stream.
const CHANNELS_MAX: usize = Cursor::CHANNELS_MAX;

/// The parameters of a query string, in order.
#[derive(Debug)]
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    /// Parses `query` for a route that has the parameters `known`.
    ///
    /// Names that begin with `_` are ignored, because clients add them to bypass caches.
    #[cfg(test)]
    pub(crate) fn parse(query: &str, known: &[&'static str]) -> ApiResult<Self> {
        let params = Self::parse_any(query)?;
        params.check_known(known)?;
        Ok(params)
    }

    /// Parses `query`, which may have parameters of any name. The caller is authorised before its
    /// parameters are [checked](Self::check_known).
    pub(crate) fn parse_any(query: &str) -> ApiResult<Self> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let mut params: Vec<_> = pairs.map(parse_pair).collect::<ApiResult<_>>()?;
        params.retain(|(name, _)| !name.starts_with('_'));
        Ok(Self(params))
    }

    /// Rejects parameters that are not `known`.
    pub(crate) fn check_known(&self, known: &[&'static str]) -> ApiResult<()> {
        self.pairs()
            .try_for_each(|(name, _)| check_known(name, known))
    }

    /// Returns the parameters without those of a name.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.0.retain(|(found, _)| found != name);
        self
    }

    /// Returns the query string without the parameters `names`, followed by the given one.
    pub(crate) fn with_instead_of(&self, names: &[&str], (name, value): (&str, &str)) -> String {
        self.pairs()
            .filter(|(name, _)| !names.contains(name))
            .chain([(name, value)])
            .map(write_pair)
            .collect::<Vec<_>>()
            .join("&")
    }

    /// Returns all values of a parameter.
    pub(crate) fn all(&self, name: &'static str) -> impl Iterator<Item = &str> {
        self.pairs()
            .filter(move |(found, _)| *found == name)
            .map(|(_, value)| value)
    }

    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Returns the value of a parameter, which may be given only once.
    pub(crate) fn one(&self, name: &'static str) -> ApiResult<Option<&str>> {
        at_most_one(self.all(name))
            .map_err(|MoreThanOne| ApiError::invalid_parameter(name, "is given more than once"))
    }

    /// Returns the value of a parameter, or `None` if it is empty.
    pub(crate) fn non_empty(&self, name: &'static str) -> ApiResult<Option<String>> {
        let text = self.one(name)?.filter(|text| !text.is_empty());
        Ok(text.map(ToOwned::to_owned))
    }

    /// Returns the number in a parameter, which must be in `range`.
    pub(crate) fn number(
        &self,
        name: &'static str,
        range: RangeInclusive<usize>,
    ) -> ApiResult<Option<usize>> {
        self.parsed(name, |text| parse_number(text, &range))
    }

    /// Returns whether a parameter is given. Its only valid value is `word`.
    pub(crate) fn is_given(&self, name: &'static str, word: &str) -> ApiResult<bool> {
        let given = self.parsed(name, |text| check_word(text, word))?;
        Ok(given.is_some())
    }

    /// Returns the value of a parameter as `parse` reads it.
    ///
    /// The error of `parse` is a clause whose subject is the parameter.
    pub(crate) fn parsed<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> ApiResult<Option<T>> {
        self.one(name)?
            .map(parse)
            .transpose()
            .map_err(|why| ApiError::invalid_parameter(name, why))
    }

    /// Returns the channel; `sse` if none is given.
    pub(crate) fn channel(&self) -> ApiResult<Channel> {
        self.one("channel")?
            .map_or_else(|| Ok(Channel::default_channel()), parse_channel)
    }

    /// Returns the channels of a stream, each once, in the order of their names; `sse` if none is
    /// given.
    pub(crate) fn channels(&self) -> ApiResult<Vec<Channel>> {
        let mut channels = self.distinct_channels()?;
        check_channel_count(&channels)?;
        if channels.is_empty() {
            channels.push(Channel::default_channel());
        }
        Ok(channels)
    }

    fn distinct_channels(&self) -> ApiResult<Vec<Channel>> {
        let distinct: ApiResult<BTreeSet<_>> = self.all("channel").map(parse_channel).collect();
        Ok(Vec::from_iter(distinct?))
    }
}

/// Returns the value of one parameter of `query`, which may have other parameters of any form.
pub(crate) fn find_param<'a>(query: &'a str, name: &'static str) -> ApiResult<Option<String>> {
    let is_named = |pair: &&'a str| {
        let found = pair.split_once('=').map_or(*pair, |(found, _)| found);
        decode_text(found).is_ok_and(|found| found == name)
    };
    let pair = at_most_one(query.split('&').filter(is_named))
        .map_err(|MoreThanOne| ApiError::invalid_parameter(name, "is given more than once"))?;
    let value = pair.map(|pair| pair.split_once('=').map_or("", |(_, value)| value));
    value.map(decode_text).transpose()
}

/// The error of [`at_most_one`].
pub(crate) struct MoreThanOne;

/// Returns the item of `items`, or `None` if there is no item.
pub(crate) fn at_most_one<I: Iterator>(mut items: I) -> Result<Option<I::Item>, MoreThanOne> {
    let first = items.next();
    if items.next().is_some() {
        return Err(MoreThanOne);
    }
    Ok(first)
}

fn parse_pair(pair: &str) -> ApiResult<(String, String)> {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    Ok((decode_text(name)?, decode_text(value)?))
}

/// Decodes a name or a value, in which a space may be written as `+`.
fn decode_text(text: &str) -> ApiResult<String> {
    percent_decode(&text.replace('+', " "), "query")
}

fn write_pair((name, value): (&str, &str)) -> String {
    let encode = |text| utf8_percent_encode(text, ENCODED);
    format!("{}={}", encode(name), encode(value))
}

fn check_known(name: &str, known: &[&'static str]) -> ApiResult<()> {
    if known.contains(&name) {
        return Ok(());
    }
    Err(ApiError::unknown_parameter(name, known))
}

fn check_word(text: &str, word: &str) -> Result<(), String> {
    if text == word {
        Ok(())
    } else {
        Err(format!("must be {word:?}"))
    }
}

fn parse_number(text: &str, range: &RangeInclusive<usize>) -> Result<usize, String> {
    let (min, max) = (range.start(), range.end());
    number_in(range, text).ok_or_else(|| format!("must be a number from {min} to {max}"))
}

fn number_in(range: &RangeInclusive<usize>, text: &str) -> Option<usize> {
    let number = text.parse().ok();
    number.filter(|number| range.contains(number))
}

fn check_channel_count(channels: &[Channel]) -> ApiResult<()> {
    if channels.len() <= CHANNELS_MAX {
        return Ok(());
    }
    let why = format!("is given for more than {CHANNELS_MAX} channels");
    Err(ApiError::invalid_parameter("channel", why))
}

pub(crate) fn parse_channel(name: &str) -> ApiResult<Channel> {
    name.parse()
        .map_err(|why| ApiError::invalid_name("channel", name, why))
}

/// Decodes percent-encoded text; `what` names its place in an error, `path` or `query`.
pub(crate) fn percent_decode(encoded: &str, what: &'static str) -> ApiResult<String> {
    decode_strictly(encoded).ok_or(ApiError::InvalidEncoding(what))
}

fn decode_strictly(encoded: &str) -> Option<String> {
    let text = percent_decode_str(encoded).decode_utf8().ok()?;
    has_complete_escapes(encoded).then(|| text.into_owned())
}

/// Returns whether each `%` begins an escape. The decoder would keep any other `%` as it is.
fn has_complete_escapes(encoded: &str) -> bool {
    encoded.split('%').skip(1).all(begins_with_hex_byte)
}

fn begins_with_hex_byte(text: &str) -> bool {
    text.len() >= 2 && text.bytes().take(2).all(|byte| byte.is_ascii_hexdigit())
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
