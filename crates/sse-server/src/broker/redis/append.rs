//! Appends to a channel.
//!
//! An entry has the fields `event` and `data`. An append takes one of these paths:
//!
//! ```text
//! the first append to a channel in an era ─► register, then append_idempotent.lua
//! an append with an idempotency key       ─► append_idempotent.lua
//! any other append                        ─► one pipeline of XADD and PUBLISH
//! ```
//!
//! The first append needs the script, because Redis may have lost events since the previous era and
//! the script ensures that no lost id is assigned again.

use redis::{Cmd, Pipeline, Value};
use sse_proto::{Channel, Event, EventId};

use super::{
    idempotency::{AppendMode, add_items, append_script, parse_append_reply},
    replicated::Append,
    replies::{check_rejection, malformed, parse_added_id},
    scripts::APPEND_IDEMPOTENT,
    session::Session,
    streams::Streams,
};
use crate::broker::{
    Appended, BrokerError, Publisher,
    client_shares::NewKeys,
    clock::now_ms,
    idempotency::{AppendItem, AppendOutcome, count_keys, count_stored_keys},
};

impl Streams {
    /// Appends `events`, at least one, to `channel`.
    pub(super) async fn append(
        &self,
        publisher: Publisher,
        channel: &Channel,
        events: Vec<Event>,
    ) -> Result<Appended, BrokerError> {
        let mut attempts = self.connection.attempts();
        loop {
            let session = &mut attempts.session().await?;
            let appended = self.append_in(session, publisher, channel, &events).await;
            if !attempts.must_repeat(session) {
                return appended;
            }
        }
    }

    async fn append_in(
        &self,
        session: &mut Session<'_>,
        publisher: Publisher,
        channel: &Channel,
        events: &[Event],
    ) -> Result<Appended, BrokerError> {
        if self.registry.has_appended(channel, session.era()) {
            return self.append_events(channel, events, session).await;
        }
        let item = AppendItem {
            events: events.to_vec(),
            idempotency: None,
        };
        let outcomes = self
            .append_items(publisher, channel, &[item], session)
            .await?;
        let outcome = outcomes
            .first()
            .ok_or_else(|| malformed("no ids for a publish"))?;
        Ok(outcome.ids)
    }

    /// Appends those of `items` whose key is not known in `channel`.
    pub(super) async fn append_idempotent(
        &self,
        publisher: Publisher,
        channel: &Channel,
        items: &[AppendItem],
    ) -> Result<Vec<AppendOutcome>, BrokerError> {
        let mut attempts = self.connection.attempts();
        loop {
            let session = &mut attempts.session().await?;
            let outcomes = self.append_items(publisher, channel, items, session).await;
            if !attempts.must_repeat(session) {
                return outcomes;
            }
        }
    }

    async fn append_events(
        &self,
        channel: &Channel,
        events: &[Event],
        session: &mut Session<'_>,
    ) -> Result<Appended, BrokerError> {
        let mut replies = if session.waits_for_replicas() {
            let append = Append {
                stream: self.names.stream(channel),
                commands: events
                    .iter()
                    .map(|event| self.append_command(channel, event))
                    .collect(),
                is_atomic: events.len() > 1,
            };
            session.append_replicated(append).await?
        } else {
            let commands = self.append_commands(channel, events);
            session.send_values(&commands).await?
        };
        // The reply after those of the events is that of `PUBLISH`.
        replies.truncate(events.len());
        let mut ids = replies.into_iter().map(parse_added_id);
        let first = ids.next().unwrap_or_else(|| parse_added_id(Value::Nil))?;
        let mut last = first;
        for id in ids {
            last = id?;
        }
        self.losses.observe(channel, last, session.era());
        Ok(Appended { first, last })
    }

    /// One `XADD` per event, in a transaction if there are several, and the notification.
    fn append_commands(&self, channel: &Channel, events: &[Event]) -> Pipeline {
        let mut commands = redis::pipe();
        if events.len() > 1 {
            commands.atomic();
        }
        for event in events {
            commands.add_command(self.append_command(channel, event));
        }
        commands
            .cmd("PUBLISH")
            .arg(self.names.stream(channel))
            .arg("");
        // A failed notification does not fail the publish: a node that misses it polls.
        commands.ignore_errors();
        commands
    }

    fn append_command(&self, channel: &Channel, event: &Event) -> Cmd {
        let mut command = redis::cmd("XADD");
        command
            .arg(self.names.stream(channel))
            .arg("MAXLEN")
            .arg("~")
            .arg(self.retention.events_max.get())
            .arg("*")
            .arg("event")
            .arg(event.kind.as_str())
            .arg("data")
            .arg(event.data.as_bytes().as_ref());
        command
    }

    async fn append_items(
        &self,
        publisher: Publisher,
        channel: &Channel,
        items: &[AppendItem],
        session: &mut Session<'_>,
    ) -> Result<Vec<AppendOutcome>, BrokerError> {
        let is_first = self.prepare_append(publisher, channel, session).await?;
        let claim = self.shares.claim_keys(NewKeys {
            publisher,
            channel,
            count: count_keys(items),
            log_ms: now_ms(),
        });
        let held_keys = claim.held_before();
        let mode = AppendMode {
            is_first,
            waits: session.waits_for_replicas(),
        };
        let mut script = append_script(&self.names, channel, &self.retention, mode, held_keys);
        add_items(&mut script, publisher.key_owner(items), items);
        let reply = self.run_append(channel, script, session).await?;
        let keys_max = self.retention.keys.keys_max;
        let outcomes = parse_append_reply(reply, items.len(), keys_max, || claim.too_many_keys())?;
        claim.keep(count_stored_keys(items, &outcomes));
        self.record_outcomes(channel, &outcomes, session.era());
        Ok(outcomes)
    }

    async fn run_append(
        &self,
        channel: &Channel,
        script: Cmd,
        session: &mut Session<'_>,
    ) -> Result<Value, BrokerError> {
        if !session.waits_for_replicas() {
            return Ok(session.run_command(script, &APPEND_IDEMPOTENT).await?);
        }
        let append = Append {
            stream: self.names.stream(channel),
            commands: vec![script],
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

    /// Records that a script in `era` has appended events up to `last` to `channel`.
    pub(super) fn record_append(&self, channel: &Channel, last: EventId, era: u64) {
        self.losses.observe(channel, last, era);
        self.registry.record_append(channel, era);
    }

    /// Records what a script append in `era` shows about `channel`.
    fn record_outcomes(&self, channel: &Channel, outcomes: &[AppendOutcome], era: u64) {
        if let Some(last) = outcomes.iter().map(|outcome| outcome.ids.last).max() {
            self.losses.observe(channel, last, era);
        }
        if outcomes.iter().any(|outcome| !outcome.duplicate) {
            self.registry.record_append(channel, era);
        }
    }
}
