//! What a publish takes of the quota of its caller.
//!
//! A publish with a declared length is rejected before its body is read. A publish that is rejected
//! later, for example because its JSON is malformed, gets nothing back.

use actix_web::HttpRequest;

use super::idempotency::Target;
use crate::{
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
        if self.quota.has_rate(LimitKind::Channels) {
            let client = target.publisher.client();
            let broker = state.hub.broker();
            if !broker.has_channel(&target.channel, client).await? {
                self.quota.take(LimitKind::Channels, 1)?;
            }
        }
        Ok(())
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
