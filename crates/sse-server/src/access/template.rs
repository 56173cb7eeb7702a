//! Patterns with claims in them: `users.{sub}.*`.
//!
//! A value is escaped ([`escape_value`]), so it can contain neither a `*` nor a separator. A user
//! who can choose their `sub` therefore cannot reach another user's channels. The escape is the same
//! in the client library and in the documentation.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write as _},
    str::FromStr,
};

use serde_json::{Map, Value};
use sse_proto::Channel;

use super::{InvalidPattern, Pattern};

/// A list of more values gives no pattern, and neither does a template with more combinations.
pub(crate) const VALUES_MAX: usize = 64;

/// A pattern in which `{claim}` is replaced by a claim's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Segment>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    /// Characters of a pattern.
    Literal(Box<str>),
    /// The name of a claim.
    Claim(Box<str>),
}

/// Why a text is not a [`Template`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTemplate {
    /// A `{` without a `}`, a `}` without a `{`, or nothing between them.
    #[error("write a claim as {{name}}, such as users.{{sub}}")]
    Braces,
    /// The text around the claims is not part of a pattern.
    #[error(transparent)]
    Pattern(#[from] InvalidPattern),
}

/// The values of the claims that templates need, as texts.
pub(crate) type ClaimValues = BTreeMap<Box<str>, Vec<Box<str>>>;

impl Template {
    /// Returns the names of the claims in the template.
    pub(crate) fn claims(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Segment::Claim(name) => Some(&**name),
            Segment::Literal(_) => None,
        })
    }

    /// Returns whether a value meets a `*` or another value without a separator between them.
    ///
    /// `users.{sub}*` also matches the channels of users whose name begins with this one.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        self.0.windows(2).any(|pair| match pair {
            [Segment::Claim(_), Segment::Literal(text)] => text.starts_with('*'),
            [Segment::Literal(text), Segment::Claim(_)] => text.ends_with('*'),
            [Segment::Claim(_), Segment::Claim(_)] => true,
            _ => false,
        })
    }

    /// Returns one pattern per combination of values. A name longer than a channel's gives none.
    pub(crate) fn patterns(&self, values: &ClaimValues) -> Vec<Pattern> {
        let mut texts = vec![String::new()];
        for part in &self.0 {
            texts = match part {
                Segment::Literal(literal) => append_each(&texts, &[literal.to_string()]),
                Segment::Claim(name) => {
                    let values = values.get(name).map_or(&[][..], Vec::as_slice);
                    let escaped: Vec<_> = values.iter().map(|value| escape_value(value)).collect();
                    append_each(&texts, &escaped)
                }
            };
            if texts.len() > VALUES_MAX {
                return Vec::new();
            }
        }
        let patterns = texts.iter().map(|text| text.parse());
        patterns.filter_map(Result::ok).collect()
    }
}

/// Returns each text with each end appended, without those that are too long for a channel.
fn append_each(texts: &[String], ends: &[String]) -> Vec<String> {
    let pairs = texts
        .iter()
        .flat_map(|text| ends.iter().map(move |end| (text, end)));
    let fits = |(text, end): &(&String, &String)| text.len() + end.len() <= Channel::BYTES_MAX;
    pairs
        .filter(fits)
        .map(|(text, end)| format!("{text}{end}"))
        .take(VALUES_MAX + 1)
        .collect()
}

/// Writes every byte of `value` other than `A-Za-z0-9_-` as `~XX`, in upper-case hex.
///
/// ```
/// assert_eq!(sse_server::access::escape_value("auth0|7.*"), "auth0~7C7~2E~2A");
/// ```
#[must_use]
pub fn escape_value(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') {
            escaped.push(char::from(byte));
        } else {
            // Writing to a string never fails.
            let _ = write!(escaped, "~{byte:02X}");
        }
    }
    escaped
}

/// Returns the values of the claims `names`: strings, whole numbers, and lists of them.
pub(crate) fn read_claim_values(
    claims: &Map<String, Value>,
    names: &BTreeSet<&str>,
) -> ClaimValues {
    let values = names.iter().filter_map(|name| {
        let texts = read_values(claims.get(*name)?);
        (!texts.is_empty()).then(|| ((*name).into(), texts))
    });
    values.collect()
}

/// A text that is too long for a channel's name is left out. So is an empty one, which would make
/// `users.` out of `users.{sub}`.
fn read_values(value: &Value) -> Vec<Box<str>> {
    let items = match value {
        Value::Array(items) => items.as_slice(),
        single => std::slice::from_ref(single),
    };
    if items.len() > VALUES_MAX {
        return Vec::new();
    }
    let texts = items.iter().filter_map(|item| match item {
        Value::String(text) => Some(text.as_str().into()),
        Value::Number(number) if !number.is_f64() => Some(number.to_string().into()),
        _ => None,
    });
    let mut texts: Vec<Box<str>> = texts.collect();
    texts.retain(|text| (1..=Channel::BYTES_MAX).contains(&text.len()));
    texts
}

impl FromStr for Template {
    type Err = InvalidTemplate;

