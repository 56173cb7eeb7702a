//! Connects that are due, and cuts.

use std::{io, time::Instant};

use mio::{Interest, Token};
use rand::seq::index;

use super::state::Engine;
use crate::load::{
    connection::{CloseReason, Link, Phase, StreamEnd, error_kind},
    plan::Node,
    transport::Transport,
};

impl Engine<'_> {
    /// Connects what is due: reconnects first, then the ramp.
    pub(super) fn connect_due(&mut self, now: Instant) {
        self.handshakes.end_expired(&mut self.connections, now);
        let is_running = self.stage.is_running();
        while self.handshakes.has_room() {
            if let Some(index) = self.connects.reconnects.pop_due(now) {
                // After the measurement, a connection that never had a stream needs none.
                if is_running || self.connection(index).first_opened.is_some() {
                    self.connect(index, now);
                }
            } else if self.next_ramp_due().is_some_and(|due| due <= now) {
                let index = self.connects.begun;
                self.connects.begun += 1;
                self.connect(index, now);
            } else {
                break;
            }
        }
    }

    /// When the next connection of the ramp is due.
    pub(super) fn next_ramp_due(&self) -> Option<Instant> {
        let begun = self.connects.begun;
        (self.stage.is_running() && begun < self.plan.connections)
            .then(|| self.connects.ramp.due(begun))
    }

    fn connect(&mut self, index: u32, now: Instant) {
        self.collector.stats.connects.asked += 1;
        if self.plan.http2_streams.is_some() {
            self.join_connection(index, now);
            return;
        }
        let node = self.plan.node(self.choose_node(index));
        let connection = self.connection(index);
        let (request, with_id) = node.request.to_bytes(&connection.reader.last_event_id());
        connection.connect_started = Instant::now();
        connection.sent_last_event_id = with_id;
        match self.open_socket(index, index as usize, node) {
            Ok(transport) => {
                let connection = &mut self.connections[index as usize];
                connection.link = Some(Link::Own(transport));
                connection.phase = Phase::Sending { request, sent: 0 };
                self.handshakes.begin_handshake(index, connection);
            }
            Err(error) => {
                let reason = CloseReason::Broken(error_kind(&error));
                self.close_connection(index, reason, now);
            }
        }
    }

    /// Returns the number of the node for the next attempt of a connection.
    ///
    /// A connection that got no stream moves on to the next node.
    pub(super) fn choose_node(&self, index: u32) -> usize {
        let index = index as usize;
        let offset = self.connections[index].node_offset as usize;
        index.wrapping_add(offset)
    }

    /// Begins a connect of the `nth` socket, whose readiness is reported with `token`.
    pub(super) fn open_socket(&self, token: u32, nth: usize, node: &Node) -> io::Result<Transport> {
        let mut socket = self.plan.sources.connect(nth, node.address)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(&mut socket, Token(token as usize), interest)?;
        node.transport(socket).map_err(io::Error::other)
    }

    /// Cuts a random share of the streams. Each is resumed at once.
    pub(super) fn cut_streams(&mut self, now: Instant) {
        let streams: Vec<u32> = (0..self.plan.connections)
            .filter(|index| self.connection(*index).has_stream())
            .collect();
        let Some(cuts) = &mut self.cuts else { return };
        let count = cuts.next_count(now, streams.len());
        for chosen in index::sample(&mut self.rng, streams.len(), count) {
            let index = streams[chosen];
            self.cut_stream(index, now);
        }
    }

    fn cut_stream(&mut self, index: u32, now: Instant) {
        self.collector.stats.ends.cut += 1;
        self.counts.closed_streams += 1;
        let connection = self.connection(index);
        connection.close(Phase::Waiting);
        connection.lost_stream = Some((Instant::now(), StreamEnd::Cut));
        self.connects.reconnects.push(now, index);
    }
}
