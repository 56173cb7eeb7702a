//! What a new stream needs of all limits, apart from the number of all streams.

use actix_web::HttpRequest;
use sse_proto::Channel;

use super::stream::may_stream;
use crate::{
    broker::FollowLimitReached,
    budget::ClientNet,
    channel::ReservedChannels,
    fanout::admission::RejectReason,
    http::{
        access::{caller::Caller, caller_quota::quota_of},
        state::AppState,
    },
    quota::{LimitKind, QuotaExceeded, StreamPermit},
};

/// The comment of a stream beyond the limit of all streams.
pub(super) const TOO_MANY_STREAMS: &str = "too many open streams; reconnect later";

/// What a stream holds while it is open.
pub(super) struct StreamShares {
    pub(super) reserved: ReservedChannels,
    pub(super) permit: Option<StreamPermit>,
}

/// Why a stream does not get what it needs.
#[derive(Debug, Clone, Copy)]
pub(super) enum NoShare {
    /// The server is draining.
    Draining,
    /// The credential cannot be verified now.
    AccessUnavailable,
    /// The connection is reserved for other requests.
    ReservedConnection,
    /// Too many channels have open streams.
    Channels,
    /// The caller has used up its quota.
    Quota(QuotaExceeded),
}

impl NoShare {
    pub(super) const fn reason(self) -> RejectReason {
        match self {
            Self::ReservedConnection | Self::Channels => RejectReason::Limit,
            Self::Quota(_) => RejectReason::RateLimited,
            Self::Draining => RejectReason::Draining,
            Self::AccessUnavailable => RejectReason::AccessUnavailable,
        }
    }

    /// Returns the comment of the stream that ends at once.
    pub(super) fn comment(self) -> String {
        match self {
            Self::Draining => "the server is about to stop; reconnect later".to_owned(),
            Self::AccessUnavailable => {
                "the credential cannot be verified now; reconnect later".to_owned()
            }
            Self::ReservedConnection => TOO_MANY_STREAMS.to_owned(),
            Self::Channels => "too many channels with open streams; reconnect later".to_owned(),
            Self::Quota(exceeded) => {
                let setting = exceeded.setting();
                format!("this client has used up {setting}; reconnect later")
            }
        }
    }
}

impl From<FollowLimitReached> for NoShare {
    fn from(FollowLimitReached: FollowLimitReached) -> Self {
        Self::Channels
    }
}

impl From<QuotaExceeded> for NoShare {
    fn from(exceeded: QuotaExceeded) -> Self {
        Self::Quota(exceeded)
    }
}

/// Takes what the stream needs of the limits, apart from the number of all streams.
pub(super) fn take_shares(
    request: &HttpRequest,
    state: &AppState,
    caller: &Caller,
    channels: &[Channel],
    searches: bool,
) -> Result<StreamShares, NoShare> {
    if state.streams.drain.plan().is_some() {
        return Err(NoShare::Draining);
    }
    if !may_stream(request) {
        return Err(NoShare::ReservedConnection);
    }
    let quota = quota_of(request, state, caller);
    let permit = quota.open_stream()?;
    if searches {
        quota.take(LimitKind::Searches, 1)?;
    }
    let client = ClientNet::of_request(request);
    let reserved = state.hub.reserve(channels, client)?;
    Ok(StreamShares { reserved, permit })
}
