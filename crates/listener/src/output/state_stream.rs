//! The stream to which the position in a state file belongs. Pure.
//!
//! A position has no meaning in another stream: the server would report it as lost events. URLs are
//! stored without user, password and query, which may be secrets. The parameter `channel` of a
//! query counts as a channel.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};
use sse_proto::Channel;

use crate::settings::target::Target;

/// The URLs of a stream, which are the nodes of one system, and its channels.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateStream {
    /// Files of earlier versions have none.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    urls: BTreeSet<String>,
    /// Without any, the server chooses.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    channels: BTreeSet<String>,
}

impl StateStream {
    /// The stream with these URLs and channels.
    pub(super) fn new(
        urls: impl IntoIterator<Item = String>,
        channels: impl IntoIterator<Item = String>,
    ) -> Self {
        Self {
            urls: urls.into_iter().collect(),
            channels: channels.into_iter().collect(),
        }
    }

    /// The stream of the settings.
    #[must_use]
    pub fn of(target: &Target) -> Self {
        let in_flags = target.channels.iter().map(ToString::to_string);
        let in_urls = target.urls().flat_map(|url| url.query_values("channel"));
        let urls = target.urls().map(ToString::to_string);
        Self::new(urls, in_flags.chain(in_urls))
    }

    /// Returns `false` if a position of this stream has no meaning in `other`.
    ///
    /// One common URL is enough, because nodes can be added and removed. A file of an earlier
    /// version has no URL, and may be of any stream.
    pub(super) fn may_be(&self, other: &Self) -> bool {
        self.urls.is_empty()
            || (!self.urls.is_disjoint(&other.urls)
                && self.effective_channels() == other.effective_channels())
    }

    /// The channels, or that which sse-server chooses.
    fn effective_channels(&self) -> BTreeSet<String> {
        if self.channels.is_empty() {
            BTreeSet::from([Channel::default_channel().to_string()])
        } else {
            self.channels.clone()
        }
    }
}

/// Like `channel orders of http://a/stream and http://b/stream`.
impl fmt::Display for StateStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let join =
            |texts: &BTreeSet<String>| texts.iter().cloned().collect::<Vec<_>>().join(" and ");
        match self.channels.len() {
            0 => {}
            1 => write!(f, "channel {} of ", join(&self.channels))?,
            _ => write!(f, "channels {} of ", join(&self.channels))?,
        }
        f.write_str(&join(&self.urls))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::command_line::follow_settings;

    fn of(arguments: &[&str]) -> StateStream {
        StateStream::of(&follow_settings(arguments).target)
    }

    #[test]
    fn secrets_and_other_settings_are_no_part_of_a_stream() {
        let plain = of(&["--url", "http://h/s", "--channel", "b,a"]);
        let other = of(&[
            "--url",
            "http://me:secret@h/s?channel=a&token=secret&channel=b",
            "--event",
            "click",
        ]);
        assert_eq!(plain, other);
        assert_eq!(plain.to_string(), "channels a and b of http://h/s");
    }

    #[test]
    fn the_default_channel_of_sse_server_is_the_same_with_and_without_its_name() {
        let (named, unnamed) = (of(&["--channel", "sse"]), of(&[]));
        assert!(named.may_be(&unnamed) && unnamed.may_be(&named));
        assert!(!unnamed.may_be(&of(&["--channel", "orders"])));
        assert!(StateStream::default().may_be(&named));
    }
}
