//! Classes: the settings of channels by their names, from the tables `[[channel]]` of the
//! configuration file.
//!
//! The first class whose pattern matches a channel applies to it. The flags form the last class,
//! which matches every channel.

use std::sync::{
    Arc, PoisonError, RwLock, RwLockReadGuard,
    atomic::{AtomicU64, Ordering},
};

use sse_proto::{Channel, Pattern};

use super::{ChannelSettings, SettingSource};
use crate::broker::Retention;

/// How a channel comes into being.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum CreateRule {
    /// By the first write.
    #[default]
    Publish,
    /// Only by `PUT /channels/{name}`.
    Explicit,
}

/// What a publish to a deleted channel does while its tombstone is kept.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum AfterDelete {
    /// It creates the next incarnation.
    #[default]
    Create,
    /// It is rejected.
    Refuse,
}

/// A class of channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelClass {
    /// Which channels belong to it.
    pub pattern: Pattern,
    /// What applies to a channel that does not set it.
    pub defaults: ChannelSettings,
    /// What a channel may set at most.
    pub maxima: ChannelSettings,
    /// How its channels come into being.
    pub create: CreateRule,
    /// What a publish to one of its deleted channels does.
    pub after_delete: AfterDelete,
    /// Whether `close=`, `ttl=` and other settings on a publish need the right to manage.
    pub manage_to_close: bool,
    /// Headers of the responses of `GET /stream` for one of its channels, by name and value.
    pub headers: Vec<(String, String)>,
}

impl ChannelClass {
    /// A class of the channels that match `pattern`, in which nothing is set.
    #[must_use]
    pub const fn new(pattern: Pattern) -> Self {
        Self {
            pattern,
            defaults: ChannelSettings::NONE,
            maxima: ChannelSettings::NONE,
            create: CreateRule::Publish,
            after_delete: AfterDelete::Create,
            manage_to_close: false,
            headers: Vec::new(),
        }
    }
}

/// All classes, in their order. Clones share them, and a reload replaces them for all.
#[derive(Debug, Default, Clone)]
pub struct Classes(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    classes: RwLock<Arc<[ChannelClass]>>,
    /// How often the classes were replaced.
    version: AtomicU64,
}

impl Classes {
    /// Replaces all classes.
    pub fn replace(&self, classes: Vec<ChannelClass>) {
        *self
            .0
            .classes
            .write()
            .unwrap_or_else(PoisonError::into_inner) = classes.into();
        self.0.version.fetch_add(1, Ordering::Release);
    }

    /// Returns how often the classes were replaced.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.0.version.load(Ordering::Acquire)
    }

    fn read(&self) -> RwLockReadGuard<'_, Arc<[ChannelClass]>> {
        self.0
            .classes
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns all classes as of now.
    #[must_use]
    pub fn all(&self) -> Arc<[ChannelClass]> {
        self.read().clone()
    }

    /// Returns the class of a channel; `None` if only the flags apply.
    #[must_use]
    pub fn class_of(&self, channel: &Channel) -> Option<ChannelClass> {
        let classes = self.all();
        classes
            .iter()
            .find(|class| class.pattern.matches(channel))
            .cloned()
    }

    /// Returns what the class of a channel sets, and its rules.
    #[must_use]
    pub(in crate::broker) fn rules_of(
        &self,
        channel: &Channel,
    ) -> (ChannelSettings, CreateRule, AfterDelete) {
        let classes = self.read();
        let class = classes.iter().find(|class| class.pattern.matches(channel));
        class.map_or_else(Default::default, |class| {
            (class.defaults, class.create, class.after_delete)
        })
    }

    /// Returns what applies to a channel with these settings.
    #[must_use]
    pub fn effective(
        &self,
        channel: &Channel,
        own: ChannelSettings,
        retention: &Retention,
    ) -> Effective {
        let (class, ..) = self.rules_of(channel);
        Effective::new(own, class, retention)
    }
}

/// What applies to a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effective {
    /// The values. `history_events` and `history_age_ms` are always set.
    pub settings: ChannelSettings,
    /// Where each value comes from, in the order of [`ChannelSettings::to_array`].
    pub sources: [SettingSource; 5],
}

impl Effective {
    /// Combines what a channel sets, what its class sets, and the flags.
    #[must_use]
    pub fn new(own: ChannelSettings, class: ChannelSettings, retention: &Retention) -> Self {
        let flags = ChannelSettings {
            history_events: Some(retention.events_max.get() as u64),
            history_age_ms: Some(u64::try_from(retention.age_max.as_millis()).unwrap_or(u64::MAX)),
            ..ChannelSettings::NONE
        };
        let (own_values, class_values) = (own.to_array(), class.to_array());
        Self {
            settings: own.or(class).or(flags),
            sources: std::array::from_fn(|nth| match (own_values[nth], class_values[nth]) {
                (Some(_), _) => SettingSource::Channel,
                (None, Some(_)) => SettingSource::Class,
                (None, None) => SettingSource::Flags,
            }),
        }
    }

    /// Events that the channel keeps.
    #[must_use]
    pub fn events_max(&self) -> u64 {
        self.settings.history_events.unwrap_or(u64::MAX)
    }

    /// Returns the millisecond before which an event is too old.
    #[must_use]
    pub fn cutoff_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.settings.history_age_ms.unwrap_or(u64::MAX))
    }

    /// Returns from when on an event of the time `ms` is too old; `None` if it never is.
    #[must_use]
    pub fn too_old_from_ms(&self, ms: u64) -> Option<u64> {
        let age_ms = self.settings.history_age_ms;
        age_ms.map(|age_ms| ms.saturating_add(age_ms).saturating_add(1))
    }

    /// Returns when the channel is due; `None` if it never is. `written_ms` is the time of the last
    /// write, or of the end of a closed channel.
    #[must_use]
    pub fn due_ms(&self, is_closed: bool, written_ms: u64) -> Option<u64> {
        let ttl_ms = if is_closed {
            self.settings.ttl_closed_ms
        } else {
            self.settings.ttl_ms
        };
        ttl_ms.map(|ttl_ms| written_ms.saturating_add(ttl_ms))
    }
}
