//! How a stream is taken over.

use std::{collections::HashMap, io, rc::Rc, sync::Arc, time::Instant};

use mio::{Interest, Token, net::TcpStream};
use slab::Slab;

use super::{Pass, Reactor, Watched, small};
use crate::{
    channel::Listener,
    fanout::{
        body::settled,
        detach::Detached,
        subscriber::Subscriber,
        threads::{Answer, Answered, Door, Joining, Parts, ViewBell},
        view::{View, ViewKey},
    },
};

impl Reactor<'_> {
    pub(super) fn admit(&mut self, _: Instant) -> bool {
        let Some(joining) = self.joining.pop_front() else {
            return false;
        };
        // Without a place in the event queue nothing can be done for it: it is closed and comes back.
        if let Err(error) = self.try_admit(joining) {
            tracing::warn!(%error, "a stream could not be taken over");
        }
        true
    }

    pub(super) fn try_admit(&mut self, joining: Joining) -> io::Result<()> {
        let Joining {
            socket,
            framing,
            subscription,
            until,
            guard,
        } = joining;
        let Detached {
            socket,
            counted,
            given,
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
            &self.door,
            &self.parts,
            ViewKey::of(&subscription),
        );
        let small_view = small(view)?;
        let watched = &mut self.views[view];
        let spoke = self.wheel.tick(self.now);
        let mut subscriber = Subscriber::new(
            socket,
            framing,
            watched.view.intern_state(subscription),
            (guard, counted, given),
            spoke,
        );
        subscriber.view = small_view;
        subscriber.place = watched.view.add(small_key);
        subscriber.due = self.wheel.file(small_key, spoke, self.now);
        if let Some(bound) = until {
            let (ticket, door, hub) = (
                self.door.ticket(),
                self.door.clone(),
                self.parts.hub.clone(),
            );
            let channels = watched.view.view_key.channels.to_vec();
            let task = self.parts.runtime.spawn(async move {
                let what = Answered::Settled(settled(hub, channels, bound).await);
                door.put(|post| {
                    post.answers.push(Answer {
                        key: small_key,
                        ticket,
                        what,
                    })
                });
            });
            subscriber.set_settling(ticket, task.abort_handle());
        }
        entry.insert(subscriber);
        self.drive(key);
        Ok(())
    }
}

/// The view of these wishes.
fn watch(
    views: &mut Slab<Watched>,
    by_key: &mut HashMap<Rc<ViewKey>, usize>,
    door: &Arc<Door>,
    parts: &Parts,
    view_key: ViewKey,
) -> usize {
    if let Some(key) = by_key.get(&view_key) {
        return *key;
    }
    let entry = views.vacant_entry();
    let key = entry.key();
    let bell = Arc::new(ViewBell::new(door.clone(), key));
    let view_key = Rc::new(view_key);
    let channels = view_key
        .channels
        .iter()
        .map(|channel| parts.hub.join(channel))
        .collect();
    let view = View::new(view_key.clone(), channels);
    for channel in &view.channels {
        let listener: Arc<dyn Listener> = bell.clone();
        channel.tail.listen(Arc::downgrade(&listener));
    }
    entry.insert(Watched {
        view,
        bell,
        pass: Pass::None,
        rests_until: Instant::now(),
    });
    by_key.insert(view_key, key);
    key
}
