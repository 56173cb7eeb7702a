//! The URLs at which clients reach this server through a proxy.

use std::str::FromStr;

use url::Url;

/// A URL at which clients reach this server, such as `https://hub.example.org/live`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl {
    origin: String,
    host: String,
    /// The host and the port, as in the header `Host`.
    authority: String,
    /// The URL without a slash at its end.
    base: String,
}

impl PublicUrl {
    /// The origin of pages at this URL, which are pages of this server's own.
    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    /// The name or address of the host.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Whether clients use https, perhaps to a proxy.
    pub(super) fn is_https(&self) -> bool {
        self.base.starts_with("https:")
    }

    /// Whether a request with this `Host` header was sent to this URL.
    pub(in crate::http) fn is_of_host(&self, host: &str) -> bool {
        self.authority.eq_ignore_ascii_case(host)
    }

    /// The URL for a path and query of this server.
    pub(crate) fn with_path(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

impl FromStr for PublicUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).ok().filter(is_base);
        let url = url.ok_or("write a URL like https://hub.example.org/live, without a query")?;
        let origin = url.origin().ascii_serialization();
        let (_, authority) = origin.split_once("://").unwrap_or_default();
        Ok(Self {
            host: url.host_str().unwrap_or_default().to_owned(),
            authority: authority.to_owned(),
            // A quote would end the argument of a command line in an error message.
            base: url.as_str().trim_end_matches('/').replace('\'', "%27"),
            origin,
        })
    }
}

fn is_base(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_url_has_an_origin_and_a_prefix() {
        for (text, origin, example) in [
            (
                "https://hub.example.org/live",
                "https://hub.example.org",
                "https://hub.example.org/live/stream",
            ),
            (
                "https://Hub.example.org:443/live/",
                "https://hub.example.org",
                "https://hub.example.org/live/stream",
            ),
            (
                "http://hub.example.org:8080",
                "http://hub.example.org:8080",
                "http://hub.example.org:8080/stream",
            ),
            (
                "http://[::1]:8080/it's",
                "http://[::1]:8080",
                "http://[::1]:8080/it%27s/stream",
            ),
        ] {
            let url: PublicUrl = text.parse().unwrap();
            assert_eq!(
                (url.origin(), &*url.with_path("/stream")),
                (origin, example)
            );
            assert!(url.is_of_host(origin.split_once("://").unwrap().1));
            assert!(!url.is_of_host("example.org"));
        }
    }

    #[test]
    fn text_that_is_no_base_is_rejected() {
        for bad in [
            "",
            "hub.example.org",
            "/live",
            "ftp://hub.example.org",
            "https://hub.example.org/live?x=1",
            "https://hub.example.org/#live",
            "https://me:secret@hub.example.org",
        ] {
            let error = bad.parse::<PublicUrl>().unwrap_err();
            assert!(error.contains("https://hub.example.org/live"), "{error}");
        }
    }
}
