//! What a publish takes of the quota of its caller.
//!
//! A publish with a declared length is rejected before its body is read. A publish that is rejected
//! later, for example because its JSON is malformed, gets nothing back. Other requests that create
//! channels take them out of the same quota.

use actix_web::HttpRequest;
use sse_proto::Channel;

use super::idempotency::Target;
use crate::{
    broker::Publisher,
    budget::ClientNet,
    http::{
        access::{caller::Caller, caller_quota::quota_of},
        error::ApiResult,
        request::body::declared_length,
        state::AppState,
    },
    quota::{CallerQuota, LimitKind},
};

/// The quota of the caller of a publish.
pub(super) struct PublishQuota {
    quota: CallerQuota,
    /// The bytes of the body are taken.
    has_bytes: bool,
}

impl PublishQuota {
    /// Takes what is known before the body is read: events, and its declared length.
    pub(super) fn take(
        request: &HttpRequest,
        state: &AppState,
        caller: &Caller,
        events: usize,
    ) -> ApiResult<Self> {
        let quota = quota_of(request, state, caller);
        quota.take(LimitKind::Events, events)?;
        let length = declared_length(request.headers());
        quota.take(LimitKind::Bytes, length.unwrap_or(0))?;
        Ok(Self {
            quota,
            has_bytes: length.is_some(),
        })
    }

    /// Returns the quota of a publish whose lines are counted as they arrive.
    pub(super) fn of_lines(request: &HttpRequest, state: &AppState, caller: &Caller) -> Self {
        Self {
            quota: quota_of(request, state, caller),
            has_bytes: false,
        }
    }

    /// Takes a new channel, if the publish creates it.
    pub(super) async fn take_channel(&self, state: &AppState, target: &Target) -> ApiResult<()> {
        let (client, channel) = (target.publisher.client(), &target.channel);
        take_new_channels(&self.quota, state, client, [channel]).await
    }

    /// Takes the new channels that a publish to several channels creates.
    pub(super) async fn take_channels<'c>(
        &self,
        state: &AppState,
        publisher: Publisher,
        channels: impl IntoIterator<Item = &'c Channel>,
    ) -> ApiResult<()> {
        take_new_channels(&self.quota, state, publisher.client(), channels).await
    }

    /// Takes events that the body contains.
    pub(super) fn take_events(&self, events: usize) -> ApiResult<()> {
        Ok(self.quota.take(LimitKind::Events, events)?)
    }

    /// Takes the bytes of a body whose length was not declared.
    pub(super) fn take_body(&self, bytes: usize) -> ApiResult<()> {
        if self.has_bytes {
            return Ok(());
        }
        Ok(self.quota.take(LimitKind::Bytes, bytes)?)
    }
}

/// Takes those of the channels that do not exist yet, all or none.
///
/// # Errors
///
/// The caller may not create that number of channels, or the log does not respond.
pub(super) async fn take_new_channels<'c>(
    quota: &CallerQuota,
    state: &AppState,
    client: Option<ClientNet>,
    channels: impl IntoIterator<Item = &'c Channel>,
) -> ApiResult<()> {
    if !quota.has_rate(LimitKind::Channels) {
        return Ok(());
    }
    let broker = state.hub.broker();
    let mut new = 0;
    for channel in channels {
        // A channel may have settings or an end, and no event.
        let exists =
            broker.has_channel(channel, client).await? || broker.describe(channel).await?.is_some();
        new += usize::from(!exists);
    }
    Ok(quota.take(LimitKind::Channels, new)?)
}
