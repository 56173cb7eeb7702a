//! The arguments of `scripts/write.lua`.
//!
//! The script looks up keys, checks the state of the channel, appends, records the keys and notifies,
//! in one step. Its header has the table of arguments and replies. The hash and the sorted set of keys have no time to live: a
//! Redis that evicts keys with a time to live when it is full would forget them too early. Appends
//! forget expired keys, and `maintenance` forgets those of channels without appends.
//!
//! Any error of the script is final here, as for every publish. The publisher may send the same
//! items again with their keys.

use redis::Cmd;
use sse_proto::{Channel, Event};

use super::{
    names::Names,
    scripts::{WRITE, milliseconds, random_suffix},
    settings_text::settings_text,
};
use crate::broker::{
    Retention,
    idempotency::{Fingerprint, IdempotencyKey},
    lifecycle::{AfterDelete, Classes, CloseReason, Condition, CreateRule, Write},
    publisher::KeyOwner,
};

/// What a write needs to know besides itself.
pub(super) struct WriteContext<'a> {
    pub(super) names: &'a Names,
    pub(super) channel: &'a Channel,
    pub(super) retention: &'a Retention,
    pub(super) classes: &'a Classes,
    /// Whether it is the first append to the channel in the era of the connection.
    pub(super) is_first: bool,
    /// Whether the caller waits for replicas, and notifies by itself.
    pub(super) waits: bool,
    /// Keys that the client has; `None` if it has no limit of its own.
    pub(super) held_keys: Option<u64>,
    pub(super) owner: KeyOwner,
}

/// The `EVALSHA` of the script with all its arguments.
pub(super) fn write_script(context: &WriteContext<'_>, write: &Write) -> Cmd {
    let WriteContext {
        names,
        channel,
        retention,
        ..
    } = *context;
    let held = context.held_keys;
    let waits = if context.waits { "w" } else { "" };
    let mut script = redis::cmd("EVALSHA");
    script
        .arg(WRITE.of(names).get_hash())
        .arg(8)
        .arg(&names.idempotency(channel))
        .arg(&names.state(channel))
        .arg(&names.registration(channel))
        .arg(retention.keys.window_ms())
        .arg(retention.keys.keys_max)
        .arg(retention.events_max.get())
        .arg(format!("{}{waits}", u8::from(context.is_first)))
        .arg(random_suffix())
        .arg(held.map_or_else(String::new, |held| held.to_string()))
        .arg(format!("{:016x}", context.owner.number()));
    add_life(&mut script, context, write);
    for item in &write.items {
        add_key(&mut script, context.owner, item.idempotency);
        add_events(&mut script, &item.events);
    }
    script
}

fn add_life(script: &mut Cmd, context: &WriteContext<'_>, write: &Write) {
    let (class, create, after_delete) = context.classes.rules_of(context.channel);
    let condition = match write.condition {
        None => String::new(),
        Some(Condition::NoEvent) => "*".to_owned(),
        Some(Condition::Newest(id)) => id.to_string(),
    };
    let incarnation = write.incarnation.map(|incarnation| incarnation.to_string());
    script
        .arg(context.channel.as_str())
        .arg(write.close.as_ref().map_or("", CloseReason::as_str))
        .arg(condition)
        .arg(incarnation.unwrap_or_default())
        .arg(settings_text(write.settings))
        .arg(u8::from(create == CreateRule::Explicit))
        .arg(u8::from(after_delete == AfterDelete::Refuse))
        .arg(settings_text(class))
        .arg(milliseconds(context.retention.age_max));
}

fn add_key(script: &mut Cmd, owner: KeyOwner, idempotency: Option<IdempotencyKey>) {
    if let Some(key) = idempotency {
        add_fingerprints(script, [key.key, key.key.owned_by(owner), key.content]);
    } else {
        script.arg("").arg("").arg("");
    }
}

fn add_fingerprints(script: &mut Cmd, fingerprints: [Fingerprint; 3]) {
    for fingerprint in fingerprints {
        script.arg(fingerprint.number().to_be_bytes().as_slice());
    }
}

fn add_events(script: &mut Cmd, events: &[Event]) {
    script.arg(events.len());
    for event in events {
        add_event(script, event);
    }
}

fn add_event(script: &mut Cmd, event: &Event) {
    script
        .arg(event.kind.as_str())
        .arg(event.data.as_bytes().as_ref());
}
