//! The caller of a request: who sent it, and what they may do.
//!
//! Every handler takes a [`Caller`] as an argument, so no route can forget it. The extractor
//! verifies the credential (401); the handler then requires the right that it needs (403), before it
//! reads a body, the log or a cursor. So a response never shows whether a channel exists.
//!
//! | request | caller |
//! |---|---|
//! | there are no access rules | may do everything |
//! | no credential | has the rights of `[access.anonymous]` |
//! | a valid credential | has its rights, and not those of anonymous callers |
//! | a rejected one in a header or URL | 401 |
//! | a rejected cookie | anonymous: a browser sends it by itself, and an `EventSource` that gets a 401 never reconnects |
//! | the keys of the issuer, or the revocations, are not known yet | 503; a stream ends at once and names a time to reconnect |
//!
//! Limits count clients by their addresses: see `budget::client_net`.

use std::{
    future::{Ready, ready},
    sync::Arc,
};

use actix_web::{FromRequest, HttpRequest, dev::Payload};
use actix_web_lab::extract::LocalData;
use futures::{
    FutureExt as _,
    future::{Either, LocalBoxFuture},
};
use sse_proto::Channel;

use super::credential::PresentedCredential;
use crate::{
    access::{CredentialError, CredentialSource, Identity, RejectionWord, Right, ServerRight},
    http::{
        error::{ApiError, ApiResult},
        state::AppState,
    },
};

/// The caller of a request, as an extractor for handlers.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    identity: Arc<Identity>,
    /// `None` if the request has no credential that counts.
    source: Option<CredentialSource>,
    /// Why the cookie does not count.
    rejected: Option<RejectionWord>,
}

impl FromRequest for Caller {
    type Error = ApiError;
    type Future = Either<Ready<ApiResult<Self>>, LocalBoxFuture<'static, ApiResult<Self>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let Some(state) = request.app_data::<LocalData<AppState>>() else {
            return Either::Left(ready(Err(ApiError::AccessUnavailable)));
        };
        let presented = if state.access.has_rules() {
            let cookie = state.access.rules();
            PresentedCredential::of_request(request, cookie.cookie(), &state.origins)
        } else {
            Ok(None)
        };
        let presented = match presented {
            Ok(Some(presented)) => presented,
            Ok(None) => return Either::Left(ready(Ok(Self::anonymous(state, None)))),
            Err(error) => return Either::Left(ready(Err(error))),
        };
        let (text, source) = (presented.text, presented.source);
        // A credential that was verified before needs no wait.
        if let Some(caller) = Self::identify(state, &text, source).now_or_never() {
            return Either::Left(ready(caller));
        }
        let (state, text) = (state.clone(), text.into_owned());
        Either::Right(async move { Self::identify(&state, &text, source).await }.boxed_local())
    }
}

impl Caller {
    fn anonymous(state: &AppState, rejected: Option<RejectionWord>) -> Self {
        Self {
            identity: state.access.anonymous(),
            source: None,
            rejected,
        }
    }

    async fn identify(state: &AppState, text: &str, source: CredentialSource) -> ApiResult<Self> {
        let identified = state.access.identify(text, source).await;
        let checked = identified.and_then(|identity| {
            state.revocations.check(&identity)?;
            Ok(identity)
        });
        match checked {
            Ok(identity) => Ok(Self {
                identity,
                source: Some(source),
                rejected: None,
            }),
            Err(CredentialError::Rejected(word)) if source == CredentialSource::Cookie => {
                Ok(Self::anonymous(state, Some(word)))
            }
            Err(CredentialError::Rejected(word)) => Err(ApiError::Unauthorized(Some(word))),
            Err(CredentialError::Unavailable) => Err(ApiError::AccessUnavailable),
        }
    }

    /// Returns who the caller is, and what they may do.
    pub(crate) const fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// Whether the credential is in the `Authorization` header.
    pub(crate) fn has_header(&self) -> bool {
        self.source == Some(CredentialSource::Header)
    }

    /// Rejects a caller that has `right` for no channel at all.
    pub(crate) fn require_some(&self, right: Right) -> ApiResult<()> {
        if self.identity.rights().patterns(right).is_empty() {
            return Err(self.lacks(right.as_str(), Vec::new()));
        }
        Ok(())
    }

    /// Rejects a caller that lacks `right` for one of the channels.
    pub(crate) fn require(&self, right: Right, channels: &[Channel]) -> ApiResult<()> {
        let rights = self.identity.rights();
        if channels.iter().all(|channel| rights.permits(right, channel)) {
            return Ok(());
        }
        let lacking = channels
            .iter()
            .filter(|channel| !rights.permits(right, channel));
        Err(self.lacks(right.as_str(), lacking.cloned().collect()))
    }

    /// Rejects a caller that lacks a right for the whole server.
    pub(crate) fn require_server(&self, right: ServerRight) -> ApiResult<()> {
        if self.identity.rights().permits_server(right) {
            return Ok(());
        }
        Err(self.lacks(right.as_str(), Vec::new()))
    }

    /// Returns 401 for an anonymous caller, who may try a credential, and 403 for all others.
    fn lacks(&self, right: &'static str, channels: Vec<Channel>) -> ApiError {
        if self.source.is_none() {
            return ApiError::Unauthorized(self.rejected);
        }
        ApiError::InsufficientScope { right, channels }
    }
}
