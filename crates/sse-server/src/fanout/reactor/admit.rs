//! Admits a new stream to the thread: registers its socket, and finds or creates its view.

use std::{
    io,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use mio::Token;
use sse_proto::EventId;

use super::{Pass, Reactor, WatchedView, to_stored_key};
use crate::{
    channel::TailListener,
    fanout::{
        connection::Connection,
        mailbox::{Completion, CompletionResult, NewStream, ViewWaker},
        settlement::wait_until_settled,
        view::{View, ViewKey},
    },
};

impl Reactor<'_> {
    /// Admits the next new stream. Returns `false` if there is none.
    pub(super) fn admit_next(&mut self, _: Instant) -> bool {
        let Some(stream) = self.new_streams.pop_front() else {
            return false;
        };
        // A socket that cannot be registered is closed, and its client resumes.
        if let Err(error) = self.admit(stream) {
            tracing::warn!(%error, "a stream could not be taken over");
        }
        true
    }

    fn admit(&mut self, mut stream: NewStream) -> io::Result<()> {
        let key = self.connections.vacant_key();
        let stored_key = to_stored_key(key)?;
        let socket = &mut stream.socket.socket;
        let interest = socket.interest();
        self.poll
            .registry()
            .register(socket, Token(key), interest)?;
        let until = stream.until;
        let mut connection = self.new_connection(stored_key, stream)?;
        if let Some(bound) = until {
            self.start_settling(&mut connection, stored_key, bound);
        }
        let early_input = connection.handle_early_input();
        self.connections.insert(connection);
        self.plan_end(key);
        match early_input {
            Ok(()) => self.step(key),
            Err(reason) => self.close_stream(key, reason),
        }
        Ok(())
    }

    /// Creates the connection of a stream: a member of its view, and an entry of the wheel.
    fn new_connection(&mut self, key: u32, stream: NewStream) -> io::Result<Connection> {
        let view = self.find_or_create_view(ViewKey::of_subscription(&stream.subscription));
        let stored_view = to_stored_key(view)?;
        if stream.guard.caller().is_some() {
            self.access_sweep.start(self.now);
        }
        let view = &mut self.views[view].view;
        let last_write = self.wheel.tick(self.now);
        let state = view.intern_state(stream.subscription);
        let (socket, coding, guard) = (stream.socket, stream.coding, stream.guard);
        let mut connection = Connection::new(socket, coding, state, guard, last_write);
        connection.view = stored_view;
        connection.member_index = view.add_member(key);
        connection.heartbeat_due = self.wheel.insert(key, last_write, self.now);
        Ok(connection)
    }

    /// Starts the task that waits for the end of a stream with `until`.
    fn start_settling(&self, connection: &mut Connection, key: u32, bound: EventId) {
        let request_id = self.mailbox.new_request_id();
        let (mailbox, hub) = (self.mailbox.clone(), self.context.hub.clone());
        let subscription = &connection.state.subscription;
        let channels = subscription.channels().cloned().collect();
        let task = self.context.runtime.spawn(async move {
            let settlements = wait_until_settled(hub, channels, bound).await;
            let completion = Completion {
                key,
                request_id,
                result: CompletionResult::Settled(settlements),
            };
            mailbox.send(|inbox| inbox.completions.push(completion));
        });
        connection.set_settling(request_id, task.abort_handle());
    }

    /// Returns the key of the view with `view_key`.
    fn find_or_create_view(&mut self, view_key: ViewKey) -> usize {
        if let Some(view) = self.views_by_key.get(&view_key) {
            return *view;
        }
        let entry = self.views.vacant_entry();
        let key = entry.key();
        let waker = Arc::new(ViewWaker::new(self.mailbox.clone(), key));
        let view_key = Rc::new(view_key);
        let channels = view_key.channels.iter();
        let channels = channels.map(|channel| self.context.hub.join(channel));
        let view = View::new(view_key.clone(), channels.collect());
        for channel in &view.channels {
            let listener: Arc<dyn TailListener> = waker.clone();
            channel.tail.listen(Arc::downgrade(&listener));
        }
        entry.insert(WatchedView {
            view,
            waker,
            pass: Pass::None,
            not_before: Instant::now(),
            pass_cost: Duration::ZERO,
            changed_at: None,
        });
        self.views_by_key.insert(view_key, key);
        key
    }
}