    fn from_str(text: &str) -> Result<Self, InvalidTemplate> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((literal, others)) = rest.split_once('{') {
            let (claim, after) = others.split_once('}').ok_or(InvalidTemplate::Braces)?;
            if claim.is_empty() || claim.contains('{') {
                return Err(InvalidTemplate::Braces);
            }
            parts.extend(parse_literal(literal)?);
            parts.push(Segment::Claim(claim.into()));
            rest = after;
        }
        parts.extend(parse_literal(rest)?);
        if parts.is_empty() {
            return Err(InvalidPattern.into());
        }
        Ok(Self(parts))
    }
}

fn parse_literal(text: &str) -> Result<Option<Segment>, InvalidTemplate> {
    if text.contains('}') {
        return Err(InvalidTemplate::Braces);
    }
    if text.is_empty() {
        return Ok(None);
    }
    text.parse::<Pattern>()?;
    Ok(Some(Segment::Literal(text.into())))
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Segment::Literal(text) => f.write_str(text),
            Segment::Claim(name) => write!(f, "{{{name}}}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn patterns(template: &str, claims: &Value) -> Vec<String> {
        let template: Template = template.parse().unwrap();
        let values = read_claim_values(claims.as_object().unwrap(), &template.claims().collect());
        let patterns = template.patterns(&values);
        patterns.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_value_cannot_inject_anything() {
        for (sub, expected) in [
            (json!("42"), &["users.42.*"][..]),
            (json!(42), &["users.42.*"]),
            (json!(-7), &["users.-7.*"]),
            (json!("*"), &["users.~2A.*"]),
            (json!("a.b:c~d"), &["users.a~2Eb~3Ac~7Ed.*"]),
            (json!("auth0|1"), &["users.auth0~7C1.*"]),
            (json!("é"), &["users.~C3~A9.*"]),
            (json!("{sub}"), &["users.~7Bsub~7D.*"]),
            (
                json!(["a", 1, "b"]),
                &["users.a.*", "users.1.*", "users.b.*"],
            ),
            (
                json!(["a", null, {}, [], 1.5, "", "b"]),
                &["users.a.*", "users.b.*"],
            ),
            (json!(""), &[]),
            (json!(1.5), &[]),
            (json!(true), &[]),
            (json!(null), &[]),
            (json!({"a": 1}), &[]),
            (json!("x".repeat(57)), &[]),
            (json!("~".repeat(19)), &[]),
            (json!(vec!["a"; 65]), &[]),
        ] {
            assert_eq!(
                patterns("users.{sub}.*", &json!({"sub": sub})),
                expected,
                "{sub}"
            );
        }
        assert_eq!(patterns("users.{sub}.*", &json!({})), Vec::<String>::new());
        assert_eq!(
            patterns("users.{sub}.*", &json!({"sub": "x".repeat(56)})).len(),
            1
        );
    }

    #[test]
    fn combinations_are_bounded() {
        let list = |count: usize| (0..count).collect::<Vec<_>>();
        let claims = json!({"a": list(8), "b": list(8), "c": list(9), "https://x/y": "z"});
        assert_eq!(patterns("{a}.{b}", &claims).len(), 64);
        assert_eq!(patterns("{a}.{c}", &claims), Vec::<String>::new());
        assert_eq!(patterns("{c}.{https://x/y}", &claims).len(), 9);
        assert_eq!(patterns("all.*", &claims), ["all.*"]);
    }

    #[test]
    fn templates_are_validated() {
        for bad in [
            "", "{", "}", "{}", "a.{sub", "a.sub}", "{a{b}}", "ä.{sub}", "a b", "{sub}/x",
        ] {
            assert!(bad.parse::<Template>().is_err(), "{bad}");
        }
        for (text, ambiguous) in [
            ("users.{sub}", false),
            ("users.{sub}.*", false),
            ("users.{sub}*", true),
            ("*{sub}", true),
            ("{a}{b}", true),
            ("{a}.{b}", false),
        ] {
            let template: Template = text.parse().unwrap();
            assert_eq!(
                (template.is_ambiguous(), template.to_string()),
                (ambiguous, text.into())
            );
        }
    }

    proptest! {
        #[test]
        fn an_escaped_value_is_one_part_of_a_name(value in any::<String>(), other in any::<String>()) {
            let escaped = escape_value(&value);
            prop_assert!(escaped.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-~".contains(&byte)));
            prop_assert_eq!(value == other, escaped == escape_value(&other));
        }

        #[test]
        fn a_template_matches_only_channels_of_its_value(sub in any::<String>(), name in "[a-z0-9~.:]{1,20}") {
            let claims = json!({"sub": sub});
            let own = format!("users.{}.", escape_value(&sub));
            let channel: Channel = format!("users.{name}").parse().unwrap();
            for pattern in patterns("users.{sub}.*", &claims) {
                let pattern: Pattern = pattern.parse().unwrap();
                prop_assert_eq!(
                    pattern.matches(&channel),
                    channel.as_str().starts_with(&own) && channel.as_str().len() > own.len()
                );
            }
        }
    }
}
