//! Names of the keys that the server keeps in a Redis.
//!
//! | key, for example | type | contents |
//! |---|---|---|
//! | `sse:{orders}` | stream | the events of channel `orders`; also its pub/sub channel |
//! | `sse:{orders}:gaps` | stream | index of its gap records: their ids, with the field `after` |
//! | `sse:{orders}:trimmed` | string | the newest event trimmed by age, and the event after it |
//! | `sse:{orders}:keys` | hash | its idempotency keys; `expire_keys.lua` defines the values |
//! | `sse:{orders}:expiries` | sorted set | the same keys by the time at which they expire |
//! | `sse:{orders}:life` | hash | its incarnation, settings and end; `life.lua` defines the fields |
//! | `sse:{orders}:deleted` | sorted set | its tombstone |
//! | `sse:{orders}:flask` | hash | the lease and the cursor of its bridge to Flask-SSE |
//! | `sse:{orders}:flask:appended` | hash | the messages of Flask-SSE that are in the log; `flask_append.lua` |
//! | `sse:{orders}:flask:markers` | sorted set | the fields of that hash by time; also a pub/sub channel |
//! | `sse:channels:{17}` | sorted set | the registry of a slot: its channels, with the score 0 |
//! | `sse:due:{17}` | sorted set | the channels of a slot by the time of their next maintenance |
//! | `sse:tombstones:{17}` | sorted set | the deleted channels of a slot by the time of their deletion |
//! | `sse:names` | sorted set | all channels by name, for lists and for their number |
//! | `sse:lease:{17}` | string | the node that maintains a partition at present |
//! | `sse:hints:{17}` | set | slots of a partition with a channel that is due soon |
//! | `sse:rules:{17}` | string | the configuration by which a partition was indexed |
//! | `sse:format` | string | the number of this format, see `format` |
//! | `sse:revocations` | hash | revoked credentials, each with the time until which it is stored |
//! | `sse:nodes` | hash | what each node reports about itself, with the time of the report |
//! | `sse:check` | string | written by health checks; lives for a second |
//!
//! `17` is the tag of a slot, see `slots`. A partition uses the tag of its first slot.
//!
//! `sse:` is the prefix, a setting. The braces around a channel are a hash tag: in a Redis Cluster,
//! all keys of a channel lie in the same slot. A prefix cannot contain braces, so it cannot move
//! the hash tag.
//!
//! In a Redis Cluster, the registry of a slot takes the place of `names`, and `check` exists once per
//! slot, as `sse:check:{17}`. A script that changes a channel and its registry names keys of one slot.

use sse_proto::Channel;

use super::slots::{Slot, Slots};

/// Longest prefix in bytes.
const PREFIX_BYTES_MAX: usize = 64;

/// Parses the prefix of all key names. No name with one prefix is a name with another prefix.
///
/// # Errors
///
/// The text of the error lists the characters that are allowed. A brace is rejected, because it
/// would change the hash tag by which a Redis Cluster places a key.
pub fn parse_prefix(text: &str) -> Result<String, String> {
    if text.len() > PREFIX_BYTES_MAX || !text.bytes().all(is_allowed) {
        return Err(format!(
            "a prefix is up to {PREFIX_BYTES_MAX} of the characters A-Z a-z 0-9 . _ : ~ -"
        ));
    }
    Ok(text.to_owned())
}

fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._:~-".contains(&byte)
}

/// Builds the names of keys with one prefix.
#[derive(Debug, Clone)]
pub(super) struct Names {
    prefix: String,
    slots: Slots,
}

impl Names {
    /// `prefix` must come from [`parse_prefix`].
    pub(super) fn new(prefix: &str, slots: Slots) -> Self {
        Self {
            prefix: prefix.to_owned(),
            slots,
        }
    }

    /// How keys are divided into slots.
    pub(super) const fn slots(&self) -> Slots {
        self.slots
    }

    /// The slot by which the primary of `channel` is found.
    pub(super) fn slot(&self, channel: &Channel) -> Slot {
        self.slots.of_channel(channel)
    }

