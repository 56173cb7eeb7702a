//! The connections of subscribers: what drives a [`Subscription`](crate::channel::Subscription) for a socket.

pub mod body;
