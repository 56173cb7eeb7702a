//! The origins that an operator names: one, all, `null`, or the subdomains of one.
//!
//! | written | matches |
//! |---|---|
//! | `https://app.example` | this origin |
//! | `capacitor://localhost` | this origin, of pages in an app or in an extension |
//! | `https://*.example.org` | one or more labels before the domain, same scheme and port |
//! | `null` | sandboxed pages of any site, and local files |
//! | `*` | every origin |

use std::str::FromStr;

use url::Url;

const FORMS: &str = "write an origin like https://app.example, https://*.app.example or \
                     capacitor://localhost, or null, or *";

const CANONICAL: &str = "an origin is written as browsers send it, without a path and a default \
                         port, the host in lower case and with xn-- for letters that are not ASCII";

/// An origin, or a set of origins, as an operator names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OriginPattern {
    /// Every origin.
    Any,
    /// The origin that browsers send for a page without an origin of its own.
    Null,
    /// One origin, as browsers send it.
    Exact(String),
    /// All hosts below the host of this URL.
    Subdomains(Url),
}

impl FromStr for OriginPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "*" => Ok(Self::Any),
            "null" => Ok(Self::Null),
            _ => match text.split_once("://*.") {
                Some((scheme, domain)) => parse_subdomains(scheme, domain),
                None => parse_exact(text),
            },
        }
    }
}

fn parse_exact(text: &str) -> Result<OriginPattern, String> {
    let origin = origin_of_url(text).ok_or(FORMS)?;
    if origin != text {
        return Err(format!("{CANONICAL}: write {origin}"));
    }
    Ok(OriginPattern::Exact(origin))
}

fn parse_subdomains(scheme: &str, domain: &str) -> Result<OriginPattern, String> {
    let base = format!("{scheme}://{domain}");
    let origin = web_origin(&base).ok_or(FORMS)?;
    if origin != base {
        let pattern = origin.replacen("://", "://*.", 1);
        return Err(format!("{CANONICAL}: write {pattern}"));
    }
    match Url::parse(&base) {
        Ok(url) if url.domain().is_some() => Ok(OriginPattern::Subdomains(url)),
        _ => Err("an address has no subdomains: write a name, like https://*.app.example".into()),
    }
}

/// Returns the origin of a URL as browsers send it, or `None` if pages of the URL have none.
fn origin_of_url(text: &str) -> Option<String> {
    web_origin(text).or_else(|| app_origin(text))
}

/// Returns the origin of an `http` or `https` URL.
fn web_origin(text: &str) -> Option<String> {
    let url = parse_without_star(text)?;
    matches!(url.scheme(), "http" | "https").then(|| url.origin().ascii_serialization())
}

/// Returns the origin of a page in an app or in an extension of a browser.
fn app_origin(text: &str) -> Option<String> {
    let url = parse_without_star(text)?;
    let host = url.host_str().filter(|host| !host.is_empty())?;
    if matches!(url.scheme(), "file" | "ftp" | "ws" | "wss") {
        return None;
    }
    let port = url.port().map(|port| format!(":{port}"));
    Some(format!(
        "{}://{host}{}",
        url.scheme(),
        port.unwrap_or_default()
    ))
}

/// Parses a URL. A star in a host would be valid there, but no browser sends it.
fn parse_without_star(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok();
    url.filter(|_| !text.contains('*'))
}

impl OriginPattern {
    fn matches(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Null => origin == "null",
            Self::Exact(named) => named == origin,
            Self::Subdomains(base) => is_below(base, origin),
        }
    }
}

/// Whether `origin` has the scheme and port of `base`, and a host below its host.
fn is_below(base: &Url, origin: &str) -> bool {
    Url::parse(origin).is_ok_and(|url| {
        url.origin().ascii_serialization() == origin
            && url.scheme() == base.scheme()
            && url.port_or_known_default() == base.port_or_known_default()
            && has_labels_before(&url, base.domain().unwrap_or_default())
    })
}

