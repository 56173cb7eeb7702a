//! What a caller may do.

use std::{fmt, sync::Arc};

use sse_proto::Channel;

use super::Pattern;

/// A right for the channels that a pattern matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Right {
    /// Publish events.
    Publish,
    /// Open streams and read history.
    Subscribe,
    /// Create, configure, close and delete channels.
    Manage,
}

/// A right for the whole server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServerRight {
    /// Read metrics, lists and settings.
    Observe,
    /// Everything of `Observe`, and actions such as closing streams.
    Admin,
}

impl Right {
    /// Every right, in the order of the documentation.
    pub const ALL: [Self; 3] = [Self::Publish, Self::Subscribe, Self::Manage];

    /// Returns the word for the right in the configuration, in claims and in responses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
            Self::Manage => "manage",
        }
    }
}

impl ServerRight {
    /// Returns the word for the right in the configuration, in claims and in responses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for ServerRight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a caller may do. The default is nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights {
    pub(crate) publish: Vec<Pattern>,
    pub(crate) subscribe: Vec<Pattern>,
    pub(crate) manage: Vec<Pattern>,
    pub(crate) observe: bool,
    /// Includes `observe`.
    pub(crate) admin: bool,
    /// A ticket grants nothing that its creator may not do.
    pub(crate) within: Option<Arc<Rights>>,
}

impl Rights {
    /// Returns the rights to do everything.
    #[must_use]
    pub fn everything() -> Self {
        let every = vec![Pattern::every_channel()];
        Self {
            publish: every.clone(),
            subscribe: every.clone(),
            manage: every,
            observe: true,
            admin: true,
            within: None,
        }
    }

    /// Returns whether the caller has `right` for `channel`.
    #[must_use]
    pub fn permits(&self, right: Right, channel: &Channel) -> bool {
        self.patterns(right)
            .iter()
            .any(|pattern| pattern.matches(channel))
            && self
                .within
                .as_ref()
                .is_none_or(|within| within.permits(right, channel))
    }

    /// Returns whether the caller has `right` for the server.
    #[must_use]
    pub fn permits_server(&self, right: ServerRight) -> bool {
        let granted = match right {
            ServerRight::Observe => self.observe || self.admin,
            ServerRight::Admin => self.admin,
        };
        granted
            && self
                .within
                .as_ref()
                .is_none_or(|within| within.permits_server(right))
    }

    /// Returns the patterns for which `right` is granted.
    #[must_use]
    pub fn patterns(&self, right: Right) -> &[Pattern] {
        match right {
            Right::Publish => &self.publish,
            Right::Subscribe => &self.subscribe,
            Right::Manage => &self.manage,
        }
    }

    /// Returns the number of patterns, also of those within which the rights are.
    pub(super) fn count_patterns(&self) -> usize {
        let own = Right::ALL.map(|right| self.patterns(right).len());
        let within = self.within.as_deref().map_or(0, Self::count_patterns);
        own.iter().sum::<usize>() + within
    }

    /// Returns these rights and those of `other`. Neither is limited by those of a creator.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.publish.extend(other.publish);
        self.subscribe.extend(other.subscribe);
        self.manage.extend(other.manage);
        self.observe |= other.observe;
        self.admin |= other.admin;
        self
    }

    /// Returns whether the caller has `right` for whatever `pattern` matches.
    #[must_use]
    pub fn covers(&self, right: Right, pattern: &Pattern) -> bool {
        self.patterns(right).iter().any(|own| own.covers(pattern))
            && self
                .within
                .as_ref()
                .is_none_or(|within| within.covers(right, pattern))
    }

    /// Returns whether the rights grant nothing at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let no_channel = Right::ALL
            .iter()
            .all(|right| self.patterns(*right).is_empty());
        no_channel && !self.observe && !self.admin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_right_is_for_its_patterns_only() {
        let rights = Rights {
            subscribe: patterns(&["a.*", "b"]),
            ..Rights::default()
        };
        for (right, channel, expected) in [
            (Right::Subscribe, "a.1", true),
            (Right::Subscribe, "b", true),
            (Right::Subscribe, "b.1", false),
            (Right::Publish, "a.1", false),
            (Right::Manage, "a.1", false),
        ] {
            assert_eq!(
                rights.permits(right, &channel.parse().unwrap()),
                expected,
                "{right} {channel}"
            );
        }
        assert!(!rights.permits_server(ServerRight::Observe) && !rights.is_empty());
        assert!(Rights::default().is_empty());
    }

    #[test]
    fn an_administrator_may_observe() {
        let admin = Rights {
            admin: true,
            ..Rights::default()
        };
        let observer = Rights {
            observe: true,
            ..Rights::default()
        };
        assert!(
            admin.permits_server(ServerRight::Observe) && admin.permits_server(ServerRight::Admin)
        );
        assert!(observer.permits_server(ServerRight::Observe));
        assert!(!observer.permits_server(ServerRight::Admin));
        assert!(Rights::everything().permits(Right::Manage, &Channel::default_channel()));
    }

    #[test]
    fn rights_within_others_are_what_both_grant() {
        let within = Rights {
            subscribe: patterns(&["a.*"]),
            ..Rights::default()
        };
        let rights = Rights {
            within: Some(Arc::new(within)),
            ..Rights::everything()
        };
        let permits = |channel: &str| rights.permits(Right::Subscribe, &channel.parse().unwrap());
        assert!(permits("a.1") && !permits("b"));
        assert!(!rights.permits(Right::Publish, &"a.1".parse().unwrap()));
        assert!(!rights.permits_server(ServerRight::Observe));
    }
}
