//! What an event's data says about its publisher and its time: our own stamp ([`sse_proto::record::Stamp`]), or the
//! key that `--time-field` names.
//!
//! Data is looked at as a JSON object, or as a JSON string that holds one: applications that give Flask-SSE a text
//! encode twice. Anything else has no stamp, which is not an error.

use std::{borrow::Cow, fmt};

use chrono::DateTime;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stamp<'a> {
    /// Who sent it and as which of its events, if both are said.
    pub(crate) sequenced: Option<(Cow<'a, str>, u64)>,
    /// When it was sent: microseconds since the Unix epoch.
    pub(crate) sent_us: Option<u64>,
}

/// Takes an event's data apart; `time_field` replaces our own `sent_us`.
pub(crate) fn with_stamp(data: &[u8], time_field: Option<&str>, take: impl FnOnce(Stamp<'_>)) {
    match data.trim_ascii_start() {
        [b'{', ..] => take(of_object(&text(data), time_field)),
        [b'"', b'{' | b' ', ..] => {
            let inner: String = serde_json::from_str(&text(data)).unwrap_or_default();
            take(of_object(&inner, time_field));
        }
        _ => take(Stamp::default()),
    }
}

/// Much faster for what is valid, and so for nearly everything, than `from_utf8_lossy` alone.
fn text(data: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(data).map_or_else(|_| String::from_utf8_lossy(data), Cow::Borrowed)
}

fn of_object<'a>(text: &'a str, time_field: Option<&str>) -> Stamp<'a> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let stamp = Object { time_field }.deserialize(&mut deserializer);
    match (stamp, deserializer.end()) {
        (Ok(stamp), Ok(())) => stamp,
        _ => Stamp::default(),
    }
}

/// Reads an object's keys that count, and skips the others.
struct Object<'f> {
    time_field: Option<&'f str>,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = Stamp<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Stamp<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = Stamp<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Stamp<'de>, A::Error> {
        let (mut publisher, mut sequence, mut sent_us) = (None, None, None);
        while let Some(key) = map.next_key_seed(Key {
            time_field: self.time_field,
        })? {
            match key {
                Known::Publisher => publisher = map.next_value_seed(Scalar)?.text(),
                // The largest number has none after it, so nobody can count up to it.
                Known::Sequence => {
                    sequence = map
                        .next_value_seed(Scalar)?
                        .whole()
                        .filter(|n| *n < u64::MAX)
                }
                Known::SentUs => sent_us = map.next_value_seed(Scalar)?.whole(),
                Known::TimeField => sent_us = map.next_value_seed(Scalar)?.time_us(),
                Known::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Stamp {
            sequenced: publisher.zip(sequence),
            sent_us,
        })
    }
}

enum Known {
    Publisher,
    Sequence,
    SentUs,
    TimeField,
    Other,
}

struct Key<'f> {
    time_field: Option<&'f str>,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Known;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Known, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Known;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Known, E> {
        Ok(match key {
            _ if self.time_field == Some(key) => Known::TimeField,
            "publisher" => Known::Publisher,
            "sequence" => Known::Sequence,
            "sent_us" if self.time_field.is_none() => Known::SentUs,
            _ => Known::Other,
        })
    }
}

/// A value of any type; one that is neither text nor number is skipped.
struct Scalar;

enum Value<'de> {
    Text(Cow<'de, str>),
    Whole(u64),
    Broken(f64),
    Other,
}

