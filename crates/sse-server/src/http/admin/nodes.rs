//! `GET /admin/nodes`: the nodes that share the broker. An in-process log has one.
//!
//! Over Redis each node reports every five seconds, and a report that is older than some seconds is
//! no longer listed. Other programs can write to the same Redis, so reports are checked.

use std::time::{Duration, SystemTime};

use actix_web::{HttpRequest, HttpResponse};
use actix_web_lab::extract::LocalData;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{lag::measure_lag, permission::check_permission};
use crate::{
    access::ServerRight,
    broker::nodes::StoredReport,
    epoch::milliseconds,
    http::{access::caller::Caller, error::ApiResult, request::query::Params, state::AppState},
};

/// Pause between two reports of a node.
const INTERVAL: Duration = Duration::from_secs(5);
/// Nodes that are listed.
const NODES_MAX: usize = 200;
/// Addresses of a node that are listed.
const ADDRESSES_MAX: usize = 16;
/// Longest text of a report, in bytes.
const TEXT_BYTES_MAX: usize = 300;

/// Where a node is found.
#[derive(Debug, Clone)]
pub struct NodeAddress {
    /// A random text that distinguishes the nodes.
    pub id: String,
    /// Name of the machine, if it is known.
    pub host: Option<String>,
    /// URLs of the listening sockets.
    pub addresses: Vec<String>,
}

/// What a node reports about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct NodeReport {
    host: Option<String>,
    addresses: Vec<String>,
    version: String,
    started_ms: u64,
    streams: u64,
    behind_tail: u64,
    /// How far the slowest stream is behind.
    lag_ms: u64,
}

/// A node as it is listed.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Node {
    id: String,
    /// Whether it is the node that responds.
    is_self: bool,
    age_ms: u64,
    #[serde(flatten)]
    report: NodeReport,
}

impl NodeAddress {
    /// The address of this process, which listens at `addresses`.
    #[must_use]
    pub fn of_this_process(addresses: Vec<String>) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        Self {
            id: format!("{:016x}", rand::random::<u64>()),
            host: host.map(|host| host.trim().to_owned()),
            addresses: addresses.into_iter().take(ADDRESSES_MAX).collect(),
        }
    }
}

/// Reports this node to the others until `stopping` is cancelled.
pub async fn report_node(state: AppState, stopping: CancellationToken) {
    let broker = state.hub.broker();
    if !broker.is_shared() {
        return;
    }
    let mut tick = interval(INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut report = async || {
        tick.tick().await;
        let report = own_report(&state).await;
        let text = serde_json::to_string(&report).unwrap_or_default();
        let id = &state.dashboard.address().id;
        if let Err(error) = broker.report_node(id, &text).await {
            tracing::debug!(%error, "this node was not reported to the others");
        }
    };
    while stopping.run_until_cancelled(report()).await.is_some() {}
}

async fn own_report(state: &AppState) -> NodeReport {
    let address = state.dashboard.address();
    let (streams, behind_tail) = state.metrics.stream_counts();
    NodeReport {
        host: address.host.clone(),
        addresses: address.addresses.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_ms: state.dashboard.started_ms(),
        streams,
        behind_tail,
        lag_ms: measure_lag(state).await.max_ms,
    }
}

/// Lists the nodes: this one first, the others in the order of their ids.
pub(crate) async fn nodes(
    request: HttpRequest,
    state: LocalData<AppState>,
    caller: Caller,
) -> ApiResult<HttpResponse> {
    check_permission(&request, &state, &caller, ServerRight::Observe)?;
    Params::parse_any(request.query_string())?.check_known(&[])?;
    let own = Node {
        id: state.dashboard.address().id.clone(),
        is_self: true,
        age_ms: 0,
        report: own_report(&state).await,
    };
    let now_ms = milliseconds(SystemTime::now());
    let reports = state.hub.broker().node_reports().await?;
    let nodes = list(own, reports);
    Ok(HttpResponse::Ok().json(json!({
        "shared": state.hub.broker().is_shared(),
        "time_ms": now_ms,
        "nodes": nodes,
    })))
}

fn list(own: Node, reports: Vec<StoredReport>) -> Vec<Node> {
    let others = reports.into_iter().filter(|report| report.node != own.id);
    let mut nodes: Vec<Node> = others.filter_map(parse_report).collect();
    nodes.sort_by(|one, other| one.id.cmp(&other.id));
    nodes.insert(0, own);
    nodes.truncate(NODES_MAX);
    nodes
}

/// Returns the node of a report; `None` if no node wrote it.
fn parse_report(stored: StoredReport) -> Option<Node> {
    let report: NodeReport = serde_json::from_str(&stored.text).ok()?;
    let is_short = |text: &String| text.len() <= TEXT_BYTES_MAX;
    let is_valid = report.addresses.len() <= ADDRESSES_MAX
        && report.addresses.iter().all(is_short)
        && report.host.as_ref().is_none_or(is_short)
        && is_short(&report.version)
        && is_short(&stored.node);
    is_valid.then_some(Node {
        id: stored.node,
        is_self: false,
        age_ms: stored.age_ms,
        report,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(version: &str) -> NodeReport {
        NodeReport {
            host: None,
            addresses: vec!["http://127.0.0.1:1".to_owned()],
            version: version.to_owned(),
            started_ms: 1,
            streams: 2,
            behind_tail: 0,
            lag_ms: 0,
        }
    }

    fn stored(node: &str, text: String) -> StoredReport {
        StoredReport {
            node: node.to_owned(),
            text,
            age_ms: 7,
        }
    }

    #[test]
    fn only_reports_of_other_nodes_are_listed_beside_this_one() {
        let own = Node {
            id: "m".to_owned(),
            is_self: true,
            age_ms: 0,
            report: report("1"),
        };
        let text = |version: &str| serde_json::to_string(&report(version)).unwrap();
        let reports = vec![
            stored("z", text("2")),
            stored("m", text("1")),
            stored("a", text("3")),
            stored("b", "no report".to_owned()),
            stored("c", text(&"x".repeat(1000))),
        ];
        let nodes = list(own, reports);
        let found: Vec<_> = nodes
            .iter()
            .map(|node| (&*node.id, &*node.report.version, node.age_ms))
            .collect();
        assert_eq!(found, [("m", "1", 0), ("a", "3", 7), ("z", "2", 7)]);
    }
}
