//! A JSON value read as a text or a number, without an allocation for other values.

use std::{borrow::Cow, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::timestamp::{float_to_us, integer_to_us, text_to_us};

/// Reads a value of any type. A value that is neither a text nor a number is skipped.
pub(super) struct ScalarSeed;

/// A JSON value.
pub(super) enum ScalarValue<'de> {
    Text(Cow<'de, str>),
    Integer(u64),
    Float(f64),
    Other,
}

impl<'de> ScalarValue<'de> {
    pub(super) fn into_text(self) -> Option<Cow<'de, str>> {
        if let Self::Text(text) = self {
            Some(text)
        } else {
            None
        }
    }

    pub(super) fn into_integer(self) -> Option<u64> {
        if let Self::Integer(number) = self {
            Some(number)
        } else {
            None
        }
    }

    /// The time in microseconds since the Unix epoch.
    pub(super) fn into_time_us(self) -> Option<u64> {
        match self {
            Self::Integer(number) => integer_to_us(number),
            Self::Float(number) => float_to_us(number),
            Self::Text(text) => text_to_us(text.trim()),
            Self::Other => None,
        }
    }
}

impl<'de> DeserializeSeed<'de> for ScalarSeed {
    type Value = ScalarValue<'de>;

    fn deserialize<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<ScalarValue<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ScalarSeed {
    type Value = ScalarValue<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<ScalarValue<'de>, E> {
        Ok(ScalarValue::Text(text.into()))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<ScalarValue<'de>, E> {
        Ok(ScalarValue::Text(text.to_owned().into()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<ScalarValue<'de>, E> {
        Ok(ScalarValue::Integer(number))
    }

    fn visit_i64<E: Error>(self, _before_1970: i64) -> Result<ScalarValue<'de>, E> {
        Ok(ScalarValue::Other)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<ScalarValue<'de>, E> {
        Ok(ScalarValue::Float(number))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<ScalarValue<'de>, E> {
        Ok(ScalarValue::Other)
    }

    fn visit_unit<E: Error>(self) -> Result<ScalarValue<'de>, E> {
        Ok(ScalarValue::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<ScalarValue<'de>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(ScalarValue::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ScalarValue<'de>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(ScalarValue::Other)
    }
}
