//! URL of the server: the value of `--url`.
//!
//! The URL may contain a password. Neither `Debug` nor an error shows it.

use std::{fmt, str::FromStr};

use sse_cli::{loopback::is_loopback_url, proxy::Proxy};
use url::{Host, Position, Url};

/// An `http` or `https` URL without query and fragment. Its path is a prefix of all paths.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct BaseUrl(Url);

impl BaseUrl {
    /// Returns the path without a slash at the end.
    pub(crate) fn prefix(&self) -> &str {
        self.0.path().trim_end_matches('/')
    }

    /// Returns the URL of a path and query that begin with the prefix.
    pub(crate) fn join(&self, target: &str) -> Result<Url, url::ParseError> {
        // `Url::join` would take a target that begins with two slashes for another server.
        Url::parse(&format!("{}{target}", &self.0[..Position::BeforePath]))
    }

    /// Returns host and port as in the header `Host`.
    pub(crate) fn authority(&self) -> &str {
        &self.0[Position::BeforeHost..Position::AfterPort]
    }

    /// Returns the host name or IP address, and the port, to connect to.
    pub(crate) fn endpoint(&self) -> (String, u16) {
        let host = match self.0.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            None => String::new(),
        };
        (host, self.0.port_or_known_default().unwrap_or(80))
    }

    /// Returns whether the URL contains a user name or a password.
    pub(crate) fn has_user(&self) -> bool {
        !self.0.username().is_empty() || self.0.password().is_some()
    }

    /// Returns whether the server is on this machine, where no proxy can reach it.
    pub(crate) fn is_loopback(&self) -> bool {
        is_loopback_url(&self.0)
    }

    /// Returns the proxy that the environment sets for the server.
    pub(crate) fn proxy(&self) -> Option<Proxy> {
        Proxy::for_url(&self.0)
    }

    /// Returns whether requests are sent without TLS.
    pub(crate) fn is_plain(&self) -> bool {
        self.0.scheme() == "http"
    }
}

impl BaseUrl {
    /// Parses the value of `--url`.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidUrl> {
        text.parse()
    }
}

impl FromStr for BaseUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let url = match Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => url,
            // `localhost:5000` is a URL too, with the scheme `localhost`.
            Ok(_) | Err(url::ParseError::RelativeUrlWithoutBase) => return Err(InvalidUrl::Scheme),
            Err(error) => return Err(InvalidUrl::Malformed(error)),
        };
        if url.query().is_some() || url.fragment().is_some() {
            return Err(InvalidUrl::Extra);
        }
        Ok(Self(url))
    }
}

/// The URL without user name and password, for messages.
impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.0.clone();
        // Both calls work for every URL that has a host.
        let _ = shown.set_username("");
        let _ = shown.set_password(None);
        f.write_str(shown.as_str().trim_end_matches('/'))
    }
}

/// The URL without user name and password.
impl fmt::Debug for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BaseUrl").field(&self.to_string()).finish()
    }
}

/// Why a text is no URL of a server. The text is not part of the error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidUrl {
    #[error("{0}; write a URL like http://127.0.0.1:5000")]
    Malformed(#[source] url::ParseError),
    // The text before the first colon may be a user or a token: do not show it.
    #[error("write http:// or https:// in front, like http://127.0.0.1:5000")]
    Scheme,
    #[error("the URL ends with its path: remove \"?\" and \"#\"; --channel sets the channel")]
    Extra,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(text: &str) -> BaseUrl {
        text.parse().unwrap()
    }

    #[test]
    fn a_url_has_a_prefix_an_authority_and_an_endpoint() {
        let plain = base("http://me:secret@h:5000/a/");
        assert_eq!(
            (plain.prefix(), plain.authority(), plain.has_user()),
            ("/a", "h:5000", true)
        );
        assert_eq!(
            plain.join("/a/event/view?x=1").unwrap().as_str(),
            "http://me:secret@h:5000/a/event/view?x=1"
        );
        assert_eq!(plain.join("//b/c").unwrap().host_str(), Some("h"));
        let bare = base("https://[::1]");
        assert_eq!(
            (bare.prefix(), bare.authority(), bare.endpoint()),
            ("", "[::1]", ("::1".to_owned(), 443))
        );
        assert!(!bare.has_user());
    }

    #[test]
    fn only_http_and_https_urls_are_accepted() {
        for bad in [
            "",
            "127.0.0.1:5000",
            "localhost:5000",
            "/event",
            "ftp://h",
            "file:///x",
            "http://",
            "http://h:99999",
        ] {
            assert!(bad.parse::<BaseUrl>().is_err(), "{bad:?}");
        }
        for bad in [
            "ws://h",
            "127.0.0.1:5000",
            "localhost:5000",
            "example.org/live",
        ] {
            assert_eq!(bad.parse::<BaseUrl>(), Err(InvalidUrl::Scheme), "{bad}");
        }
        for bad in ["http://h?channel=a", "http://h#a"] {
            assert_eq!(bad.parse::<BaseUrl>(), Err(InvalidUrl::Extra));
        }
    }

    #[test]
    fn messages_show_no_password() {
        let url = base("https://me:secret@h/a/");
        assert_eq!(
            (url.to_string(), format!("{url:?}")),
            ("https://h/a".into(), "BaseUrl(\"https://h/a\")".into())
        );
        for bad in [
            "secret:secret@h",
            "http://me:secret@h:x",
            "http://me:secret@h?secret",
            "http://secret@",
        ] {
            let error = bad.parse::<BaseUrl>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
        }
    }

    #[test]
    fn loopback_is_recognised_by_name_and_by_address() {
        for url in [
            "http://localhost",
            "http://a.localhost",
            "http://127.1.2.3",
            "http://[::1]",
            "http://[::ffff:127.0.0.1]",
        ] {
            assert!(base(url).is_loopback(), "{url}");
        }
        for url in [
            "http://localhost.example",
            "http://10.0.0.1",
            "http://[::2]",
        ] {
            assert!(!base(url).is_loopback(), "{url}");
        }
    }
}
