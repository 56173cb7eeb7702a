//! The loop.

use std::{
    io,
    time::{Duration, Instant},
};

use mio::{Events, event::Event};

use super::{
    ending::{EndReason, RunEnd, RunFacts, Stage},
    state::{Engine, Finished},
};
use crate::load::{
    connection::{IoOutcome, LoadConnection, TimeLimits},
    progress::Progress,
};

/// A connection that takes longer to be established is tried again.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Limit of time for the message of a rejection.
const MESSAGE_MAX: Duration = Duration::from_secs(2);
/// Readiness events per turn.
const EVENTS_MAX: usize = 1024;
/// Limit of time of one wait for readiness.
const WAIT_MAX: Duration = Duration::from_millis(500);

impl Engine<'_> {
    /// Runs until the end.
    ///
    /// # Errors
    /// The event loop itself fails.
    pub(crate) fn run(mut self, progress: &mut Progress) -> io::Result<Finished> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            let now = Instant::now();
            self.do_what_is_due(now);
            if progress.is_due(now) {
                progress.show(&self.snapshot(now));
            }
            if let Stage::Over {
                reason,
                measured_until,
                at,
            } = self.stage
            {
                return Ok(self.into_result(reason, measured_until, at));
            }
            let wait = self.poll_timeout(now, progress.due());
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => self.handle_readiness(&events),
            }
        }
    }

    fn into_result(self, reason: EndReason, measured_until: Instant, at: Instant) -> Finished {
        Finished {
            reason,
            connections: self.connections,
            collector: self.collector,
            elapsed: measured_until - self.start,
            settled: at - measured_until,
            streaming: self.counts.streaming_at_end,
        }
    }

    fn do_what_is_due(&mut self, now: Instant) {
        if self.sweep.is_due(now) {
            self.close_overdue(now);
        }
        self.end_if_due(now);
        if self.stage.is_running() && self.cuts.is_some_and(|cuts| now >= cuts.due) {
            self.cut_streams(now);
        }
        self.connect_due(now);
        self.poll_woken(now);
    }

    /// How long to wait for readiness: until the next thing is due.
    fn poll_timeout(&self, now: Instant, progress_due: Instant) -> Duration {
        if !self.unread.is_empty() {
            return Duration::ZERO;
        }
        let is_running = self.stage.is_running();
        let due = [
            self.next_connect(),
            self.cuts.filter(|_| is_running).map(|cuts| cuts.due),
            self.time_up().filter(|_| is_running),
            (!is_running).then_some(self.catch_up.check.due),
            Some(self.sweep.due),
            Some(progress_due),
        ];
        let next = due.into_iter().flatten().min();
        next.map_or(WAIT_MAX, |next| next.saturating_duration_since(now))
            .min(WAIT_MAX)
    }

    /// Returns when the next connect can start: once it is due, and a handshake has room.
    fn next_connect(&self) -> Option<Instant> {
        if !self.handshakes.has_room() {
            return self.handshakes.next_expiry();
        }
        let reconnect = self.connects.reconnects.next_due();
        reconnect.into_iter().chain(self.next_ramp_due()).min()
    }

    fn handle_readiness(&mut self, events: &Events) {
        let now = Instant::now();
        for event in events {
            // The waker's token is no connection.
            match u32::try_from(event.token().0) {
                Ok(token) if token < self.plan.connections => self.handle_event(token, event, now),
                Ok(token) => self.handle_shared_event(token, event, now),
                Err(_) => {}
            }
        }
        self.read_unread(now);
        self.poll_woken(now);
    }

    /// Gives a turn to the connections that did not read everything in their previous turn.
    fn read_unread(&mut self, now: Instant) {
        for index in std::mem::take(&mut self.unread) {
            self.read_connection(index, now, true);
        }
    }

    fn handle_event(&mut self, index: u32, event: &Event, now: Instant) {
        // A TLS handshake reads and writes before the request is sent.
        if event.is_writable() || event.is_error() || self.connection(index).is_sending() {
            let outcome = self.connection(index).write_request();
            self.after_turn(outcome, index, now);
        }
        // A read reports an error too.
        let is_closed = event.is_read_closed() || event.is_error();
        if event.is_readable() || is_closed {
            self.read_connection(index, now, is_closed);
        }
    }

    fn read_connection(&mut self, index: u32, now: Instant, read_to_end: bool) {
        let connection = &mut self.connections[index as usize];
        let outcome = connection.read(&mut self.buffers, &mut self.collector, now, read_to_end);
        self.after_turn(outcome, index, now);
    }

    /// Closes connections that exceeded a time limit.
    fn close_overdue(&mut self, now: Instant) {
        let limits = TimeLimits {
            connect: CONNECT_MAX,
            idle: self.plan.idle_timeout,
            message: MESSAGE_MAX,
        };
        for connection in &mut self.shared.list {
            connection.close_if_overdue(now, CONNECT_MAX);
        }
        for index in 0..self.plan.connections {
            if let Some(reason) = self.connection(index).check_time_limits(now, &limits) {
                self.after_turn(IoOutcome::Close(reason), index, now);
            }
        }
    }

    fn end_if_due(&mut self, now: Instant) {
        let stage = self.stage;
        match stage {
            Stage::Running => match self.run_facts(now).run_end() {
                Some(RunEnd::Now(reason)) => self.end_run(reason, now, now),
                Some(RunEnd::AfterSettling(reason)) => self.begin_settling(reason, now),
                None => {}
            },
            Stage::Settling { reason, since } if self.has_settled(since, now) => {
                self.end_run(reason, since, now);
            }
            Stage::Settling { .. } | Stage::Over { .. } => {}
        }
    }

    /// Returns whether the grace period, which began at `since`, can end.
    fn has_settled(&mut self, since: Instant, now: Instant) -> bool {
        self.must_stop_settling(since, now)
            || (self.catch_up.check.is_due(now) && !self.is_any_behind())
    }

    fn must_stop_settling(&self, since: Instant, now: Instant) -> bool {
        now.saturating_duration_since(since) >= self.plan.settle_time || self.stop.requests() > 1
    }

    fn run_facts(&self, now: Instant) -> RunFacts {
        RunFacts {
            connections: self.plan.connections,
            done: self.counts.done,
            failed_first: self.counts.failed_first,
            handshakes: self.handshakes.count(),
            ever_open: self.collector.stats.connects.ever_open,
            has_count: self.plan.rules.count.is_some(),
            stop_requests: self.stop.requests(),
            is_time_up: self.time_up().is_some_and(|time_up| now >= time_up),
        }
    }

    /// Ends the measurement: every connection must now reach what any connection has received.
    fn end_measurement(&mut self) {
        self.collector.publishers.set_targets();
        self.counts.streaming_at_end = self.streaming();
    }

    fn begin_settling(&mut self, reason: EndReason, now: Instant) {
        self.end_measurement();
        self.stage = Stage::Settling { reason, since: now };
        if !self.is_any_behind() {
            self.end_run(reason, now, now);
        }
    }

    fn end_run(&mut self, reason: EndReason, measured_until: Instant, now: Instant) {
        if self.stage.is_running() {
            self.end_measurement();
        }
        self.stage = Stage::Over {
            reason,
            measured_until,
            at: now,
        };
    }

    /// Returns `true` if a connection has not received all that others have.
    ///
    /// The search begins with the connection found last. Mostly it is still behind, so that the
    /// others need no check.
    fn is_any_behind(&mut self) -> bool {
        let publishers = &self.collector.publishers;
        let last_behind = self.catch_up.last_behind;
        let (before, from) = self.connections.split_at(last_behind);
        let is_behind = |connection: &LoadConnection| {
            let sequences = &connection.received.sequences;
            !connection.is_done() && sequences.is_behind(publishers, connection.first_opened)
        };
        let found = from.iter().chain(before).position(is_behind);
        self.catch_up.last_behind =
            found.map_or(0, |found| (last_behind + found) % self.connections.len());
        found.is_some()
    }
}
