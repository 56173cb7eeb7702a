//! What the handlers share.

use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web_lab::extract::LocalData;

use super::{
    BodyMemory, CommonHeaders, Dashboard, HistoryBudget, KeepAliveRate, Origins, PublicUrl,
    Readiness, Rejections, RequestLimits, TrustedProxies,
};
use crate::{
    access::{AccessControl, revocations::UNREADABLE_MAX},
    access_log::AccessLog,
    audit_log::AuditLog,
    broker::{Warning, backup::BackupSettings},
    channel::Hub,
    fanout::streams::Streams,
    metrics::Metrics,
    quota::CallerQuotas,
    tls::Certificates,
    trace::Traces,
};

/// What every handler needs; each worker thread has a clone.
#[derive(Debug, Clone)]
pub struct AppState {
    /// Which callers exist, and what they may do.
    pub access: AccessControl,
    /// The channels and the broker.
    pub hub: Hub,
    /// The metrics.
    pub metrics: Metrics,
    /// What a request may contain.
    pub limits: RequestLimits,
    /// Memory for the bodies of all requests.
    pub body_memory: Arc<BodyMemory>,
    /// Concurrency and memory for the responses of `GET /events`, `GET /channels` and lists of
    /// `/admin`.
    pub history_budget: HistoryBudget,
    /// How often streaming publishes of one client keep their channels alive.
    pub keep_alives: KeepAliveRate,
    /// What happens when a request is rejected.
    pub rejections: Rejections,
    /// Origins whose pages may read or publish, and those of the server itself.
    pub origins: Origins,
    /// What each caller may use.
    pub quotas: Arc<CallerQuotas>,
    /// The proxies whose reports about clients are believed.
    pub trusted_proxies: TrustedProxies,
    /// Headers of every response.
    pub common_headers: CommonHeaders,
    /// What streams are made from.
    pub streams: Streams,
    /// Where requests and streams are logged; `None` if the access log is off.
    pub access_log: Option<AccessLog>,
    /// Where the actions of callers are logged; `None` if the audit log is off.
    pub audit_log: Option<AuditLog>,
    /// The certificates of TLS; `None` without TLS.
    pub certificates: Option<Certificates>,
    /// The result of the last check of the broker.
    pub readiness: Readiness,
    /// The open traces.
    pub traces: Traces,
    /// What the dashboard shows.
    pub dashboard: Dashboard,
    /// Where and how fast the log is copied.
    pub backups: Arc<BackupSettings>,
    /// Kind of the broker, for `/health/ready`.
    pub broker_name: &'static str,
}

impl AppState {
    /// Returns what an operator should know about certificates that expire soon.
    pub(crate) fn certificate_warnings(&self) -> Vec<Warning> {
        let certificates = self.certificates.iter();
        let expiring = certificates.flat_map(Certificates::expiry_warnings);
        expiring
            .map(|warning| Warning {
                code: "certificate_expires",
                message: warning.to_string(),
            })
            .collect()
    }

    /// Returns what an operator should know about the revocations; `None` if they are up to date.
    pub(crate) fn access_warning(&self) -> Option<Warning> {
        let is_stale =
            self.access.access().has_rules() && self.access.revocations().age() >= UNREADABLE_MAX;
        is_stale.then(|| Warning {
            code: "revocations_unreadable",
            message: "the revocations of credentials cannot be read, so new ones have no effect: \
                      check the broker"
                .to_owned(),
        })
    }
}

/// Returns the URLs at which clients reach the server through a proxy.
pub(crate) fn public_urls(request: &HttpRequest) -> &[PublicUrl] {
    request
        .app_data::<LocalData<AppState>>()
        .map(|state| state.origins.public_urls())
        .unwrap_or_default()
}
