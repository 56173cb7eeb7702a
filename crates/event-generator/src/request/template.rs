//! Texts with placeholders: `--path`, `--body` and `--header`, so that one command can publish to
//! any server.
//!
//! A placeholder is a field in braces: `{action}`, `{data}`, `{seq}` or `{channel}`. It may name an
//! encoding after a colon: `{data:url}` is percent-encoded, as in a path, a query or an HTML form,
//! and `{data:json}` is a JSON string with its quotes. All other text is kept, including other
//! braces, so that JSON needs no escapes.

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// All characters but the unreserved ones of RFC 3986 §2.3: safe in a path segment, in a query, and
/// in an HTML form.
const ENCODED: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A text with placeholders. It may be a secret: `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Template {
    segments: Vec<Segment>,
}

#[derive(Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Placeholder(Field, Encoding),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Action,
    Data,
    Sequence,
    Channel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    AsIs,
    Url,
    Json,
}

/// Values of the placeholders.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Values<'a> {
    /// Type of the event.
    pub(crate) action: &'a str,
    /// Data of the event.
    pub(crate) data: &'a str,
    /// Number of the event in the run.
    pub(crate) sequence: u64,
    /// Channel.
    pub(crate) channel: &'a str,
}

impl Template {
    /// Parses a text. Braces that are no placeholder are text.
    pub(crate) fn parse(text: &str) -> Self {
        let mut segments = Vec::new();
        let (mut literal, mut rest) = (String::new(), text);
        while let Some(open) = rest.find('{') {
            literal.push_str(&rest[..open]);
            rest = &rest[open..];
            if let Some((placeholder, length)) = leading_placeholder(rest) {
                push_literal(&mut segments, &mut literal);
                segments.push(placeholder);
                rest = &rest[length..];
            } else {
                literal.push('{');
                rest = &rest[1..];
            }
        }
        literal.push_str(rest);
        push_literal(&mut segments, &mut literal);
        Self { segments }
    }

    /// Returns the template with every placeholder percent-encoded, for a path.
    pub(crate) fn percent_encoded(mut self) -> Self {
        for segment in &mut self.segments {
            if let Segment::Placeholder(_, encoding) = segment {
                *encoding = Encoding::Url;
            }
        }
        self
    }

    /// Returns the text if it has no placeholder.
    pub(crate) fn as_constant(&self) -> Option<&str> {
        match &self.segments[..] {
            [] => Some(""),
            [Segment::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// Returns the text with plain words instead of the placeholders.
    pub(crate) fn render_sample(&self) -> String {
        let mut sample = String::new();
        self.render(
            &Values {
                action: "a",
                data: "d",
                sequence: 0,
                channel: "c",
            },
            &mut sample,
        );
        sample
    }

    /// Returns whether the text contains the data of the event.
    pub(crate) fn has_data(&self) -> bool {
        self.segments
            .iter()
            .any(|segment| matches!(segment, Segment::Placeholder(Field::Data, _)))
    }

    /// Appends the text with the values of its placeholders to `out`.
    pub(crate) fn render(&self, values: &Values<'_>, out: &mut String) {
        for segment in &self.segments {
            match segment {
                Segment::Literal(text) => out.push_str(text),
                Segment::Placeholder(field, encoding) => {
                    append_value(*field, *encoding, values, out);
                }
            }
        }
    }
}

fn append_value(field: Field, encoding: Encoding, values: &Values<'_>, out: &mut String) {
    let text = match field {
        Field::Action => values.action,
        Field::Data => values.data,
        Field::Channel => values.channel,
        Field::Sequence => {
            // Digits are the same in every encoding.
            write!(out, "{}", values.sequence).expect("a String accepts any text");
            return;
        }
    };
    append_encoded(text, encoding, out);
}

fn push_literal(segments: &mut Vec<Segment>, literal: &mut String) {
    if !literal.is_empty() {
        segments.push(Segment::Literal(std::mem::take(literal)));
    }
}

/// Returns the placeholder at the start of `text`, and its length in bytes.
fn leading_placeholder(text: &str) -> Option<(Segment, usize)> {
    let close = text.find('}')?;
    Some((parse_placeholder(&text[1..close])?, close + 1))
}

fn parse_placeholder(text: &str) -> Option<Segment> {
    let (field, form) = text
        .split_once(':')
        .map_or((text, None), |(field, form)| (field, Some(form)));
    Some(Segment::Placeholder(
        parse_field(field)?,
        parse_encoding(form)?,
    ))
}

fn parse_field(name: &str) -> Option<Field> {
    match name {
        "action" => Some(Field::Action),
        "data" => Some(Field::Data),
        "seq" => Some(Field::Sequence),
        "channel" => Some(Field::Channel),
        _ => None,
    }
}

fn parse_encoding(name: Option<&str>) -> Option<Encoding> {
    match name {
        None => Some(Encoding::AsIs),
        Some("url") => Some(Encoding::Url),
        Some("json") => Some(Encoding::Json),
        Some(_) => None,
    }
}

fn append_encoded(text: &str, encoding: Encoding, out: &mut String) {
    match encoding {
        Encoding::AsIs => out.push_str(text),
        Encoding::Url => out.extend(utf8_percent_encode(text, &ENCODED)),
        Encoding::Json => {
            out.push_str(&serde_json::to_string(text).expect("a string is always JSON"));
        }
    }
}

impl std::fmt::Debug for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Template(…)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VALUES: Values<'_> = Values {
        action: "buy now",
        data: r#"{"a":"é&"}"#,
        sequence: 7,
        channel: "c:1",
    };

    fn rendered(text: &str) -> String {
        let mut out = String::new();
        Template::parse(text).render(&VALUES, &mut out);
        out
    }

    #[test]
    fn placeholders_are_replaced_and_all_other_text_is_kept() {
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            (
                r#"{"type":{action:json},"n":{seq},"data":{data}}"#,
                r#"{"type":"buy now","n":7,"data":{"a":"é&"}}"#,
            ),
            (
                "topic={channel:url}&data={data:url}",
                "topic=c%3A1&data=%7B%22a%22%3A%22%C3%A9%26%22%7D",
            ),
            ("{data:json}", r#""{\"a\":\"é&\"}""#),
            ("{seq:json}{seq:url}", "77"),
            ("{{action}}", "{buy now}"),
            ("{action", "{action"),
            (
                "{}{acton}{data:xml}{Action}{ seq }",
                "{}{acton}{data:xml}{Action}{ seq }",
            ),
            ("}{", "}{"),
        ] {
            assert_eq!(rendered(text), expected, "{text}");
        }
    }

    #[test]
    fn in_a_path_every_placeholder_is_encoded() {
        let mut out = String::new();
        Template::parse("/e/{action}?d={data:json}")
            .percent_encoded()
            .render(&VALUES, &mut out);
        assert_eq!(out, "/e/buy%20now?d=%7B%22a%22%3A%22%C3%A9%26%22%7D");
    }

    #[test]
    fn a_template_knows_whether_it_is_constant_and_contains_the_data() {
        assert_eq!(Template::parse("a{b}").as_constant(), Some("a{b}"));
        assert_eq!(Template::parse("a{seq}").as_constant(), None);
        assert!(
            Template::parse("{data:url}").has_data() && !Template::parse("{dat}{seq}").has_data()
        );
    }

    #[test]
    fn debug_does_not_show_the_text() {
        assert!(!format!("{:?}", Template::parse("secret {seq}")).contains("secret"));
    }

    proptest! {
        #[test]
        fn any_text_without_placeholders_is_kept(text in "[{}a-e:\"\\\\ é]{0,40}") {
            // No field consists of these letters.
            prop_assert_eq!(rendered(&text), text);
        }
    }
}
