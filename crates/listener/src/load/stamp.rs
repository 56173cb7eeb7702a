//! The stamp in an event's data: the publisher, the sequence number and the time of the event.
//!
//! The stamp is our own ([`sse_proto::record::Stamp`]), or the time in the key that `--time-field`
//! names. The data must be a JSON object, or a JSON string that contains one, because applications
//! that pass a text to Flask-SSE encode it twice:
//!
//! ```text
//! {"publisher":"p","sequence":7,"sent_us":1700000000000000}
//! "{\"publisher\":\"p\",\"sequence\":7,\"sent_us\":1700000000000000}"
//! ```
//!
//! Other data has no stamp, which is not an error.

use std::{borrow::Cow, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::json_scalar::ScalarSeed;

/// The stamp of an event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct EventStamp<'a> {
    /// Publisher and sequence number, if the data has both.
    pub(crate) sequenced: Option<(Cow<'a, str>, u64)>,
    /// When the event was sent, in microseconds since the Unix epoch.
    pub(crate) sent_us: Option<u64>,
}

/// Calls `use_stamp` with the stamp in an event's data; `time_field` replaces our own `sent_us`.
///
/// The stamp borrows from the data, so nothing is allocated unless the data is encoded twice.
pub(crate) fn with_stamp(
    data: &[u8],
    time_field: Option<&str>,
    use_stamp: impl FnOnce(EventStamp<'_>),
) {
    match data.trim_ascii_start() {
        [b'{', ..] => use_stamp(parse_object(&to_text(data), time_field)),
        [b'"', b'{' | b' ', ..] => {
            let inner: String = serde_json::from_str(&to_text(data)).unwrap_or_default();
            use_stamp(parse_object(&inner, time_field));
        }
        _ => use_stamp(EventStamp::default()),
    }
}

/// Nearly all data is valid UTF-8, for which `from_utf8` is much faster than `from_utf8_lossy`.
fn to_text(data: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(data).map_or_else(|_| String::from_utf8_lossy(data), Cow::Borrowed)
}

fn parse_object<'a>(text: &'a str, time_field: Option<&str>) -> EventStamp<'a> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let stamp = StampSeed { time_field }.deserialize(&mut deserializer);
    match (stamp, deserializer.end()) {
        (Ok(stamp), Ok(())) => stamp,
        _ => EventStamp::default(),
    }
}

/// Reads the keys of a stamp from an object, and skips the others.
struct StampSeed<'f> {
    time_field: Option<&'f str>,
}

impl<'de> DeserializeSeed<'de> for StampSeed<'_> {
    type Value = EventStamp<'de>;

    fn deserialize<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<EventStamp<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for StampSeed<'_> {
    type Value = EventStamp<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<EventStamp<'de>, A::Error> {
        let (mut publisher, mut sequence, mut sent_us) = (None, None, None);
        while let Some(key) = map.next_key_seed(KeySeed {
            time_field: self.time_field,
        })? {
            match key {
                StampKey::Publisher => publisher = map.next_value_seed(ScalarSeed)?.into_text(),
                // `u64::MAX` has no successor, which a sequence tracker needs.
                StampKey::Sequence => {
                    sequence = map
                        .next_value_seed(ScalarSeed)?
                        .into_integer()
                        .filter(|n| *n < u64::MAX);
                }
                StampKey::SentUs => sent_us = map.next_value_seed(ScalarSeed)?.into_integer(),
                StampKey::TimeField => sent_us = map.next_value_seed(ScalarSeed)?.into_time_us(),
                StampKey::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(EventStamp {
            sequenced: publisher.zip(sequence),
            sent_us,
        })
    }
}

/// A key of an object, if it belongs to a stamp.
enum StampKey {
    Publisher,
    Sequence,
    SentUs,
    TimeField,
    Other,
}

struct KeySeed<'f> {
    time_field: Option<&'f str>,
}

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = StampKey;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<StampKey, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed<'_> {
    type Value = StampKey;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<StampKey, E> {
        Ok(match key {
            _ if self.time_field == Some(key) => StampKey::TimeField,
            "publisher" => StampKey::Publisher,
            "sequence" => StampKey::Sequence,
            "sent_us" if self.time_field.is_none() => StampKey::SentUs,
            _ => StampKey::Other,
        })
    }
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
        found.expect("the closure is always called")
    }

    #[test]
    fn our_stamp_is_found_in_data_encoded_once_or_twice() {
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
    fn other_data_has_no_stamp() {
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
    fn a_named_field_can_be_a_time_in_any_usual_form() {
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
    fn invalid_utf8_elsewhere_does_not_hide_the_stamp() {
        let mut sent = None;
        with_stamp(b"{\"a\":\"\xFF\",\"sent_us\":5}", None, |stamp| {
            sent = stamp.sent_us;
        });
        assert_eq!(sent, Some(5));
    }
}