fn has_labels_before(url: &Url, domain: &str) -> bool {
    let host = url.domain().unwrap_or_default();
    host.strip_suffix(domain)
        .and_then(|labels| labels.strip_suffix('.'))
        .is_some_and(|labels| labels.split('.').all(|label| !label.is_empty()))
}

/// The origins that one flag names.
#[derive(Debug, Clone, Default)]
pub(super) struct OriginList(Vec<OriginPattern>);

impl OriginList {
    pub(super) fn new(named: &[OriginPattern]) -> Self {
        Self(named.to_vec())
    }

    pub(super) fn contains(&self, origin: &str) -> bool {
        self.0.iter().any(|pattern| pattern.matches(origin))
    }

    /// Whether a pattern other than `*` and `null` matches.
    pub(super) fn names(&self, origin: &str) -> bool {
        let named = self.0.iter();
        let mut named =
            named.filter(|pattern| !matches!(pattern, OriginPattern::Any | OriginPattern::Null));
        named.any(|pattern| pattern.matches(origin))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every origin is in the list.
    pub(super) fn is_everything(&self) -> bool {
        self.0.contains(&OriginPattern::Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, origin: &str) -> bool {
        pattern.parse::<OriginPattern>().unwrap().matches(origin)
    }

    #[test]
    fn an_origin_is_compared_as_a_whole() {
        for origin in [
            "https://app.example",
            "http://localhost:3000",
            "http://[::1]:8080",
            "capacitor://localhost",
            "tauri://localhost",
            "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
            "null",
        ] {
            assert!(matches(origin, origin), "{origin}");
            assert!(matches("*", origin), "{origin}");
            for other in [
                format!("{origin}.evil.example"),
                format!("{origin}/"),
                format!("x{origin}"),
                origin.to_uppercase(),
            ] {
                assert!(!matches(origin, &other), "{origin} {other}");
            }
        }
    }

    #[test]
    fn a_star_before_a_domain_is_one_or_more_labels() {
        let pattern = "https://*.example.org";
        for origin in ["https://a.example.org", "https://a.b-c.example.org"] {
            assert!(matches(pattern, origin), "{origin}");
        }
        for origin in [
            "https://example.org",
            "https://.example.org",
            "https://a..example.org",
            "https://aexample.org",
            "http://a.example.org",
            "https://a.example.org:8443",
            "https://a.example.org/",
            "https://x@a.example.org",
            "https://a.example.org.evil.example",
            "https://evil.example#.example.org",
            "https://evil.example/.example.org",
            "null",
            "",
        ] {
            assert!(!matches(pattern, origin), "{origin}");
        }
        assert!(matches(
            "http://*.localhost:3000",
            "http://app.localhost:3000"
        ));
        assert!(!matches("http://*.localhost:3000", "http://app.localhost"));
    }

    #[test]
    fn text_that_no_browser_sends_is_rejected_with_what_to_write() {
        for (text, hint) in [
            ("app.example", "https://app.example"),
            ("localhost:3000", "https://app.example"),
            ("https://app.example/", "write https://app.example"),
            ("https://A.example", "the host in lower case"),
            ("https://*.A.example", "the host in lower case"),
            (
                "https://ä.example",
                "xn-- for letters that are not ASCII: write https://xn--4ca.example",
            ),
            ("HTTPS://app.example", "write https://app.example"),
            ("https://app.example:443", "write https://app.example"),
            ("https://*.app.example/x", "write https://*.app.example"),
            ("capacitor://localhost/", "write capacitor://localhost"),
            ("https://a*.example", "https://*.app.example"),
            ("https://*.*.example", "https://*.app.example"),
            ("capacitor://*.localhost", "capacitor://localhost"),
            ("https://*.1.2.3.4", "a name"),
            ("file:///index.html", "null"),
            ("wss://app.example", "https://app.example"),
            ("", "https://app.example"),
        ] {
            let error = text.parse::<OriginPattern>().unwrap_err();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }
}
