//! Headers that the user adds to requests: `--header` and `--bearer`.
//!
//! A value may be a secret: values are marked as sensitive, and no error contains one.

use http::{
    HeaderName, HeaderValue,
    header::{CONNECTION, CONTENT_LENGTH, EXPECT, TE, TRAILER, TRANSFER_ENCODING, UPGRADE},
};

/// Headers about the connection and the length of the body, which the HTTP client sets.
const CONNECTION_HEADERS: [HeaderName; 7] = [
    CONNECTION,
    CONTENT_LENGTH,
    EXPECT,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Value of the header `Authorization` for a bearer token (RFC 6750 §2.1), marked as sensitive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer(pub HeaderValue);

/// Why a text is not a header. The text is not part of the error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHeader {
    /// There is no colon, or the text before it is not a header name.
    #[error("write a header as 'Name: value', like 'X-Api-Key: 123', in quotes")]
    Syntax,
    /// There is nothing after the colon, most likely because the quotes are missing.
    #[error("the header {0} has no value: write 'Name: value' in quotes")]
    NoValue(HeaderName),
    /// The value contains a line break, for example.
    #[error("the value of the header {0} has control characters, which no header can carry")]
    ControlCharacters(HeaderName),
    /// The HTTP client sets this header.
    #[error("the header {0} belongs to the HTTP connection: it is set automatically")]
    Connection(HeaderName),
}

/// Why a text is not a bearer token. The text is not part of the error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a token is one word of printable ASCII characters, without spaces, line ends and the word Bearer before it"
)]
pub struct InvalidBearer;

/// Splits `Name: value` into a name that users may set and a value that a header can carry.
///
/// # Errors
///
/// [`InvalidHeader`] states the mistake, without the text.
pub fn parse_header(text: &str) -> Result<(HeaderName, &str), InvalidHeader> {
    let (name, value) = text.split_once(':').ok_or(InvalidHeader::Syntax)?;
    let (name, value) = (parse_name(name)?, value.trim_matches([' ', '\t']));
    if value.is_empty() {
        Err(InvalidHeader::NoValue(name))
    } else if sensitive_value(value).is_none() {
        Err(InvalidHeader::ControlCharacters(name))
    } else {
        Ok((name, value))
    }
}

fn parse_name(text: &str) -> Result<HeaderName, InvalidHeader> {
    let name = text.parse().map_err(|_| InvalidHeader::Syntax)?;
    if CONNECTION_HEADERS.contains(&name) {
        Err(InvalidHeader::Connection(name))
    } else {
        Ok(name)
    }
}

/// Returns the value of a header, marked as sensitive; `None` if no header can carry it.
#[must_use]
pub fn sensitive_value(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_bytes(value.as_bytes()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

impl Bearer {
    /// Parses a token.
    ///
    /// # Errors
    ///
    /// [`InvalidBearer`] if the token is empty or not one printable ASCII word.
    pub fn parse(token: &str) -> Result<Self, InvalidBearer> {
        if !is_token(token) {
            return Err(InvalidBearer);
        }
        let value = sensitive_value(&format!("Bearer {token}"));
        value.map(Self).ok_or(InvalidBearer)
    }
}

/// Returns whether a token is one printable ASCII word.
///
/// RFC 6750 §2.1 allows fewer characters, but servers issue tokens with other characters too.
fn is_token(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_a_name_and_a_value() {
        for (text, name, value) in [
            ("X-Api-Key: a b", "x-api-key", "a b"),
            ("x:y:z", "x", "y:z"),
            ("Cookie:\t a=b; c=é ", "cookie", "a=b; c=é"),
        ] {
            let (parsed, rest) = parse_header(text).expect("a header");
            assert_eq!((parsed.as_str(), rest), (name, value));
        }
    }

    #[test]
    fn an_invalid_header_is_rejected_and_not_repeated() {
        for bad in [
            "",
            "secret",
            ": secret",
            "a secret: secret",
            "Bearer\nsecret: x",
            "é: secret",
        ] {
            assert_eq!(parse_header(bad), Err(InvalidHeader::Syntax), "{bad:?}");
        }
        for bad in [
            "X-Key: secret\r\nX-Other: 1",
            "X-Key: secret\0",
            "X-Key: secret\n",
        ] {
            let error = parse_header(bad).expect_err("control characters");
            assert!(
                matches!(error, InvalidHeader::ControlCharacters(_)),
                "{bad:?}"
            );
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        let error = parse_header("X-Key: ").expect_err("no value");
        assert!(matches!(error, InvalidHeader::NoValue(_)));
        for own in [
            "Connection: close",
            "content-length: 0",
            "Transfer-Encoding: chunked",
        ] {
            let error = parse_header(own).expect_err("the client sets it");
            assert!(matches!(error, InvalidHeader::Connection(_)), "{own}");
        }
    }

    #[test]
    fn a_token_is_one_word_and_never_shown() {
        let bearer = Bearer::parse("aZ0-._~+/=").expect("a token");
        assert_eq!(bearer.0, "Bearer aZ0-._~+/=");
        for bad in ["", "Bearer a", "a\n", "é"] {
            assert_eq!(Bearer::parse(bad), Err(InvalidBearer), "{bad:?}");
        }
        assert!(!format!("{bearer:?}").contains("aZ0"));
    }
}
