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

use redis::{Pipeline, Value};
use sse_proto::{Channel, Event};

use super::{
    idempotency::{add_items, append_script, parse_append_reply},
    replies::{malformed, parse_added_id},
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
        let commands = self.append_commands(channel, events);
        let mut replies = session.send_values(&commands).await?;
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
        let stream = self.names.stream(channel);
        let mut commands = redis::pipe();
        if events.len() > 1 {
            commands.atomic();
        }
        for event in events {
            commands
                .cmd("XADD")
                .arg(&stream)
                .arg("MAXLEN")
                .arg("~")
                .arg(self.retention.events_max.get())
                .arg("*")
                .arg("event")
                .arg(event.kind.as_str())
                .arg("data")
                .arg(event.data.as_bytes().as_ref());
        }
        commands.cmd("PUBLISH").arg(&stream).arg("");
        // A failed notification does not fail the publish: a node that misses it polls.
        commands.ignore_errors();
        commands
    }

    async fn append_items(
        &self,
        publisher: Publisher,
        channel: &Channel,
        items: &[AppendItem],
        session: &mut Session<'_>,
    ) -> Result<Vec<AppendOutcome>, BrokerError> {
        let is_first = !self.registry.has_appended(channel, session.era());
        if is_first {
            let by = (publisher, &self.shares);
            self.registry.register(by, channel, session).await?;
        }
        let claim = self.shares.claim_keys(NewKeys {
            publisher,
            channel,
            count: count_keys(items),
            log_ms: now_ms(),
        });
        let held_keys = claim.held_before();
        let mut script = append_script(&self.names, channel, &self.retention, is_first, held_keys);
        add_items(&mut script, publisher.key_owner(items), items);
        let reply = session.run(&script).await?;
        let keys_max = self.retention.keys.keys_max;
        let outcomes = parse_append_reply(reply, items.len(), keys_max, || claim.too_many_keys())?;
        claim.keep(count_stored_keys(items, &outcomes));
        self.record_outcomes(channel, &outcomes, session.era());
        Ok(outcomes)
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
