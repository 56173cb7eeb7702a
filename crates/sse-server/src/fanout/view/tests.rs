//! View sharing: what streams at one position share, and for how long.

use std::num::NonZeroUsize;

use sse_proto::{EventId, Position};
use tokio::runtime::Handle;

use super::*;
use crate::{
    broker::Stored,
    channel::{Hub, SubscriptionOptions, TailLimits},
    fanout::{shared_state::TransferCoding, test_support::memory_broker},
};

/// A view of one channel, whose tail has the events 1 to `events`.
fn view(events: u64) -> View {
    let limits = TailLimits {
        events_max: NonZeroUsize::MAX,
        bytes_max: usize::MAX,
    };
    let hub = Hub::new(memory_broker(), limits, Handle::current());
    let key = ViewKey::of_subscription(&subscription_after(0));
    let channels = key.channels.iter().map(|channel| hub.join(channel));
    let view = View::new(Rc::new(key.clone()), channels.collect());
    view.channels[0]
        .tail
        .update(|frames| frames.join(EventId::ZERO));
    for ms in 1..=events {
        push_event(&view, ms);
    }
    view
}

fn push_event(view: &View, ms: u64) {
    let event = Stored {
        id: EventId::new(ms, 0),
        kind: "click".into(),
        data: ms.to_string().into(),
    };
    view.channels[0]
        .tail
        .update(|frames| frames.push(vec![event]));
}

fn subscription_after(ms: u64) -> MultiSubscription {
    let position = Position::After(EventId::new(ms, 0));
    let start = (Channel::default_channel(), Ok(position));
    MultiSubscription::new([start], &SubscriptionOptions::default())
}

fn sent_chunk(transition: &Transition) -> Rc<EncodedChunk> {
    match &transition.action {
        Action::Send(chunk) => chunk.clone(),
        other => panic!("nothing is sent: {other:?}"),
    }
}

#[tokio::test]
async fn streams_at_one_position_share_their_state_and_their_chunk() {
    let mut view = view(2);
    let first = view.intern_state(subscription_after(0));
    let second = view.intern_state(subscription_after(0));
    let elsewhere = view.intern_state(subscription_after(1));
    assert!(Rc::ptr_eq(&first, &second));
    assert!(!Rc::ptr_eq(&first, &elsewhere));

    let (step, again) = (view.next(&first), view.next(&second));
    let (chunk, same_chunk) = (sent_chunk(&step), sent_chunk(&again));
    assert!(Rc::ptr_eq(&chunk, &same_chunk));
    assert_eq!(chunk.events, 2);
    let after = step.next_state.expect("the position has changed");
    assert!(Rc::ptr_eq(&after, &again.next_state.unwrap()));
    // The stream that was one event ahead arrives at the same state.
    let caught_up = view.next(&elsewhere).next_state.unwrap();
    assert!(Rc::ptr_eq(&after, &caught_up));
}

#[tokio::test]
async fn a_cached_step_is_repeated_until_the_caches_are_cleared() {
    let mut view = view(1);
    let state = view.intern_state(subscription_after(1));
    assert!(matches!(view.next(&state).action, Action::Wait));
    push_event(&view, 2);
    assert!(matches!(view.next(&state).action, Action::Wait));
    view.clear_cache();
    assert_eq!(sent_chunk(&view.next(&state)).events, 1);
}

#[tokio::test]
async fn heartbeats_of_one_state_are_encoded_once() {
    let mut view = view(0);
    let state = view.intern_state(subscription_after(0));
    let (first, second) = (view.heartbeat(&state), view.heartbeat(&state));
    let (chunk, same_chunk) = (sent_chunk(&first), sent_chunk(&second));
    assert!(Rc::ptr_eq(&chunk, &same_chunk));
    assert!(chunk.bytes(TransferCoding::Identity).starts_with(b":"));
}

#[tokio::test]
async fn a_dropped_view_frees_states_that_lead_to_one_another() {
    let mut view = view(1);
    let first = view.intern_state(subscription_after(0));
    let second = view.next(&first).next_state.unwrap();
    // No subscription is known to lead back, so the test closes the circle itself.
    let back = Transition {
        action: Action::Wait,
        next_state: Some(first.clone()),
    };
    view.add_caching(&second, &back);
    second.cached.borrow_mut().next = Some(Box::new(back));
    let weak = [Rc::downgrade(&first), Rc::downgrade(&second)];
    drop((first, second));
    assert!(weak.iter().all(|state| state.upgrade().is_some()));
    drop(view);
    assert!(weak.iter().all(|state| state.upgrade().is_none()));
}