impl<'de> Value<'de> {
    fn text(self) -> Option<Cow<'de, str>> {
        if let Self::Text(text) = self {
            Some(text)
        } else {
            None
        }
    }

    fn whole(self) -> Option<u64> {
        if let Self::Whole(number) = self {
            Some(number)
        } else {
            None
        }
    }

    fn time_us(self) -> Option<u64> {
        match self {
            Self::Whole(number) => whole_to_us(number),
            Self::Broken(number) => broken_to_us(number),
            Self::Text(text) => text_to_us(text.trim()),
            Self::Other => None,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Scalar {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Scalar {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(text.into()))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value<'de>, E> {
        Ok(Value::Text(text.to_owned().into()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value<'de>, E> {
        Ok(Value::Whole(number))
    }

    fn visit_i64<E: Error>(self, _before_1970: i64) -> Result<Value<'de>, E> {
        Ok(Value::Other)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value<'de>, E> {
        Ok(Value::Broken(number))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Value<'de>, E> {
        Ok(Value::Other)
    }

    fn visit_unit<E: Error>(self) -> Result<Value<'de>, E> {
        Ok(Value::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value<'de>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value<'de>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Other)
    }
}

/// Up to here a number is of seconds (until the year 5138), then of milliseconds, then of microseconds.
const SECONDS_BELOW: u64 = 100_000_000_000;

fn whole_to_us(number: u64) -> Option<u64> {
    match number {
        0 => None,
        _ if number < SECONDS_BELOW => number.checked_mul(1_000_000),
        _ if number < SECONDS_BELOW * 1_000 => number.checked_mul(1_000),
        _ if number < SECONDS_BELOW * 1_000_000 => Some(number),
        _ => Some(number / 1_000),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "bounds are checked"
)]
fn broken_to_us(number: f64) -> Option<u64> {
    let seconds_below = SECONDS_BELOW as f64;
    match number {
        _ if !number.is_finite() || number <= 0.0 || number >= u64::MAX as f64 => None,
        _ if number < seconds_below => Some((number * 1e6).round() as u64),
        _ if number < seconds_below * 1e3 => Some((number * 1e3).round() as u64),
        _ => whole_to_us(number as u64),
    }
}

fn text_to_us(text: &str) -> Option<u64> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return u64::try_from(time.timestamp_micros()).ok();
    }
    text.parse()
        .ok()
        .and_then(whole_to_us)
        .or_else(|| text.parse().ok().and_then(broken_to_us))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Found = (Option<(String, u64)>, Option<u64>);

    fn found(data: &str, time_field: Option<&str>) -> Found {
        let mut found = None;
        with_stamp(data.as_bytes(), time_field, |stamp| {
            found = Some((
                stamp
                    .sequenced
                    .map(|(publisher, n)| (publisher.into_owned(), n)),
                stamp.sent_us,
            ));
        });
        found.expect("always told")
    }

    #[test]
    fn our_stamp_is_found_plain_and_encoded_twice() {
        let stamp = sse_proto::record::Stamp {
            publisher: "p\"é".to_owned(),
            sequence: 7,
            sent_us: 8,
        };
        let plain = serde_json::to_string(&stamp).unwrap();
        let among_others = plain.replacen('{', r#"{"message":"{a}","more":[{"sequence":1}],"#, 1);
        let twice = serde_json::to_string(&among_others).unwrap();
        for data in [plain, among_others, twice] {
            assert_eq!(
                found(&data, None),
                (Some(("p\"é".to_owned(), 7)), Some(8)),
                "{data}"
            );
        }
    }

    #[test]
    fn what_has_no_stamp_has_none() {
        for data in [
            "",
            "a",
            "\"user_id: 1\"",
            "\"{\"",
            "\"{}",
            "{",
            "{}x",
            "[]",
            "null",
            r#"{"publisher":1,"sequence":2}"#,
            r#"{"publisher":"p","sequence":-2,"sent_us":"3"}"#,
            r#"{"publisher":"p","sequence":18446744073709551615}"#,
            r#"{"publisher":"p","sequence":1.5,"sent_us":{}}"#,
        ] {
            assert_eq!(found(data, None), (None, None), "{data}");
        }
        assert_eq!(
            found(r#"{"publisher":"p","sequence":0}"#, None),
            (Some(("p".to_owned(), 0)), None)
        );
        assert_eq!(
            found(r#"{"sequence":0,"sent_us":5,"x":[1,{"a":null}]}"#, None),
            (None, Some(5))
        );
    }

    #[test]
    fn a_named_field_is_a_time_in_any_usual_form() {
        for (value, us) in [
            ("1700000000", Some(1_700_000_000_000_000)),
            ("1700000000.5", Some(1_700_000_000_500_000)),
            ("1700000000123", Some(1_700_000_000_123_000)),
            ("1700000000123.5", Some(1_700_000_000_123_500)),
            ("1700000000123456", Some(1_700_000_000_123_456)),
            ("1700000000123456789", Some(1_700_000_000_123_456)),
            (r#""2023-11-14T22:13:20.5Z""#, Some(1_700_000_000_500_000)),
            (
                r#""2023-11-15T00:13:20+02:00""#,
                Some(1_700_000_000_000_000),
            ),
            (r#""1700000000.25""#, Some(1_700_000_000_250_000)),
            ("0", None),
            ("-1", None),
            ("1e300", None),
            ("true", None),
            (r#""yesterday""#, None),
            (r#"{"at":1}"#, None),
        ] {
            assert_eq!(
                found(&format!(r#"{{"sent_us":1,"at":{value}}}"#), Some("at")).1,
                us,
                "{value}"
            );
        }
    }

    #[test]
    fn invalid_utf8_elsewhere_does_not_hide_it() {
        let mut sent = None;
        with_stamp(b"{\"a\":\"\xFF\",\"sent_us\":5}", None, |stamp| {
            sent = stamp.sent_us
        });
        assert_eq!(sent, Some(5));
    }
}
