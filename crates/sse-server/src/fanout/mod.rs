//! The connections of subscribers: what drives a [`MultiSubscription`](crate::channel::MultiSubscription) for a socket.

pub mod begin;
pub mod body;
