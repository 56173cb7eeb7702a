//! Writes to channels.
//!
//! An entry of a stream has the fields `event` and `data`. A write takes one of these paths:
//!
//! ```text
//! the first append to a channel in an era  ─► register, then write.lua
//! keys, a condition, an end, or 10 s later ─► write.lua
//! any other append                         ─► one pipeline of XADD and a notification
//! ```
//!
//! Redis itself rejects an `XADD` to a channel that was closed (its last id is the highest possible
//! one) or deleted (`NOMKSTREAM`), and then the script decides.
//!
//! The first append needs the script, because Redis may have lost events since the previous era and
//! the script ensures that no lost id is assigned again.

use std::time::Duration;

use redis::{Cmd, Script, Value};
use sse_proto::{Channel, Event, EventId};

use super::{
    idempotency::{WriteContext, write_script},
    registry::Appended,
    replicated::Append,
    replies::{check_rejection, parse_added_id},
    scripts::WRITE,
    session::{Retries, Session},
    slots::Slot,
    streams::Streams,
    write_reply::{ScriptWritten, parse_write_reply},
};
use crate::broker::{
    self, BrokerError, Publisher,
    client_shares::NewKeys,
    clock::now_ms,
    idempotency::{AppendItem, AppendOutcome, count_keys, count_stored_keys},
    lifecycle::{ChannelSettings, Incarnation, Write, Written},
};

impl Streams {
    /// Carries out a write.
    pub(super) async fn write(
        &self,
        publisher: Publisher,
        channel: &Channel,
        write: &Write,
    ) -> Result<Written, BrokerError> {
        let mut attempts = self.shards.attempts(channel);
        loop {
            let session = &mut attempts.session().await?;
            let written = self.write_in(session, publisher, channel, write).await;
            if !attempts.must_repeat(session) {
                return written;
            }
        }
    }

    async fn write_in(
        &self,
        session: &mut Session<'_>,
        publisher: Publisher,
        channel: &Channel,
        write: &Write,
    ) -> Result<Written, BrokerError> {
        let is_plain = write.is_plain() && count_keys(&write.items) == 0;
        let known = self.registry.appended(channel, session.era());
        let Some(known) = known.filter(|_| is_plain) else {
            return self
                .write_by_script(publisher, channel, write, session)
                .await;
        };
        if !self.registry.is_recent(&known) {
            // While the slot of the channel is about to move, a script cannot run if a part of its
            // keys has moved. Appends of one key can.
            session.retries = Retries::Never;
            let written = self.write_by_script(publisher, channel, write, session);
            let written = written.await;
            let gave_up = session.retries == Retries::GaveUp;
            session.retries = Retries::UntilDeadline;
            if !gave_up {
                return written;
            }
        }
        if let Some(written) = self.append_plain(channel, known, write, session).await? {
            return Ok(written);
        }
        // The channel was closed or deleted meanwhile, and nothing was stored.
        self.registry.forget_append(channel);
        self.write_by_script(publisher, channel, write, session)
            .await
    }

    /// Appends without a script. Returns `None` if Redis rejects the events because there is no
    /// stream, or one that has ended.
    async fn append_plain(
        &self,
        channel: &Channel,
        known: Appended,
        write: &Write,
        session: &mut Session<'_>,
    ) -> Result<Option<Written>, BrokerError> {
        let events: Vec<&Event> = write.items.iter().flat_map(|item| &item.events).collect();
        let append = Append {
            stream: self.names.stream(channel),
            commands: events
                .iter()
                .map(|event| self.append_command(channel, known, event))
                .collect(),
            is_atomic: events.len() > 1,
        };
        let replies = if session.waits_for_replicas() {
            session.append_replicated(append).await?
        } else {
            let notification = self.notification(channel);
            session.append(append, notification).await?
        };
        if replies.first().is_some_and(is_refused) {
            return Ok(None);
        }
        let ids: Result<Vec<_>, _> = replies.into_iter().map(parse_added_id).collect();
        let ids = ids?;
        if let Some(last) = ids.last() {
            self.losses.observe(channel, *last, session.era());
        }
        Ok(Some(plain_result(&write.items, &ids, known)))
    }

    fn notification(&self, channel: &Channel) -> Cmd {
        let mut command = redis::cmd(self.names.publish_command());
        command.arg(self.names.stream(channel)).arg("");
        command
    }

    fn append_command(&self, channel: &Channel, known: Appended, event: &Event) -> Cmd {
        let mut command = redis::cmd("XADD");
        command
            .arg(self.names.stream(channel))
            .arg("NOMKSTREAM")
            .arg("MAXLEN")
            .arg(if known.is_exact { "=" } else { "~" })
            .arg(known.events_max)
            .arg("*")
            .arg("event")
            .arg(event.kind.as_str())
            .arg("data")
            .arg(event.data.as_bytes().as_ref());
        command
    }

