//! Headers that the user adds to the request: `--header` and `--bearer`, checked before anything is sent.
//!
//! What they hold may be a secret. It is marked as sensitive, and no message has any of it: not `Debug`, and not the
//! error about a header that is wrong, which clap would begin by quoting it.

use std::ffi::OsStr;

use clap::{
    Arg, Command,
    builder::TypedValueParser,
    error::{Error, ErrorKind},
};
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, EXPECT, HeaderName,
    HeaderValue, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};

use super::last_event_id::LAST_EVENT_ID;

/// Set by the listener itself: with others it would not get a stream that it can read.
const LISTENERS_OWN: [HeaderName; 3] = [ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL];
/// About the connection and the length of the body, not about what is asked for: left to the HTTP client.
const HTTPS_OWN: [HeaderName; 7] = [
    CONNECTION,
    CONTENT_LENGTH,
    EXPECT,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// A header of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its name.
    pub name: HeaderName,
    /// Its value, marked as sensitive.
    pub value: HeaderValue,
}

/// What goes into the header `Authorization` for a bearer token (RFC 6750 §2.1), marked as sensitive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer(pub HeaderValue);

/// Why a text is not a header to add. The text is not in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHeader {
    /// No colon, or what is before it is not a name.
    #[error("write a header as 'Name: value', like 'X-Api-Key: 123', in quotes")]
    Shape,
    /// Nothing after the colon: most likely the shell has cut it off.
    #[error("the header {0} has no value: write 'Name: value' in quotes")]
    NoValue(HeaderName),
    /// A line break, for example.
    #[error("the value of the header {0} has control characters, which no header can carry")]
    ControlCharacters(HeaderName),
    /// A flag is there for it.
    #[error(
        "the listener sets the header last-event-id itself: give the first one by --last-event-id"
    )]
    LastEventId,
    /// It has to be what it is.
    #[error("the listener sets the header {0} itself")]
    ListenersOwn(HeaderName),
    /// It is not for users.
    #[error("the header {0} belongs to the HTTP connection and is set by the listener itself")]
    HttpsOwn(HeaderName),
}

/// Why a text is not a bearer token. The text is not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a token is one word of printable ASCII characters, without spaces, line ends and the word Bearer before it"
)]
pub struct InvalidBearer;

impl Header {
    /// Reads `Name: value`.
    ///
    /// # Errors
    /// What is expected instead.
    pub fn parse(text: &str) -> Result<Self, InvalidHeader> {
        let (name, value) = text.split_once(':').ok_or(InvalidHeader::Shape)?;
        let name: HeaderName = name.parse().map_err(|_| InvalidHeader::Shape)?;
        if name == LAST_EVENT_ID {
            return Err(InvalidHeader::LastEventId);
        } else if LISTENERS_OWN.contains(&name) {
            return Err(InvalidHeader::ListenersOwn(name));
        } else if HTTPS_OWN.contains(&name) {
            return Err(InvalidHeader::HttpsOwn(name));
        }
        let value = value.trim_matches([' ', '\t']);
        if value.is_empty() {
            return Err(InvalidHeader::NoValue(name));
        }
        match sensitive(value) {
            Some(value) => Ok(Self { name, value }),
            None => Err(InvalidHeader::ControlCharacters(name)),
        }
    }
}

impl Bearer {
    /// Reads a token.
    ///
    /// # Errors
    /// What is expected instead.
    pub fn parse(token: &str) -> Result<Self, InvalidBearer> {
        // More than the standard's own characters: servers give out other ones too.
        let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        let value = if is_token {
            sensitive(&format!("Bearer {token}"))
        } else {
            None
        };
        value.map(Self).ok_or(InvalidBearer)
    }
}

fn sensitive(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_bytes(value.as_bytes()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// For clap: a value that is read by a function, and never quoted in the error about it.
#[derive(Debug, Clone, Copy)]
pub struct Unquoted<T, E>(pub fn(&str) -> Result<T, E>);

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
            ("Cookie:\t a=b; c=é ", "cookie", "a=b; c=é"),
        ] {
            let header = Header::parse(text).unwrap();
            assert_eq!(
                (header.name.as_str(), header.value.as_bytes()),
                (name, value.as_bytes())
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
    }

    #[test]
    fn headers_of_the_listener_itself_are_refused() {
        for own in ["Accept: a", "accept-encoding: a", "Cache-Control: a"] {
            assert!(
                matches!(Header::parse(own), Err(InvalidHeader::ListenersOwn(_))),
                "{own}"
            );
        }
        for own in [
            "Connection: close",
            "content-length: 0",
            "Transfer-Encoding: chunked",
        ] {
            assert!(
                matches!(Header::parse(own), Err(InvalidHeader::HttpsOwn(_))),
                "{own}"
            );
        }
        assert_eq!(
            Header::parse("Last-Event-ID: 1-0"),
            Err(InvalidHeader::LastEventId)
        );
    }

    #[test]
    fn a_token_is_one_word() {
        assert_eq!(Bearer::parse("aZ0-._~+/=").unwrap().0, "Bearer aZ0-._~+/=");
        for bad in ["", "Bearer a", "a\n", "é"] {
            assert_eq!(Bearer::parse(bad), Err(InvalidBearer), "{bad:?}");
        }
    }

    #[test]
    fn no_value_is_shown_by_debug() {
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
