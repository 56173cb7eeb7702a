//! Headers that the user adds: `--header` and `--bearer`, checked before anything is sent.
//!
//! What they hold may be a secret: no message has any of it, not `Debug`, and not the error about a header that is
//! wrong, which clap would begin by quoting it.

use std::ffi::OsStr;

use clap::{
    Arg, Command,
    builder::TypedValueParser,
    error::{Error, ErrorKind},
};
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};

use super::template::Template;

/// About the connection and the length of the body: left to the HTTP client.
const CONNECTION_HEADERS: [HeaderName; 7] = [
    CONNECTION,
    CONTENT_LENGTH,
    EXPECT,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// A header whose value may have placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    /// Its name.
    pub(crate) name: HeaderName,
    /// Its value.
    pub(crate) value: Template,
}

/// What goes into the header `Authorization` for a bearer token (RFC 6750 §2.1), marked as sensitive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bearer(pub(crate) HeaderValue);

/// Why a text is not a header to add. The text is not in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidHeader {
    /// No colon, or what is before it is not a name.
    #[error("write a header as 'Name: value', like 'X-Api-Key: 123', in quotes")]
    Shape,
    /// Nothing after the colon: most likely the shell has cut it off.
    #[error("the header {0} has no value: write 'Name: value' in quotes")]
    NoValue(HeaderName),
    /// A line break, for example.
    #[error("the value of the header {0} has control characters, which no header can carry")]
    ControlCharacters(HeaderName),
    /// It is not for users.
    #[error("the header {0} belongs to the HTTP connection and is set by the generator itself")]
    Reserved(HeaderName),
}

/// Why a text is not a bearer token. The text is not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a token is one word of printable ASCII characters, without spaces, line ends and the word Bearer before it"
)]
pub(crate) struct InvalidBearer;

impl Header {
    /// Reads `Name: value`.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidHeader> {
        let (name, value) = text.split_once(':').ok_or(InvalidHeader::Shape)?;
        let name: HeaderName = name.parse().map_err(|_| InvalidHeader::Shape)?;
        if CONNECTION_HEADERS.contains(&name) {
            return Err(InvalidHeader::Reserved(name));
        }
        let value = value.trim_matches([' ', '\t']);
        if value.is_empty() {
            return Err(InvalidHeader::NoValue(name));
        }
        if sensitive_value(value).is_none() {
            return Err(InvalidHeader::ControlCharacters(name));
        }
        Ok(Self {
            name,
            value: Template::parse(value),
        })
    }
}

impl Bearer {
    /// Reads a token.
    pub(crate) fn parse(token: &str) -> Result<Self, InvalidBearer> {
        // More than the standard's own characters: servers give out other ones too.
        let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        let value = if is_token {
            sensitive_value(&format!("Bearer {token}"))
        } else {
            None
        };
        value.map(Self).ok_or(InvalidBearer)
    }
}

/// A header's value, marked as sensitive; none if no header can carry it.
pub(super) fn sensitive_value(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_bytes(value.as_bytes()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// For clap: a value that is read by a function, and never quoted in the error about it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unquoted<T, E>(pub(crate) fn(&str) -> Result<T, E>);

impl<T, E> TypedValueParser for Unquoted<T, E>
where
    T: Clone + Send + Sync + 'static,
    E: std::fmt::Display + Clone + Send + Sync + 'static,
{
    type Value = T;

    fn parse_ref(&self, command: &Command, flag: Option<&Arg>, value: &OsStr) -> Result<T, Error> {
        let flag = flag.map(ToString::to_string).unwrap_or_default();
        let misused = |why: &dyn std::fmt::Display| {
            let message = format!(
                "invalid value for '{flag}': {why}\n\nFor more information, try '--help'.\n"
            );
            Error::raw(ErrorKind::ValueValidation, message).with_cmd(command)
        };
        let text = value.to_str().ok_or_else(|| misused(&"it is not UTF-8"))?;
        (self.0)(text).map_err(|why| misused(&why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_a_name_and_a_value() {
        for (text, name, value) in [
            ("X-Api-Key: a b", "x-api-key", "a b"),
            ("x:y:z", "x", "y:z"),
            ("Cookie:\t a=é ", "cookie", "a=é"),
        ] {
            let header = Header::parse(text).unwrap();
            assert_eq!(
                (header.name.as_str(), header.value.as_constant()),
                (name, Some(value))
            );
        }
    }

    #[test]
    fn what_is_no_header_is_refused_and_not_repeated() {
        for bad in [
            "",
            "secret",
            ": secret",
            "a secret: secret",
            "Bearer\nsecret: x",
            "é: secret",
        ] {
            assert_eq!(Header::parse(bad), Err(InvalidHeader::Shape), "{bad:?}");
        }
        for bad in [
            "X-Key: secret\r\nX-Other: 1",
            "X-Key: secret\0",
            "X-Key: secret\n",
        ] {
            let error = Header::parse(bad).unwrap_err();
            assert!(
                matches!(error, InvalidHeader::ControlCharacters(_)),
                "{bad:?}"
            );
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        assert!(matches!(
            Header::parse("X-Key: "),
            Err(InvalidHeader::NoValue(_))
        ));
        for own in [
            "Connection: close",
            "content-length: 0",
            "Transfer-Encoding: chunked",
        ] {
            assert!(
                matches!(Header::parse(own), Err(InvalidHeader::Reserved(_))),
                "{own}"
            );
        }
    }

    #[test]
    fn a_token_is_one_word_and_never_shown() {
        assert_eq!(Bearer::parse("aZ0-._~+/=").unwrap().0, "Bearer aZ0-._~+/=");
        for bad in ["", "Bearer a", "a\n", "é"] {
            assert_eq!(Bearer::parse(bad), Err(InvalidBearer), "{bad:?}");
        }
        let shown = format!(
            "{:?} {:?}",
            Header::parse("X-Key: secret").unwrap(),
            Bearer::parse("secret").unwrap()
        );
        assert!(
            shown.contains("x-key") && !shown.contains("secret"),
            "{shown}"
        );
    }
}
