//! A header that the user adds to the request: `--header`, checked before anything is sent.
//!
//! The value may be a secret. It is marked as sensitive, and neither `Debug` nor an error shows it.

use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, HeaderName, HeaderValue};
use sse_cli::header::{InvalidHeader, parse_header, sensitive_value};

use super::last_event_id::LAST_EVENT_ID;

/// Headers that the listener sets: with other values it would not get a stream that it can read.
const LISTENER_HEADERS: [HeaderName; 3] = [ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL];

/// A header of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Name.
    pub name: HeaderName,
    /// Value, marked as sensitive.
    pub value: HeaderValue,
}

/// Why a text is not a header that the user may add. The text is not part of the error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The text is no header, or the HTTP client sets the header.
    #[error(transparent)]
    Invalid(#[from] InvalidHeader),
    /// A flag of its own sets this header.
    #[error(
        "the listener sets the header last-event-id itself: give the first one by --last-event-id"
    )]
    LastEventId,
    /// The listener sets this header.
    #[error("the listener sets the header {0} itself")]
    Listener(HeaderName),
}

impl Header {
    /// Parses `Name: value`.
    ///
    /// # Errors
    ///
    /// [`HeaderError`] describes the mistake, without the text.
    pub fn parse(text: &str) -> Result<Self, HeaderError> {
        let (name, value) = parse_header(text)?;
        if name == LAST_EVENT_ID {
            return Err(HeaderError::LastEventId);
        } else if LISTENER_HEADERS.contains(&name) {
            return Err(HeaderError::Listener(name));
        }
        match sensitive_value(value) {
            Some(value) => Ok(Self { name, value }),
            None => Err(InvalidHeader::ControlCharacters(name).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use sse_cli::header::{Bearer, InvalidBearer};

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
    fn an_invalid_header_is_rejected_and_not_repeated() {
        for bad in [
            "",
            "secret",
            ": secret",
            "a secret: secret",
            "Bearer\nsecret: x",
            "é: secret",
        ] {
            assert_eq!(
                Header::parse(bad),
                Err(InvalidHeader::Syntax.into()),
                "{bad:?}"
            );
        }
        for bad in [
            "X-Key: secret\r\nX-Other: 1",
            "X-Key: secret\0",
            "X-Key: secret\n",
        ] {
            let error = Header::parse(bad).unwrap_err();
            assert!(
                matches!(
                    error,
                    HeaderError::Invalid(InvalidHeader::ControlCharacters(_))
                ),
                "{bad:?}"
            );
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        assert!(matches!(
            Header::parse("X-Key: "),
            Err(HeaderError::Invalid(InvalidHeader::NoValue(_)))
        ));
    }

    #[test]
    fn headers_that_the_listener_sets_are_rejected() {
        for own in ["Accept: a", "accept-encoding: a", "Cache-Control: a"] {
            assert!(
                matches!(Header::parse(own), Err(HeaderError::Listener(_))),
                "{own}"
            );
        }
        for own in [
            "Connection: close",
            "content-length: 0",
            "Transfer-Encoding: chunked",
        ] {
            assert!(
                matches!(
                    Header::parse(own),
                    Err(HeaderError::Invalid(InvalidHeader::Connection(_)))
                ),
                "{own}"
            );
        }
        assert_eq!(
            Header::parse("Last-Event-ID: 1-0"),
            Err(HeaderError::LastEventId)
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
    fn debug_shows_no_value() {
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