    /// The command that notifies the followers of a channel.
    pub(super) const fn publish_command(&self) -> &'static str {
        match self.slots {
            Slots::One => "PUBLISH",
            Slots::Cluster => "SPUBLISH",
        }
    }

    /// The stream of a channel, and also its pub/sub channel.
    pub(super) fn stream(&self, channel: &Channel) -> String {
        format!("{}{{{channel}}}", self.prefix)
    }

    /// The channel of a stream; returns `None` if `stream` is any other name.
    pub(super) fn channel(&self, stream: &str) -> Option<Channel> {
        stream
            .strip_prefix(&self.prefix)?
            .strip_prefix('{')?
            .strip_suffix('}')?
            .parse()
            .ok()
    }

    /// The index of a channel's gap records.
    pub(super) fn gaps(&self, channel: &Channel) -> String {
        format!("{}:gaps", self.stream(channel))
    }

    /// Where the stream of a channel was last trimmed by age.
    pub(super) fn trimmed(&self, channel: &Channel) -> String {
        format!("{}:trimmed", self.stream(channel))
    }

    /// The hash of a channel's idempotency keys.
    pub(super) fn keys(&self, channel: &Channel) -> String {
        format!("{}:keys", self.stream(channel))
    }

    /// The sorted set of a channel's idempotency keys, by the time at which they expire.
    pub(super) fn expiries(&self, channel: &Channel) -> String {
        format!("{}:expiries", self.stream(channel))
    }

    /// Both keys that hold a channel's idempotency keys: the hash and the sorted set.
    pub(super) fn idempotency(&self, channel: &Channel) -> [String; 2] {
        [self.keys(channel), self.expiries(channel)]
    }

    /// The lease and the cursor of a channel's bridge to Flask-SSE.
    pub(super) fn flask_state(&self, channel: &Channel) -> String {
        format!("{}:flask", self.stream(channel))
    }

    /// Which messages of Flask-SSE are in a channel's log.
    pub(super) fn flask_appended(&self, channel: &Channel) -> String {
        format!("{}:flask:appended", self.stream(channel))
    }

    /// The markers of a channel's messages of Flask-SSE; also the pub/sub channel of the markers.
    pub(super) fn flask_markers(&self, channel: &Channel) -> String {
        format!("{}:flask:markers", self.stream(channel))
    }

    /// The registry of a slot.
    pub(super) fn channels(&self, slot: Slot) -> String {
        self.of_slot("channels", slot)
    }

    /// The channels of a slot by the time of their next maintenance.
    pub(super) fn due(&self, slot: Slot) -> String {
        self.of_slot("due", slot)
    }

    /// The deleted channels of a slot by the time of their deletion.
    pub(super) fn tombstones(&self, slot: Slot) -> String {
        self.of_slot("tombstones", slot)
    }

    /// The lease of the node that maintains the partition which begins with `slot`.
    pub(super) fn lease(&self, slot: Slot) -> String {
        self.of_slot("lease", slot)
    }

    /// The slots of that partition with a channel that is due soon.
    pub(super) fn hints(&self, slot: Slot) -> String {
        self.of_slot("hints", slot)
    }

    /// The configuration by which that partition was indexed.
    pub(super) fn rules(&self, slot: Slot) -> String {
        self.of_slot("rules", slot)
    }

    fn of_slot(&self, what: &str, slot: Slot) -> String {
        format!("{}{what}:{{{}}}", self.prefix, slot.tag())
    }

    /// The sets in which a channel is registered: the registry, the index of names and the due
    /// channels.
    pub(super) fn registration(&self, channel: &Channel) -> [String; 3] {
        let slot = Slot::of(channel);
        [self.channels(slot), self.index(slot), self.due(slot)]
    }

    /// The registry and other sets of all channels of the formats 1 and 2.
    pub(super) fn of_format_2(&self) -> [String; 4] {
        ["channels", "tombstones", "due", "maintenance"].map(|key| format!("{}{key}", self.prefix))
    }

    /// What is stored about a channel besides its events.
    pub(super) fn life(&self, channel: &Channel) -> String {
        format!("{}:life", self.stream(channel))
    }

    /// The tombstone of a channel.
    pub(super) fn deleted(&self, channel: &Channel) -> String {
        format!("{}:deleted", self.stream(channel))
    }

    /// The keys that hold a channel's state: the stream, the hash and the tombstone.
    pub(super) fn state(&self, channel: &Channel) -> [String; 3] {
        [
            self.stream(channel),
            self.life(channel),
            self.deleted(channel),
        ]
    }

    /// The keys of `delete.lua`.
    pub(super) fn deletion(&self, channel: &Channel) -> [String; 11] {
        let [stream, life, deleted] = self.state(channel);
        let [registry, index, due] = self.registration(channel);
        [
            stream,
            life,
            deleted,
            self.keys(channel),
            self.expiries(channel),
            self.gaps(channel),
            self.trimmed(channel),
            registry,
            index,
            due,
            self.tombstones(Slot::of(channel)),
        ]
    }

    /// The keys of `maintain.lua`, which are those of `delete.lua` in another order.
    pub(super) fn maintenance(&self, channel: &Channel) -> [String; 11] {
        let mut keys = self.deletion(channel);
        keys[..5].rotate_left(3);
        keys
    }

    /// All channels by name. In a Redis Cluster, the registry of `slot` takes its place.
    pub(super) fn index(&self, slot: Slot) -> String {
        match self.slots {
            Slots::One => format!("{}names", self.prefix),
            Slots::Cluster => self.channels(slot),
        }
    }

    /// The number of the format.
    pub(super) fn format(&self) -> String {
        format!("{}format", self.prefix)
    }

    /// The hash of the stored revocations.
    pub(super) fn revocations(&self) -> String {
        format!("{}revocations", self.prefix)
    }

    /// The hash of the reports of the nodes.
    pub(super) fn nodes(&self) -> String {
        format!("{}nodes", self.prefix)
    }

    /// The key that health checks write, in a Redis Cluster that of `slot`.
    pub(super) fn check(&self, slot: Slot) -> String {
        match self.slots {
            Slots::One => format!("{}check", self.prefix),
            Slots::Cluster => self.of_slot("check", slot),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_name_leads_back_to_its_channel() {
        let names = Names::new("sse:", Slots::One);
        let channel: Channel = "orders:eu".parse().unwrap();
        assert_eq!(names.stream(&channel), "sse:{orders:eu}");
        assert_eq!(names.channel("sse:{orders:eu}").as_ref(), Some(&channel));
        for other in [
            names.channels(Slot::of(&channel)),
            names.lease(Slot::new(0)),
            names.revocations(),
            names.nodes(),
            names.gaps(&channel),
            names.trimmed(&channel),
            names.keys(&channel),
            names.expiries(&channel),
            names.life(&channel),
            names.deleted(&channel),
            names.index(Slot::of(&channel)),
            names.flask_state(&channel),
            names.flask_markers(&channel),
        ] {
            assert_eq!(names.channel(&other), None);
        }
        let other = Names::new("sse:other:", Slots::One);
        assert_eq!(names.channel(&other.stream(&channel)), None);
    }

    #[test]
    fn a_channel_and_the_registry_of_its_slot_lie_in_one_slot() {
        let names = Names::new("sse:", Slots::One);
        let channel: Channel = "foo".parse().unwrap();
        let tag = Slot::of(&channel).tag();
        let [registry, index, due] = names.registration(&channel);
        assert_eq!(registry, format!("sse:channels:{{{tag}}}"));
        assert_eq!(
            (index.as_str(), due),
            ("sse:names", format!("sse:due:{{{tag}}}"))
        );
        let keys = names.maintenance(&channel);
        assert_eq!(keys[0], names.keys(&channel));
        assert_eq!(keys[2..5], names.state(&channel));
    }

    #[test]
    fn the_keys_of_one_script_lie_in_one_slot_of_a_cluster() {
        let names = Names::new("sse:", Slots::Cluster);
        let channel: Channel = "orders:eu".parse().unwrap();
        let slot = names.slot(&channel);
        for key in names.deletion(&channel) {
            assert_eq!(Slots::Cluster.of_key(&key), slot, "{key}");
        }
        assert_eq!(Slots::Cluster.of_key(&names.check(slot)), slot);
    }

    #[test]
    fn a_prefix_cannot_move_the_hash_tag() {
        for good in ["", "sse:", "app-1.eu:"] {
            assert_eq!(parse_prefix(good).as_deref(), Ok(good));
        }
        for bad in ["{a}", "a b", "a*", "é", "a\n", &"x".repeat(65)] {
            assert!(parse_prefix(bad).is_err(), "{bad:?}");
        }
    }
}
