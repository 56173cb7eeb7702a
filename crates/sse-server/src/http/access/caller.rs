//! The caller of a request: who sent it, and what they may do.
//!
//! Every handler that reads, publishes or observes takes a [`Caller`] as an argument. The extractor
//! verifies the credential (401); the handler then requires the right that it needs (403), before it
//! reads a body, the log or a cursor. So a response never shows whether a channel exists.
//!
//! | request | caller |
//! |---|---|
//! | there are no access rules | may do everything |
//! | no credential | has the rights of `[access.anonymous]` |
//! | a valid credential | has its rights, and those of anonymous callers |
//! | a rejected one in a header or URL | 401 |
//! | a rejected cookie | anonymous: a browser sends it by itself, and an `EventSource` that gets a 401 never reconnects |
//! | the keys of the issuer, or the revocations, are not known yet | 503; a stream ends at once and names a time to reconnect |
//!
//! Quotas count callers (`caller_quota`), and the limits of what all clients share count clients by
//! their addresses (`budget::client_net`).

use std::{
    future::{Ready, ready},
    net::IpAddr,
    sync::Arc,
    time::SystemTime,
};

use actix_web::{FromRequest, HttpMessage as _, HttpRequest, dev::Payload};
use actix_web_lab::extract::LocalData;
use futures::{
    FutureExt as _,
    future::{Either, LocalBoxFuture},
};
use sse_proto::Channel;

use super::credential::PresentedCredential;
use crate::{
    access::{
        AccessControl, AccessVersion, CredentialError, CredentialSource, Identity, Pattern,
        RejectionWord, Right, ServerRight,
    },
    budget::ClientNet,
    fanout::stream_caller::StreamCaller,
    http::{
        audit::AuditNote,
        error::{ApiError, ApiResult},
        state::AppState,
    },
    quota::Limits,
};

/// The caller of a request, as an extractor for handlers.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    control: AccessControl,
    identity: Arc<Identity>,
    /// The state of the access control before the credential was checked.
    version: AccessVersion,
    /// `None` if the request has no credential that counts.
    source: Option<CredentialSource>,
    /// Why the cookie does not count.
    rejected: Option<RejectionWord>,
    /// What the audit log records; `None` if it is off.
    audit: Option<AuditNote>,
}

impl FromRequest for Caller {
    type Error = ApiError;
    type Future = Either<Ready<ApiResult<Self>>, LocalBoxFuture<'static, ApiResult<Self>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let Some(state) = request.app_data::<LocalData<AppState>>() else {
            return Either::Left(ready(Err(ApiError::AccessUnavailable)));
        };
        let presented = if state.access.access().has_rules() {
            let rules = state.access.access().rules();
            PresentedCredential::of_request(request, rules.cookie().unwrap_or(""), &state.origins)
        } else {
            Ok(None)
        };
        let audit = request.extensions().get::<AuditNote>().cloned();
        let presented = match presented {
            Ok(Some(presented)) => presented,
            Ok(None) => {
                let caller = Self::anonymous(state, None).audited_by(audit);
                return Either::Left(ready(Ok(caller)));
            }
            Err(error) => return Either::Left(ready(Err(error))),
        };
        let (text, source) = (presented.text, presented.source);
        let client = ClientNet::of_request(request);
        // A credential that was verified before needs no wait.
        if let Some(caller) = Self::identify(state, &text, source, client).now_or_never() {
            return Either::Left(ready(caller.map(|caller| caller.audited_by(audit))));
        }
        let (state, text) = (state.clone(), text.into_owned());
        let identified = async move {
            let caller = Self::identify(&state, &text, source, client).await;
            caller.map(|caller| caller.audited_by(audit))
        };
        Either::Right(identified.boxed_local())
    }
}

impl Caller {
    fn anonymous(state: &AppState, rejected: Option<RejectionWord>) -> Self {
        Self {
            control: state.access.clone(),
            version: state.access.version(),
            identity: state.access.access().anonymous(),
            source: None,
            rejected,
            audit: None,
        }
    }

    /// Lets the audit log record who the caller is, and what it does.
    fn audited_by(mut self, audit: Option<AuditNote>) -> Self {
        if let Some(audit) = &audit {
            audit.set_identity(&self.identity);
        }
        self.audit = audit;
        self
    }

    /// Records for the audit log what the caller acts on, beside channels.
    pub(crate) fn note_target(&self, target: impl FnOnce() -> String) {
        if let Some(audit) = &self.audit {
            audit.set_target(target());
        }
    }

    /// Records for the audit log the right that the request needs.
    pub(crate) fn note_action(&self, right: &'static str, channels: &[Channel]) {
        if let Some(audit) = &self.audit {
            audit.set_action(right, channels);
        }
    }

    async fn identify(
        state: &AppState,
        text: &str,
        source: CredentialSource,
        client: Option<ClientNet>,
    ) -> ApiResult<Self> {
        let version = state.access.version();
        match state.access.identify(text, source, client).await {
            Ok(identity) => Ok(Self {
                control: state.access.clone(),
                identity,
                version,
                source: Some(source),
                rejected: None,
                audit: None,
            }),
            Err(CredentialError::Rejected(word)) if source == CredentialSource::Cookie => {
                Ok(Self::anonymous(state, Some(word)))
            }
            Err(CredentialError::Rejected(word)) => Err(ApiError::Unauthorized(Some(word))),
            Err(CredentialError::Unavailable) => Err(ApiError::AccessUnavailable),
        }
    }

