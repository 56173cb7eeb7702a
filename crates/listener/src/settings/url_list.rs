//! The value of `--url`: one URL, or several that are separated by spaces, as in the variable.

use super::stream_url::{InvalidUrl, StreamUrl};

/// At least one URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlList(Vec<StreamUrl>);

impl UrlList {
    /// Parses the value of the flag or of the variable.
    ///
    /// # Errors
    ///
    /// A part is no URL. If the part after a space has no scheme, the space belongs to the URL
    /// before it, which must encode it.
    pub fn parse(text: &str) -> Result<Self, InvalidUrl> {
        let mut urls: Vec<StreamUrl> = Vec::new();
        for part in text.split(' ').filter(|part| !part.is_empty()) {
            match part.parse() {
                Ok(url) => urls.push(url),
                Err(InvalidUrl::Scheme) if !urls.is_empty() => return Err(InvalidUrl::Space),
                Err(error) => return Err(error),
            }
        }
        if urls.is_empty() {
            return Err(InvalidUrl::Scheme);
        }
        Ok(Self(urls))
    }

    pub(super) fn urls(&self) -> &[StreamUrl] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_separated_by_spaces() {
        let list = UrlList::parse(" http://a  https://b/c ").unwrap();
        let urls: Vec<_> = list.urls().iter().map(ToString::to_string).collect();
        assert_eq!(urls, ["http://a/stream", "https://b/c"]);
    }

    #[test]
    fn a_space_within_a_url_must_be_encoded() {
        for bad in [
            "http://h/s?channel=a b",
            "http://a http://b/c d",
            "http://h/s?a=b c:d",
        ] {
            assert_eq!(UrlList::parse(bad), Err(InvalidUrl::Space), "{bad}");
        }
        assert!(InvalidUrl::Space.to_string().contains("%20"));
        for bad in ["", " ", "h/s?channel=a b", "127.0.0.1:5000"] {
            assert_eq!(UrlList::parse(bad), Err(InvalidUrl::Scheme), "{bad}");
        }
    }
}
