//! Steps of one stream: sends its next chunk, ends it and closes it.

use std::{io, time::Instant};

use bytes::Bytes;
use mio::event::Event;

use super::{CHUNKS_IN_A_ROW, Pass, Reactor};
use crate::fanout::{
    connection::WriteOutcome,
    farewell::Farewell,
    shared_state::{Action, EncodedChunk},
    stream_guard::CloseReason,
};

impl Reactor<'_> {
    /// Lets a stream do what it can do now: up to [`CHUNKS_IN_A_ROW`] chunks.
    pub(super) fn step(&mut self, key: usize) {
        for _ in 0..CHUNKS_IN_A_ROW {
            if self.must_end(key) {
                return self.end_stream(key, CloseReason::TlsKeysUsed);
            }
            let may_continue = match self.next_action(key) {
                None | Some(Action::Wait) => return,
                Some(Action::End) => return self.end_stream(key, CloseReason::UntilReached),
                Some(Action::Send(chunk)) => self.send_chunk(key, &chunk),
                Some(Action::Fetch(fetch)) => {
                    self.start_fetch(key, fetch);
                    true
                }
            };
            if !may_continue {
                return;
            }
        }
        self.queue_stream(key);
    }

    /// Whether a stream must end at the end of its last block, because of the keys of TLS.
    fn must_end(&self, key: usize) -> bool {
        let connection = self.connections.get(key);
        connection.is_some_and(|connection| connection.is_worn_out() && !connection.is_blocked())
    }

    /// Moves a stream to its next state. Returns `None` if the stream is closed, blocked, or waits
    /// for a page.
    fn next_action(&mut self, key: usize) -> Option<Action> {
        let connection = self.connections.get_mut(key)?;
        if connection.is_blocked() {
            return None;
        }
        let view_key = connection.view as usize;
        let watched = self.views.get_mut(view_key)?;
        let is_in_pass = watched.pass != Pass::None;
        let view = &mut watched.view;
        let transition = match connection.fetching() {
            None => view.next(&connection.state),
            Some(_) if view.channels.len() == 1 => return None,
            Some((_, fetch)) => view.next_of_others(&connection.state, fetch.nth),
        };
        if let Some(next_state) = transition.next_state {
            let is_behind = next_state.subscription.is_behind();
            connection.guard.set_behind(is_behind);
            connection.state = next_state;
        }
        if !is_in_pass {
            self.record_use(view_key);
        }
        Some(transition.action)
    }

    /// Sends a chunk to a stream. Returns whether the stream can be sent more.
    pub(super) fn send_chunk(&mut self, key: usize, chunk: &EncodedChunk) -> bool {
        let tick = self.wheel.tick(self.now);
        let connection = &mut self.connections[key];
        connection.last_write = tick;
        self.deliveries.events += chunk.events;
        self.deliveries.bytes += chunk.len();
        connection.guard.record_bytes(chunk.len());
        if let Some(reason) = chunk.gap {
            connection.guard.record_gap(reason);
        }
        let written = connection.write_chunk(chunk, self.now);
        self.handle_write(key, &written)
    }

    /// Handles the outcome of a write. Returns whether the stream can be sent more.
    fn handle_write(&mut self, key: usize, written: &io::Result<WriteOutcome>) -> bool {
        match written {
            Ok(WriteOutcome::Complete) => return true,
            Ok(WriteOutcome::Blocked) => self.add_blocked(key),
            Err(_) => self.close_stream(key, CloseReason::Client),
        }
        false
    }

    /// Queues a stream that has more to send.
    fn queue_stream(&mut self, key: usize) {
        if let Some(connection) = self.connections.get_mut(key)
            && !std::mem::replace(&mut connection.is_queued, true)
        {
            self.queued.push_back(key);
        }
    }

    /// Lets the next queued stream take a step. Returns `false` if there is none.
    pub(super) fn resume_queued(&mut self, _: Instant) -> bool {
        let Some(key) = self.queued.pop_front() else {
            return false;
        };
        if let Some(connection) = self.connections.get_mut(key) {
            connection.is_queued = false;
            self.step(key);
        }
        true
    }

    /// Ends a stream that is not blocked: sends its last position, if the client does not know it,
    /// a reconnection time during a drain, and the terminator.
    pub(super) fn end_stream(&mut self, key: usize, reason: CloseReason) {
        let mut last = self.last_position(key);
        last.extend(self.farewell(key, reason));
        let connection = &mut self.connections[key];
        last.extend_from_slice(connection.coding.terminator());
        connection.set_ending(reason);
        let written = connection.write(&Bytes::from(last), self.now);
        if self.handle_write(key, &written) {
            self.close_stream(key, reason);
        }
    }

    /// Encodes what the client is sent about the end of its stream. Returns no bytes if that is
    /// nothing.
    pub(super) fn farewell(&mut self, key: usize, reason: CloseReason) -> Vec<u8> {
        let Some(connection) = self.connections.get(key) else {
            return Vec::new();
        };
        let farewell = Farewell {
            drain: &self.context.drain,
            retry: self.context.settings.retry,
        };
        let Some(chunk) = farewell.encode(reason, Some(&connection.state.subscription)) else {
            return Vec::new();
        };
        let chunk = EncodedChunk::new(chunk);
        connection.guard.record_bytes(chunk.len());
        self.deliveries.bytes += chunk.len();
        chunk.bytes(connection.coding).to_vec()
    }

    /// Encodes the position of a stream that ends. Returns no bytes if the client knows it.
    fn last_position(&mut self, key: usize) -> Vec<u8> {
        let Some((connection, watched)) = self.connection_and_view(key) else {
            return Vec::new();
        };
        let mut subscription = connection.state.subscription.clone();
        if subscription.take_unsent_cursor().is_none() {
            return Vec::new();
        }
        let transition = watched.view.heartbeat(&connection.state);
        let Action::Send(chunk) = transition.action else {
            return Vec::new();
        };
        if let Some(next_state) = transition.next_state {
            connection.state = next_state;
        }
        let bytes = chunk.bytes(connection.coding).to_vec();
        connection.guard.record_bytes(chunk.len());
        self.deliveries.bytes += chunk.len();
        bytes
    }

    /// Closes a stream, and its view if the stream was the last member.
    pub(super) fn close_stream(&mut self, key: usize, reason: CloseReason) {
        let Some(mut connection) = self.connections.try_remove(key) else {
            return;
        };
        self.blocked.remove(&key);
        let view = connection.view as usize;
        if let Some(watched) = self.views.get_mut(view) {
            let index = connection.member_index;
            if let Some(moved) = watched.view.remove_member(index) {
                self.connections[moved as usize].member_index = index;
            }
            if watched.view.members.is_empty() {
                let watched = self.views.remove(view);
                self.views_by_key.remove(&watched.view.key);
            }
        }
        if reason == CloseReason::Unreachable {
            connection.reset_on_close();
        } else {
            connection.close_write();
        }
        connection.guard.set_close_reason(reason);
        let subscription = &connection.state.subscription;
        let unsent_bytes = connection.unsent_bytes();
        connection
            .guard
            .record_end(subscription.sent_cursor(), unsent_bytes);
    }

    /// Handles what a socket reports: input, its end, an error, or room for more.
    pub(super) fn handle_socket_event(&mut self, event: &Event) {
        let key = event.token().0;
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let has_input = event.is_readable() || event.is_read_closed() || event.is_error();
        if has_input {
            if let Err(reason) = connection.discard_input() {
                return self.close_stream(key, reason);
            }
            // What was received may require a response of TLS.
            let written = connection.flush_session(self.now);
            self.handle_write(key, &written);
        }
        if event.is_writable()
            && let Some(connection) = self.connections.get(key)
            && connection.is_blocked()
        {
            self.resume_write(key);
        }
    }

    /// Writes the rest of a blocked chunk, and queues the stream once the rest is written.
    pub(super) fn resume_write(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        match connection.resume_write(self.now) {
            Ok(WriteOutcome::Blocked) => {}
            Ok(WriteOutcome::Complete) => {
                if let Some(reason) = connection.ending() {
                    return self.close_stream(key, reason);
                }
                self.blocked.remove(&key);
                connection.poll_for_room(self.poll.registry(), key);
                if !self.end_if_due(key) {
                    self.warn_if_due(key);
                    self.queue_stream(key);
                }
            }
            Err(_) => self.close_stream(key, CloseReason::Client),
        }
    }
}
