//! The lines of the audit log: one per request that used a right, or was rejected for the lack of
//! one.
//!
//! A request gets an [`AuditNote`]. The [`Caller`](super::access::caller::Caller) writes into it who
//! the caller is, and which right a handler required for which channels. So a new route is in the
//! audit log without any code of its own. Requests that need no right, such as health checks and
//! preflights, have no line.

use std::{cell::RefCell, net::IpAddr, rc::Rc, sync::Arc, time::SystemTime};

use actix_web::{
    Error, HttpMessage as _,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::{Method, StatusCode},
    middleware::Next,
};
use actix_web_lab::extract::LocalData;
use sse_proto::Channel;

use super::{rejections::Rejection, request_log::ResponseNote, state::AppState};
use crate::{
    access::Identity,
    audit_log::{AuditLog, AuditRecord, NO_RESPONSE, OK},
};

/// The action of a request whose credential was rejected before a right was required.
const AUTHENTICATE: &str = "authenticate";
/// Results of a request whose caller is not known, beside those with the status 401 and 403.
const UNIDENTIFIED: [&str; 2] = ["conflicting_credentials", "access_unavailable"];
/// Most bytes of a path or a method that are kept.
const TEXT_BYTES_MAX: usize = 512;

/// What is known of a request so far; clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct AuditNote(Rc<RefCell<Draft>>);

#[derive(Debug, Default)]
struct Draft {
    identity: Option<Arc<Identity>>,
    action: Option<&'static str>,
    channels: Vec<Channel>,
    target: Option<String>,
}

impl AuditNote {
    /// Sets who the caller is.
    pub(super) fn set_identity(&self, identity: &Arc<Identity>) {
        self.0.borrow_mut().identity = Some(identity.clone());
    }

    /// Sets the right that the request needs, and for which channels.
    pub(super) fn set_action(&self, right: &'static str, channels: &[Channel]) {
        let mut draft = self.0.borrow_mut();
        draft.action = Some(right);
        channels.clone_into(&mut draft.channels);
    }

    /// Returns who the caller is, the right that it needs and the channels that it names, as far as
    /// they are known.
    pub(super) fn facts(&self) -> (Option<Arc<Identity>>, Option<&'static str>, Vec<Channel>) {
        let draft = self.0.borrow();
        let (identity, channels) = (draft.identity.clone(), draft.channels.clone());
        (identity, draft.action, channels)
    }

    /// Sets what the caller acts on, beside channels.
    pub(super) fn set_target(&self, target: String) {
        self.0.borrow_mut().target = Some(target);
    }
}

/// Middleware: writes the audit log.
///
/// # Errors
///
/// Those of the services inside.
pub async fn audit_requests<B: MessageBody>(
    state: LocalData<AppState>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let Some(log) = &state.audit_log else {
        return next.call(request).await;
    };
    let mut pending = Pending::new(log.clone(), &request);
    request.extensions_mut().insert(pending.note.clone());
    let response = next.call(request).await.inspect_err(|error| {
        pending.status = Some(error.as_response_error().status_code());
    })?;
    let head = response.response();
    pending.status = Some(head.status());
    if let Some(rejection) = head.extensions().get::<Rejection>() {
        pending.result = rejection.code;
        pending.reason = is_denial(head.status()).then(|| rejection.message.clone());
    } else if let Some(ResponseNote::Rejected(reason)) = head.extensions().get() {
        pending.result = reason;
    } else {
        pending.result = OK;
    }
    Ok(response)
}

const fn is_denial(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

/// The line of a request that has no response yet. It is recorded on drop, because a client that is
/// gone may have published before.
struct Pending {
    log: AuditLog,
    note: AuditNote,
    address: Option<IpAddr>,
    method: Method,
    path: String,
    status: Option<StatusCode>,
    result: &'static str,
    reason: Option<String>,
}

impl Pending {
    fn new(log: AuditLog, request: &ServiceRequest) -> Self {
        Self {
            log,
            note: AuditNote::default(),
            address: request.peer_addr().map(|peer| peer.ip()),
            method: request.method().clone(),
            path: shortened(request.path()),
            status: None,
            result: NO_RESPONSE,
            reason: None,
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let draft = self.note.0.take();
        let is_denied = self.status.is_some_and(is_denial);
        let has_failed = is_denied || UNIDENTIFIED.contains(&self.result);
        // Without a right and without a rejection there is nothing that the caller did.
        let Some(action) = draft.action.or(has_failed.then_some(AUTHENTICATE)) else {
            return;
        };
        let identity = draft.identity.as_deref();
        self.log.record(AuditRecord {
            time: SystemTime::now(),
            identity: identity.map(|identity| identity.principal().to_json()),
            caller: identity.and_then(Identity::owner_number),
            address: self.address,
            action,
            channels: draft.channels.iter().map(ToString::to_string).collect(),
            target: draft.target,
            method: shortened(self.method.as_str()),
            path: std::mem::take(&mut self.path),
            status: self.status.map(|status| status.as_u16()),
            result: self.result,
            reason: self.reason.take(),
        });
    }
}

fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
}
