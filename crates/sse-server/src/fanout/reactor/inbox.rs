//! The messages of other threads, and the list of streams that some of them ask for.

use super::Reactor;
use crate::fanout::mailbox::{Inbox, StreamInfo};

impl Reactor<'_> {
    /// Handles all messages in the mailbox.
    pub(super) fn drain_mailbox(&mut self) {
        let Inbox {
            new_streams,
            changed_views,
            completions,
            list_requests,
            unreachable,
            evicted,
            is_stopping,
            is_closed,
            ..
        } = self.mailbox.drain();
        self.new_streams.extend(new_streams);
        for completion in completions {
            self.push_completion(completion);
        }
        for view in changed_views {
            self.view_changed(view);
        }
        for request in list_requests {
            // The receiver may have been dropped.
            let _ = request.send(self.list_streams());
        }
        self.close_evicted(evicted);
        if !self.is_draining && self.context.drain.plan().is_some() {
            self.is_draining = true;
            self.start_drain();
        }
        if let Some(cookies) = unreachable {
            self.start_search(cookies);
        }
        self.is_stopping |= is_stopping;
        self.is_closed |= is_closed;
    }

    fn list_streams(&self) -> Vec<StreamInfo> {
        let open = self
            .connections
            .iter()
            .map(|(_, connection)| (&connection.state.subscription, &connection.guard));
        let new_streams = self.new_streams.iter();
        let new_streams = new_streams.map(|stream| (&stream.subscription, &stream.guard));
        open.chain(new_streams)
            .map(|(subscription, guard)| StreamInfo::of(subscription, guard.caller().cloned()))
            .collect()
    }
}
