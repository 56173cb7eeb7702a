//! What the handlers share.

use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web_lab::extract::LocalData;

use super::{
    BodyMemory, CommonHeaders, HistoryBudget, Origins, PublicUrl, Readiness, Rejections,
    RequestLimits, TrustedProxies,
};
use crate::{
    access_log::AccessLog, channel::Hub, fanout::streams::Streams, metrics::Metrics, quota::Quotas,
};

/// What every handler needs; each worker thread has a clone.
#[derive(Debug, Clone)]
pub struct AppState {
    /// The channels and the broker.
    pub hub: Hub,
    /// The metrics.
    pub metrics: Metrics,
    /// What a request may contain.
    pub limits: RequestLimits,
    /// Memory for the bodies of all requests.
    pub body_memory: Arc<BodyMemory>,
    /// Concurrency and memory for the responses of `GET /events`.
    pub history_budget: HistoryBudget,
    /// What happens when a request is rejected.
    pub rejections: Rejections,
    /// Origins whose pages may read or publish, and those of the server itself.
    pub origins: Origins,
    /// What each caller may use.
    pub quotas: Arc<Quotas>,
    /// The proxies whose reports about clients are believed.
    pub trusted_proxies: TrustedProxies,
    /// Headers of every response.
    pub common_headers: CommonHeaders,
    /// What streams are made from.
    pub streams: Streams,
    /// Where requests and streams are logged; `None` if the access log is off.
    pub access_log: Option<AccessLog>,
    /// The result of the last check of the broker.
    pub readiness: Readiness,
    /// Kind of the broker, for `/health/ready`.
    pub broker_name: &'static str,
}

/// Returns the URLs at which clients reach the server through a proxy.
pub(crate) fn public_urls(request: &HttpRequest) -> &[PublicUrl] {
    request
        .app_data::<LocalData<AppState>>()
        .map(|state| state.origins.public_urls())
        .unwrap_or_default()
}
