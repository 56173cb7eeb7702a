//! Where the server is: the checked `--url`, and the address of each action under it.

use std::{fmt, str::FromStr};

use sse_proto::{Channel, EventType};
use url::{Host, Url};

/// An `http` or `https` address of a server, with a path that is kept as a prefix and nothing behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BaseUrl(Url);

impl BaseUrl {
    /// Where events of this action go: `{url}/event/{action}`, and `?channel=` if a channel is named.
    pub(crate) fn event(&self, action: &EventType, channel: Option<&Channel>) -> Url {
        let mut url = self.0.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push("event").push(action.as_str());
        }
        if let Some(channel) = channel {
            url.query_pairs_mut().append_pair("channel", channel.as_str());
        }
        url
    }

    /// Whether the server is on this machine, which no proxy can reach.
    pub(crate) fn is_loopback(&self) -> bool {
        match self.0.host() {
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
            None => false,
        }
    }

    /// Whether requests go without TLS.
    pub(crate) fn is_plain(&self) -> bool {
        self.0.scheme() == "http"
    }
}

impl FromStr for BaseUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let url = Url::parse(text).map_err(InvalidUrl::Malformed)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(InvalidUrl::Scheme(url.scheme().to_owned()));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(InvalidUrl::Extra);
        }
        Ok(Self(url))
    }
}

/// As it was given, without user name and password: this is what messages show.
impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.0.clone();
        // Both work for every address that has a host, and these do.
        let _ = shown.set_username("");
        let _ = shown.set_password(None);
        f.write_str(shown.as_str().trim_end_matches('/'))
    }
}

/// Why an address was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidUrl {
    #[error("{0}; an address looks like http://127.0.0.1:5000")]
    Malformed(#[source] url::ParseError),
    #[error("the scheme must be http or https, not \"{0}\"; an address looks like http://127.0.0.1:5000")]
    Scheme(String),
    #[error("an address ends with its path: leave out \"?\" and \"#\" (--channel names the channel)")]
    Extra,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(text: &str) -> BaseUrl {
        text.parse().unwrap()
    }

    fn event(url: &str, action: &str) -> String {
        base(url).event(&action.parse().unwrap(), None).into()
    }

    #[test]
    fn a_path_in_the_address_is_a_prefix() {
        for url in ["http://h:5000", "http://h:5000/"] {
            assert_eq!(event(url, "view"), "http://h:5000/event/view");
        }
        for url in ["https://h/a/b", "https://h/a/b/"] {
            assert_eq!(event(url, "view"), "https://h/a/b/event/view");
        }
    }

    #[test]
    fn an_action_is_percent_encoded_as_one_segment() {
        for (action, path) in [("a b", "a%20b"), ("50%", "50%25"), ("a?b#c", "a%3Fb%23c"), ("é", "%C3%A9")] {
            assert_eq!(event("http://h", action), format!("http://h/event/{path}"));
        }
        assert_eq!(event("http://h", r"a\b"), "http://h/event/a%5Cb");
    }

    #[test]
    fn the_channel_is_named_only_if_given() {
        let action = "view".parse().unwrap();
        let channel = "eu:a~b".parse().unwrap();
        assert_eq!(base("http://h").event(&action, Some(&channel)).query(), Some("channel=eu%3Aa%7Eb"));
        assert_eq!(base("http://h").event(&action, None).query(), None);
    }

    #[test]
    fn only_http_and_https_addresses_are_taken() {
        for bad in
            ["", "127.0.0.1:5000", "localhost:5000", "/event", "ftp://h", "file:///x", "http://", "http://h:99999"]
        {
            assert!(bad.parse::<BaseUrl>().is_err(), "{bad:?}");
        }
        assert_eq!("ws://h".parse::<BaseUrl>(), Err(InvalidUrl::Scheme("ws".to_owned())));
        for bad in ["http://h?channel=a", "http://h#a"] {
            assert_eq!(bad.parse::<BaseUrl>(), Err(InvalidUrl::Extra));
        }
    }

    #[test]
    fn messages_show_no_password() {
        assert_eq!(base("https://me:secret@h/a/").to_string(), "https://h/a");
    }

    #[test]
    fn loopback_is_known_by_name_and_by_address() {
        for url in
            ["http://localhost", "http://a.localhost", "http://127.1.2.3", "http://[::1]", "http://[::ffff:127.0.0.1]"]
        {
            assert!(base(url).is_loopback(), "{url}");
        }
        for url in ["http://localhost.example", "http://10.0.0.1", "http://[::2]"] {
            assert!(!base(url).is_loopback(), "{url}");
        }
    }
}
