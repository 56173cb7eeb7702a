//! Connections with several streams (HTTP/2).
//!
//! The first stream that needs a connection opens it, and the others wait for its handshake. A
//! connection that ends wakes its streams, each of which connects again by its own schedule.

use std::time::Instant;

use mio::event::Event;

use super::state::Engine;
use crate::load::{
    connection::{CloseReason, IoOutcome, Link, Phase, error_kind},
    http2::{ConnectionChange, Http2Stream, SharedSocket},
};

impl Engine<'_> {
    /// Requests a stream on its connection, and opens the connection if it is closed.
    pub(super) fn join_connection(&mut self, index: u32, now: Instant) {
        let waker = self.shared.wakes.waker(index);
        let connection = &mut self.connections[index as usize];
        connection.connect_started = Instant::now();
        connection.link = Some(Link::Shared(Http2Stream::queued(waker)));
        connection.phase = Phase::Sending {
            request: Vec::new(),
            sent: 0,
        };
        self.handshakes.begin_handshake(index, connection);
        let nth = self.shared_connection_of(index);
        if self.shared.list[nth].is_open() {
            self.send_shared_request(index, nth, now);
        } else {
            self.shared.list[nth].waiting.push(index);
        }
        if self.shared.list[nth].is_closed() {
            self.open_shared_connection(nth, index, now);
        }
    }

    fn shared_connection_of(&self, index: u32) -> usize {
        let streams = self.plan.http2_streams.unwrap_or(1);
        (index / streams) as usize
    }

    /// Opens a connection to the node that `index`, one of its streams, chooses.
    fn open_shared_connection(&mut self, nth: usize, index: u32, now: Instant) {
        let offset = self.connections[index as usize].node_offset as usize;
        let node = nth.wrapping_add(offset);
        let token = self.plan.connections + u32::try_from(nth).unwrap_or(u32::MAX);
        let transport = match self.open_socket(token, nth, self.plan.node(node)) {
            Ok(transport) => transport,
            Err(error) => return self.fail_waiting(nth, error_kind(&error), now),
        };
        let connection = &mut self.shared.list[nth];
        connection.node = node;
        connection.readiness.is_readable.set(true);
        connection.readiness.is_closed.set(false);
        let readiness = connection.readiness.clone();
        let socket = SharedSocket::new(transport, readiness, self.shared.buffers.clone());
        connection.open(socket, now);
        self.poll_connection(nth, now);
    }

    /// Polls a connection whose socket is ready.
    pub(super) fn handle_shared_event(&mut self, token: u32, event: &Event, now: Instant) {
        let nth = (token - self.plan.connections) as usize;
        let Some(connection) = self.shared.list.get(nth) else {
            return;
        };
        let is_closed = event.is_read_closed() || event.is_error();
        if is_closed {
            connection.readiness.is_closed.set(true);
        }
        if event.is_readable() || is_closed {
            connection.readiness.is_readable.set(true);
        }
        self.poll_connection(nth, now);
    }

    /// Polls the connections and streams that were woken, until none is.
    pub(super) fn poll_woken(&mut self, now: Instant) {
        let mut woken = Vec::new();
        loop {
            self.shared.wakes.take_all(&mut woken);
            if woken.is_empty() {
                return;
            }
            for token in woken.drain(..) {
                match token.checked_sub(self.plan.connections) {
                    None => self.read_shared_stream(token, now),
                    Some(nth) => self.poll_connection(nth as usize, now),
                }
            }
        }
    }

    fn poll_connection(&mut self, nth: usize, now: Instant) {
        loop {
            let connection = &mut self.shared.list[nth];
            let change = connection.poll();
            self.collector.stats.wire_bytes += connection.readiness.wire_bytes.take();
            match change {
                ConnectionChange::None => return,
                ConnectionChange::Opened => self.send_waiting(nth, now),
                ConnectionChange::Closed(kind) => return self.fail_waiting(nth, kind, now),
            }
        }
    }

    fn send_waiting(&mut self, nth: usize, now: Instant) {
        for index in std::mem::take(&mut self.shared.list[nth].waiting) {
            // It may have given up.
            if self.connection(index).is_queued() {
                self.send_shared_request(index, nth, now);
            }
        }
    }

    fn fail_waiting(&mut self, nth: usize, kind: &'static str, now: Instant) {
        for index in std::mem::take(&mut self.shared.list[nth].waiting) {
            if self.connection(index).is_queued() {
                self.close_shared_stream(index, CloseReason::Broken(kind), now);
            }
        }
    }

    fn send_shared_request(&mut self, index: u32, nth: usize, now: Instant) {
        let connection = &mut self.connections[index as usize];
        let shared = &mut self.shared.list[nth];
        let node = self.plan.node(shared.node);
        let id = connection.reader.last_event_id();
        let (request, body, with_id) = node.request.to_http2(&id);
        connection.sent_last_event_id = with_id;
        match shared.send(request, body) {
            Ok(response) => {
                if let Some(Link::Shared(stream)) = &mut connection.link {
                    stream.await_response(response);
                }
                connection.phase = Phase::Head { so_far: Vec::new() };
                self.read_shared_stream(index, now);
            }
            Err(kind) => self.close_shared_stream(index, CloseReason::Broken(kind), now),
        }
    }

    fn read_shared_stream(&mut self, index: u32, now: Instant) {
        let connection = &mut self.connections[index as usize];
        let outcome = connection.read_stream(&mut self.buffers, &mut self.collector, now);
        self.after_turn(outcome, index, now);
    }

    fn close_shared_stream(&mut self, index: u32, reason: CloseReason, now: Instant) {
        self.after_turn(IoOutcome::Close(reason), index, now);
    }
}