    async fn write_by_script(
        &self,
        publisher: Publisher,
        channel: &Channel,
        write: &Write,
        session: &mut Session<'_>,
    ) -> Result<Written, BrokerError> {
        let is_first = self.prepare_append(publisher, channel, session).await?;
        let items = &write.items;
        let claim = self.shares.claim_keys(NewKeys {
            publisher,
            channel,
            count: count_keys(items),
            log_ms: now_ms(),
        });
        let context = WriteContext {
            names: &self.names,
            channel,
            retention: &self.retention,
            classes: &self.classes,
            is_first,
            waits: session.waits_for_replicas(),
            held_keys: claim.held_before(),
            owner: publisher.key_owner(items),
        };
        let script = write_script(&context, write);
        let script = (script, WRITE.of(&self.names));
        let reply = self.run_write(channel, script, session).await?;
        let keys_max = self.retention.keys.keys_max;
        let result = parse_write_reply(reply, items.len(), keys_max, || claim.too_many_keys())?;
        claim.keep(count_stored_keys(items, &result.written.outcomes));
        self.record_written(channel, &result, session.era());
        Ok(result.written)
    }

    /// Runs the `EVALSHA` of a script that changes a channel, and waits for replicas if appends do.
    pub(super) async fn run_write(
        &self,
        channel: &Channel,
        (command, script): (Cmd, &Script),
        session: &mut Session<'_>,
    ) -> Result<Value, BrokerError> {
        if !session.waits_for_replicas() {
            return Ok(session.run_command(command, script).await?);
        }
        let append = Append {
            stream: self.names.stream(channel),
            commands: vec![command],
            is_atomic: false,
        };
        let replies = session.append_replicated(append).await?;
        check_rejection(replies.into_iter().next().unwrap_or(Value::Nil))
    }

    /// Registers `channel` before this node's first append in an era; returns whether it is that one.
    pub(super) async fn prepare_append(
        &self,
        publisher: Publisher,
        channel: &Channel,
        session: &mut Session<'_>,
    ) -> Result<bool, BrokerError> {
        let is_first = !self.registry.has_appended(channel, session.era());
        if is_first {
            let by = (publisher, &self.shares);
            self.registry.register(by, channel, session).await?;
        }
        Ok(is_first)
    }

    /// Records that a script in `era` has appended events up to `last` to `channel`, whose
    /// incarnation and settings it has read.
    pub(super) fn record_append(
        &self,
        channel: &Channel,
        last: EventId,
        life: (Incarnation, ChannelSettings),
        era: u64,
    ) {
        self.losses.observe(channel, last, era);
        self.record_known(channel, life, era);
        self.hint_due(channel, life.1, false);
    }

    /// Records what is known of a channel after an append.
    fn record_known(
        &self,
        channel: &Channel,
        (incarnation, settings): (Incarnation, ChannelSettings),
        era: u64,
    ) {
        let effective = self.classes.effective(channel, settings, &self.retention);
        let known = Appended::new(incarnation, &effective);
        self.registry.record_append(channel, known, era);
    }

    /// Hints at when a channel with these settings is due after a write.
    fn hint_due(&self, channel: &Channel, settings: ChannelSettings, is_closed: bool) {
        let effective = self.classes.effective(channel, settings, &self.retention);
        let ttl = effective.due_ms(is_closed, 0).map(Duration::from_millis);
        let age = effective.settings.history_age_ms;
        let pause = age.map(|age| Duration::from_millis(age / 4));
        if let Some(delay) = ttl.into_iter().chain(pause).min() {
            self.hints.add(Slot::of(channel), delay);
        }
    }

    /// Records what a write by the script in `era` shows about `channel`.
    fn record_written(&self, channel: &Channel, result: &ScriptWritten, era: u64) {
        let written = &result.written;
        let newest = written
            .outcomes
            .iter()
            .map(|outcome| outcome.ids.last)
            .max();
        if let Some(last) = newest.max(written.end) {
            self.losses.observe(channel, last, era);
        }
        self.hint_due(channel, result.settings, written.end.is_some());
        if written.end.is_some() {
            self.registry.forget_append(channel);
        } else if written.outcomes.iter().any(|outcome| !outcome.duplicate) {
            let life = (written.incarnation, result.settings);
            self.record_known(channel, life, era);
        }
    }
}

/// The outcomes of items that were appended without a script.
fn plain_result(items: &[AppendItem], ids: &[EventId], known: Appended) -> Written {
    let mut rest = ids;
    let outcome = |item: &AppendItem| {
        let (own, others) = rest.split_at_checked(item.events.len())?;
        rest = others;
        Some(AppendOutcome::new(broker::Appended {
            first: *own.first()?,
            last: *own.last()?,
        }))
    };
    Written {
        outcomes: items.iter().filter_map(outcome).collect(),
        end: None,
        newest: ids.last().copied().unwrap_or_default(),
        incarnation: known.incarnation,
    }
}

/// Whether Redis has refused an `XADD`, because there is no stream, or one that has ended.
fn is_refused(reply: &Value) -> bool {
    match reply {
        Value::Nil => true,
        Value::ServerError(error) => error
            .details()
            .is_some_and(|details| details.contains("exhausted the last possible ID")),
        _ => false,
    }
}
