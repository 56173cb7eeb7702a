//! URL of a stream: what the user may write, what is requested, and what messages show.

use std::{fmt, str::FromStr};

use sse_cli::loopback::is_loopback_url;
use url::{Url, form_urlencoded};

/// Path of a URL without a path.
const DEFAULT_PATH: &str = "/stream";

/// An http or https URL with a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamUrl(Url);

impl StreamUrl {
    /// Returns the URL with these parameters added to its query, in order.
    #[must_use]
    pub fn with_query<V: AsRef<str>>(
        &self,
        parameters: impl IntoIterator<Item = (&'static str, V)>,
    ) -> Url {
        let mut url = self.0.clone();
        let mut query = url.query().unwrap_or_default().to_owned();
        for (name, value) in parameters {
            if !query.is_empty() {
                query.push('&');
            }
            query.push_str(name);
            query.push('=');
            // Every server decodes %20 as a space, but `+` only if it decodes HTML forms.
            let encoded: String =
                form_urlencoded::byte_serialize(value.as_ref().as_bytes()).collect();
            query.push_str(&encoded.replace('+', "%20"));
        }
        url.set_query(Some(query.as_str()).filter(|query| !query.is_empty()));
        url
    }

    /// Returns the values of a parameter in the query.
    pub(crate) fn query_values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = String> + 'a {
        self.0
            .query_pairs()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }

    /// Returns whether the connection uses TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Returns whether the URL contains a user name or a password, which are sent as the header
    /// `Authorization`.
    #[must_use]
    pub fn has_user(&self) -> bool {
        !self.0.username().is_empty() || self.0.password().is_some()
    }

    /// Returns whether the server is on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        is_loopback_url(&self.0)
    }
}

impl FromStr for StreamUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let mut url = match Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => url,
            // `localhost:5000` is a URL too, with the scheme `localhost`.
            Ok(_) | Err(url::ParseError::RelativeUrlWithoutBase) => return Err(InvalidUrl::Scheme),
            Err(error) => return Err(InvalidUrl::Malformed(error)),
        };
        if url.path() == "/" {
            url.set_path(DEFAULT_PATH);
        }
        url.set_fragment(None);
        Ok(Self(url))
    }
}

/// The URL in messages: without user name, password and query, which may be secrets.
impl fmt::Display for StreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = &self.0;
        write!(
            f,
            "{}://{}",
            url.scheme(),
            url.host_str().unwrap_or_default()
        )?;
        if let Some(port) = url.port() {
            write!(f, ":{port}")?;
        }
        f.write_str(url.path())
    }
}

/// Why a text is not the URL of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    /// There is no scheme, or the scheme is not HTTP.
    #[error("write http:// or https:// in front, like http://127.0.0.1:5000")]
    Scheme,
    /// The text after a space is no URL, so the space belongs to the URL before it.
    #[error(
        "a URL has no spaces: write %20 for each one, like ?channel=a%20b; a space separates two URLs, each with http:// or https:// in front"
    )]
    Space,
    /// The text begins like a URL, but is none.
    #[error("not a URL: {0}")]
    Malformed(url::ParseError),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> StreamUrl {
        text.parse().unwrap()
    }

    #[test]
    fn a_url_without_a_path_means_the_stream() {
        for (written, meant) in [
            ("http://127.0.0.1:5000", "http://127.0.0.1:5000/stream"),
            ("http://127.0.0.1:5000/", "http://127.0.0.1:5000/stream"),
            (
                "https://example.org?a=b#c",
                "https://example.org/stream?a=b",
            ),
            ("http://[::1]:5000/live/", "http://[::1]:5000/live/"),
        ] {
            assert_eq!(url(written).with_query::<&str>([]).as_str(), meant);
        }
    }

    #[test]
    fn only_http_and_https_urls_are_accepted() {
        for bad in [
            "127.0.0.1:5000",
            "localhost:5000",
            "example.org/stream",
            "ftp://example.org",
            "",
            "file:///etc",
        ] {
            assert_eq!(bad.parse::<StreamUrl>(), Err(InvalidUrl::Scheme), "{bad:?}");
        }
        for bad in ["http://", "http://a b", "http://127.0.0.1:99999"] {
            assert!(
                matches!(bad.parse::<StreamUrl>(), Err(InvalidUrl::Malformed(_))),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn parameters_are_added_to_the_query() {
        let parameters = [("channel", "a:b"), ("event", "é & +")];
        assert_eq!(
            url("http://h/s?x=1").with_query(parameters).as_str(),
            "http://h/s?x=1&channel=a%3Ab&event=%C3%A9%20%26%20%2B"
        );
        assert_eq!(
            url("http://h/s").with_query([("channel", "a")]).as_str(),
            "http://h/s?channel=a"
        );
    }

    #[test]
    fn messages_show_no_secrets() {
        let shown = url("https://user:secret@example.org:8443/s?token=secret").to_string();
        assert_eq!(shown, "https://example.org:8443/s");
    }

    #[test]
    fn loopback_is_recognised_by_name_and_by_address() {
        for here in [
            "http://localhost:1",
            "http://a.localhost",
            "http://127.1.2.3",
            "https://[::1]",
            "http://[::ffff:127.0.0.1]",
        ] {
            assert!(url(here).is_loopback(), "{here}");
        }
        for elsewhere in [
            "http://example.org",
            "http://localhost.example.org",
            "http://10.0.0.1",
            "http://[::2]",
        ] {
            assert!(!url(elsewhere).is_loopback(), "{elsewhere}");
        }
    }
}