    /// Returns the caller with what it may do now. Call it after the body was read, and require the
    /// right again: a credential may expire or be revoked while a client sends.
    ///
    /// # Errors
    ///
    /// `Unauthorized`: the credential is not valid any more.
    pub(crate) fn after_wait(mut self) -> ApiResult<Self> {
        if !is_valid_now(&self.identity) {
            return Err(ApiError::Unauthorized(Some(RejectionWord::Expired)));
        }
        let version = self.control.version();
        if version == self.version {
            return Ok(self);
        }
        match self.control.recheck(&self.identity) {
            Ok(identity) => (self.identity, self.version) = (identity, version),
            Err(CredentialError::Rejected(word)) => return Err(ApiError::Unauthorized(Some(word))),
            // Nothing is known to be wrong.
            Err(CredentialError::Unavailable) => {}
        }
        Ok(self)
    }

    /// Returns who the caller is, and what they may do.
    pub(crate) const fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// Returns what an open stream keeps of its caller, who needs `right` for its channels; `None` if
    /// there are no access rules.
    pub(crate) fn stream_caller(
        &self,
        address: Option<IpAddr>,
        right: Right,
    ) -> Option<StreamCaller> {
        let control = &self.control;
        control.access().has_rules().then(|| {
            StreamCaller::new(
                control.clone(),
                self.identity.clone(),
                self.version,
                right,
                address,
            )
        })
    }

    /// Returns the number of the caller's principal and its limits; `None` if it is anonymous.
    pub(crate) fn quota_principal(&self) -> Option<(u64, &Limits)> {
        let number = self.identity.owner_number()?;
        Some((number, self.identity.limits()))
    }

    /// Whether the credential is in the `Authorization` header.
    pub(crate) fn has_header(&self) -> bool {
        self.source == Some(CredentialSource::Header)
    }

    /// Rejects a caller that has `right` for no channel at all.
    pub(crate) fn require_some(&self, right: Right) -> ApiResult<()> {
        self.note_action(right.as_str(), &[]);
        if self.control.permits_some(&self.identity, right) {
            return Ok(());
        }
        Err(self.lacks(right.as_str(), Vec::new()))
    }

    /// Rejects a caller that lacks `right` for one of the channels.
    pub(crate) fn require(&self, right: Right, channels: &[Channel]) -> ApiResult<()> {
        self.note_action(right.as_str(), channels);
        let permits = |channel: &&Channel| self.control.permits(&self.identity, right, channel);
        if channels.iter().all(|channel| permits(&channel)) {
            return Ok(());
        }
        let lacking = channels.iter().filter(|channel| !permits(channel));
        Err(self.lacks(right.as_str(), lacking.map(ToString::to_string).collect()))
    }

    /// Rejects a caller that has none of `rights` for any channel.
    pub(crate) fn require_some_of(&self, rights: &[Right]) -> ApiResult<()> {
        let mut results = rights.iter().map(|right| self.require_some(*right));
        let first = results.next().unwrap_or(Ok(()));
        first.or_else(|error| results.find(Result::is_ok).unwrap_or(Err(error)))
    }

    /// Rejects a caller that has none of `rights` for `channel`.
    pub(crate) fn require_one_of(&self, rights: &[Right], channel: &Channel) -> ApiResult<()> {
        let channels = std::slice::from_ref(channel);
        let mut results = rights.iter().map(|right| self.require(*right, channels));
        let first = results.next().unwrap_or(Ok(()));
        first.or_else(|error| results.find(Result::is_ok).unwrap_or(Err(error)))
    }

    /// Whether the caller has one of `rights` for `channel`. It is no action of the caller, so the
    /// audit log does not record it.
    pub(crate) fn has_one_of(&self, rights: &[Right], channel: &Channel) -> bool {
        let mut rights = rights.iter();
        rights.any(|right| self.control.permits(&self.identity, *right, channel))
    }

    /// Returns the patterns for which the caller may have one of `rights`. Each channel still has to
    /// be checked.
    pub(crate) fn patterns(&self, rights: &[Right]) -> Vec<Pattern> {
        let rights = rights.iter();
        rights
            .flat_map(|right| self.control.patterns(&self.identity, *right))
            .collect()
    }

    /// Rejects a caller that lacks a right for the whole server.
    pub(crate) fn require_server(&self, right: ServerRight) -> ApiResult<()> {
        self.note_action(right.as_str(), &[]);
        if self.permits_server(right) {
            return Ok(());
        }
        Err(self.lacks(right.as_str(), Vec::new()))
    }

    /// Whether the caller still has a right for the whole server, for a response that takes long.
    pub(crate) fn still_has(&self, right: ServerRight) -> bool {
        !self.control.access().has_rules()
            || self.control.recheck(&self.identity).is_ok_and(|identity| {
                is_valid_now(&identity) && self.control.permits_server(&identity, right)
            })
    }

    /// Whether the caller has a right for the whole server.
    pub(crate) fn permits_server(&self, right: ServerRight) -> bool {
        self.control.permits_server(&self.identity, right)
    }

    /// Returns 401 for an anonymous caller, who may try a credential, and 403 for all others.
    fn lacks(&self, right: &'static str, channels: Vec<String>) -> ApiError {
        if self.source.is_none() {
            return ApiError::Unauthorized(self.rejected);
        }
        ApiError::InsufficientScope { right, channels }
    }
}

/// Whether the credential has not expired.
fn is_valid_now(identity: &Identity) -> bool {
    let until = identity.valid_until();
    until.is_none_or(|until| until > SystemTime::now())
}
