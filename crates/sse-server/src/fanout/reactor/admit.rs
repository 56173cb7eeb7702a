//! How a stream is taken over.

use std::{collections::HashMap, io, rc::Rc, sync::Arc, time::Instant};

use mio::{Interest, Token, net::TcpStream};
use slab::Slab;

use super::{Pass, Reactor, Watched, small};
use crate::{
    channel::TailListener,
    fanout::{
        detach::Detached,
        stream_body::settled,
        subscriber::Subscriber,
        thread::{Completed, Completion, Context, Mailbox, NewStream, ViewWaker},
        view::{View, ViewKey},
    },
};

impl Reactor<'_> {
    pub(super) fn admit(&mut self, _: Instant) -> bool {
        let Some(new_streams) = self.new_streams.pop_front() else {
            return false;
        };
        // Without a place in the event queue nothing can be done for it: it is closed and comes back.
        if let Err(error) = self.try_admit(new_streams) {
            tracing::warn!(%error, "a stream could not be taken over");
        }
        true
    }

    pub(super) fn try_admit(&mut self, new_streams: NewStream) -> io::Result<()> {
        let NewStream {
            socket,
            framing,
            subscription,
            until,
            guard,
        } = new_streams;
        let Detached {
            socket,
            counted,
            accepted,
        } = socket;
        let mut socket = TcpStream::from_std(socket);
        let entry = self.subscribers.vacant_entry();
        let (key, small_key) = (entry.key(), small(entry.key())?);
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(&mut socket, Token(key), interest)?;
        let view = watch(
            &mut self.views,
            &mut self.by_key,
            &self.mailbox,
            &self.context,
            ViewKey::of(&subscription),
        );
        let small_view = small(view)?;
        let watched = &mut self.views[view];
        let last_write = self.wheel.tick(self.now);
        let mut subscriber = Subscriber::new(
            socket,
            framing,
            watched.view.intern_state(subscription),
            (guard, counted, accepted),
            last_write,
        );
        subscriber.view = small_view;
        subscriber.place = watched.view.add(small_key);
        subscriber.due = self.wheel.file(small_key, last_write, self.now);
        if let Some(bound) = until {
            let (request_id, mailbox, hub) = (
                self.mailbox.request_id(),
                self.mailbox.clone(),
                self.context.hub.clone(),
            );
            let channels = watched.view.view_key.channels.to_vec();
            let task = self.context.runtime.spawn(async move {
                let what = Completed::Settled(settled(hub, channels, bound).await);
                mailbox.send(|inbox| {
                    inbox.completions.push(Completion {
                        key: small_key,
                        request_id,
                        what,
                    })
                });
            });
            subscriber.set_settling(request_id, task.abort_handle());
        }
        entry.insert(subscriber);
        self.step(key);
        Ok(())
    }
}

/// The view of these wishes.
fn watch(
    views: &mut Slab<Watched>,
    by_key: &mut HashMap<Rc<ViewKey>, usize>,
    mailbox: &Arc<Mailbox>,
    context: &Context,
    view_key: ViewKey,
) -> usize {
    if let Some(key) = by_key.get(&view_key) {
        return *key;
    }
    let entry = views.vacant_entry();
    let key = entry.key();
    let waker = Arc::new(ViewWaker::new(mailbox.clone(), key));
    let view_key = Rc::new(view_key);
    let channels = view_key
        .channels
        .iter()
        .map(|channel| context.hub.join(channel))
        .collect();
    let view = View::new(view_key.clone(), channels);
    for channel in &view.channels {
        let listener: Arc<dyn TailListener> = waker.clone();
        channel.tail.listen(Arc::downgrade(&listener));
    }
    entry.insert(Watched {
        view,
        waker,
        pass: Pass::None,
        not_before: Instant::now(),
    });
    by_key.insert(view_key, key);
    key
}
