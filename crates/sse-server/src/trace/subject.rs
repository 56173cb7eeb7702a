//! What is traced: one channel, one principal or one address.

use std::net::IpAddr;

use sse_proto::Channel;

use super::Actor;
use crate::access::NamedCaller;

/// What is traced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// What concerns this channel.
    Channel(Channel),
    /// What this API key or this subject of tokens does, also with a ticket.
    Caller(NamedCaller),
    /// What clients at this address do.
    Address(IpAddr),
}

impl Subject {
    /// Whether something that `actor` does belongs to the trace.
    pub(super) fn matches(&self, actor: &Actor<'_>) -> bool {
        match self {
            Self::Channel(channel) => actor.channels.contains(channel),
            Self::Caller(caller) => actor.identity.is_some_and(|identity| caller.owns(identity)),
            Self::Address(address) => actor
                .address
                .is_some_and(|found| found.to_canonical() == address.to_canonical()),
        }
    }
}
