//! Connects in flight, and their limit.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::load::connection::LoadConnection;

/// Limit of handshakes in flight. Servers queue only some hundreds of connections that they have
/// not accepted.
const IN_FLIGHT_MAX: usize = 256;
/// A handshake counts no longer than this. Some servers (Flask-SSE under gunicorn) send no head
/// before the first event.
const IN_FLIGHT_TIME_MAX: Duration = Duration::from_millis(250);

/// Connections between connect and response.
///
/// A handshake ends when the connection gets a response or breaks ([`LoadConnection::in_handshake`]
/// is cleared), or after [`IN_FLIGHT_TIME_MAX`]. An ended handshake stays in the queue until it is
/// at the front; it is recognised by its start.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    /// Start and connection, the earliest first.
    queue: VecDeque<(Instant, u32)>,
    count: usize,
}

impl Handshakes {
    pub(super) const fn count(&self) -> usize {
        self.count
    }

    pub(super) const fn has_room(&self) -> bool {
        self.count < IN_FLIGHT_MAX
    }

    /// When the oldest handshake stops counting.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.queue
            .front()
            .map(|(started, _)| *started + IN_FLIGHT_TIME_MAX)
    }

    pub(super) fn begin_handshake(&mut self, index: u32, connection: &mut LoadConnection) {
        connection.in_handshake = true;
        self.count += 1;
        self.queue.push_back((connection.connect_started, index));
    }

    pub(super) fn end_handshake(&mut self, connection: &mut LoadConnection) {
        if std::mem::take(&mut connection.in_handshake) {
            self.count -= 1;
        }
    }

    /// Ends the handshakes that take too long.
    pub(super) fn end_expired(&mut self, connections: &mut [LoadConnection], now: Instant) {
        while let Some((started, index)) = self.queue.front().copied() {
            let connection = &mut connections[index as usize];
            let is_current = connection.in_handshake && connection.connect_started == started;
            if is_current && now.saturating_duration_since(started) < IN_FLIGHT_TIME_MAX {
                return;
            }
            self.queue.pop_front();
            if is_current {
                self.end_handshake(connection);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::event_reader::EventReader;

    #[test]
    fn a_handshake_counts_until_its_response_or_its_time_limit() {
        let start = Instant::now();
        let new = |_| LoadConnection::new(EventReader::new(1 << 20), start);
        let mut connections: Vec<_> = (0..2).map(new).collect();
        let mut handshakes = Handshakes::default();
        for (index, connection) in (0..).zip(&mut connections) {
            handshakes.begin_handshake(index, connection);
        }
        handshakes.end_handshake(&mut connections[0]);
        handshakes.end_handshake(&mut connections[0]);
        assert_eq!(handshakes.count(), 1);
        handshakes.end_expired(&mut connections, start);
        assert_eq!(handshakes.next_expiry(), Some(start + IN_FLIGHT_TIME_MAX));
        handshakes.end_expired(&mut connections, start + IN_FLIGHT_TIME_MAX);
        assert_eq!((handshakes.count(), handshakes.next_expiry()), (0, None));
    }

    #[test]
    fn a_second_handshake_of_a_connection_outlives_the_first() {
        let start = Instant::now();
        let mut connections = [LoadConnection::new(EventReader::new(1 << 20), start)];
        let mut handshakes = Handshakes::default();
        handshakes.begin_handshake(0, &mut connections[0]);
        handshakes.end_handshake(&mut connections[0]);
        connections[0].connect_started = start + Duration::from_millis(1);
        handshakes.begin_handshake(0, &mut connections[0]);
        handshakes.end_expired(&mut connections, start + IN_FLIGHT_TIME_MAX);
        assert_eq!(handshakes.count(), 1);
    }
}
