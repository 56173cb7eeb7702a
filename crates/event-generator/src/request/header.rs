//! A header that the user adds to each request: the value of `--header`.
//!
//! The value may be a secret: neither `Debug` nor an error shows it.

use hyper::header::HeaderName;
use sse_cli::header::{InvalidHeader, parse_header};

use super::template::Template;

/// A header whose value may have placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    /// Name.
    pub(crate) name: HeaderName,
    /// Value.
    pub(crate) value: Template,
}

impl Header {
    /// Parses `Name: value`.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidHeader> {
        let (name, value) = parse_header(text)?;
        Ok(Self {
            name,
            value: Template::parse(value),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_a_name_and_a_template() {
        let header = Header::parse("X-Event: {seq} a").unwrap();
        assert_eq!(header.name, "x-event");
        assert_eq!(header.value, Template::parse("{seq} a"));
    }

    #[test]
    fn an_invalid_header_is_rejected_and_not_repeated() {
        for bad in [
            "secret",
            "secret : x",
            "X-Key: secret\n",
            "Connection: secret",
        ] {
            let error = Header::parse(bad).unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn debug_shows_no_value() {
        let shown = format!("{:?}", Header::parse("X-Key: secret").unwrap());
        assert!(
            shown.contains("x-key") && !shown.contains("secret"),
            "{shown}"
        );
    }
}
