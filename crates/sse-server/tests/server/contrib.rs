//! The alerts and the dashboard in `contrib/`: every query names metrics, and values of their
//! labels, that a server has, and the page for operators lists the alerts.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde_json::Value;
use tempfile::NamedTempFile;

use crate::common::{Backend, TestServer, skip};

const ALERTS: &str = include_str!("../../../../contrib/prometheus/alerts.yaml");
const DASHBOARD: &str = include_str!("../../../../contrib/grafana/sse-server.json");
const PAGE: &str = include_str!("../../../../docs/operations/metrics.md");

/// The labels of a metric, and the values of each.
type Labels = BTreeMap<String, BTreeSet<String>>;

/// Labels that Prometheus adds.
const ADDED: [&str; 3] = ["instance", "job", "le"];

/// Returns the expressions of the alerts.
fn alert_queries() -> Vec<String> {
    let lines = ALERTS.lines().map(str::trim);
    lines
        .filter_map(|line| Some(line.strip_prefix("expr: ")?.to_owned()))
        .collect()
}

/// Returns the expressions of the dashboard, with values in place of its variables.
fn dashboard_queries() -> Vec<String> {
    fn collect(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(query)) = fields.get("expr") {
                    found.push(
                        query
                            .replace("$__rate_interval", "5m")
                            .replace("$instance", ".*"),
                    );
                }
                fields.values().for_each(|field| collect(field, found));
            }
            Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    collect(&serde_json::from_str(DASHBOARD).unwrap(), &mut found);
    found
}

/// Returns the metrics that a query names, each with its matchers, such as `reason="trimmed"`.
fn selectors(query: &str) -> Vec<(&str, &str)> {
    let is_name = |char: char| char.is_ascii_alphanumeric() || char == '_';
    let mut found = Vec::new();
    let mut rest = query;
    while let Some(start) = rest.find(is_name) {
        let name_and_rest = &rest[start..];
        let end = name_and_rest.find(|char| !is_name(char));
        let (name, after) = name_and_rest.split_at(end.unwrap_or(name_and_rest.len()));
        let matchers = after
            .strip_prefix('{')
            .and_then(|after| after.split_once('}'));
        if name.starts_with("sse_") || name.starts_with("process_") {
            found.push((name, matchers.map_or("", |(matchers, _)| matchers)));
        }
        rest = matchers.map_or(after, |(_, after)| after);
    }
    found
}

/// Returns the samples of `/metrics`: the labels of each name.
fn samples(text: &str) -> BTreeMap<&str, Labels> {
    let mut samples = BTreeMap::<_, Labels>::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (sample, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
        let known = samples.entry(name).or_default();
        for (label, value) in parse_matchers(labels.trim_end_matches('}')) {
            known.entry(label).or_default().extend(value);
        }
    }
    samples
}

/// Parses `label="value"` and `label=~"value|value"`, separated by commas.
fn parse_matchers(text: &str) -> Vec<(String, Vec<String>)> {
    let mut matchers = Vec::new();
    for matcher in text.split("\",").filter(|matcher| !matcher.is_empty()) {
        let (label, values) = matcher.split_once('=').unwrap();
        let values = values.trim_start_matches('~').trim_matches('"');
        let values = values.split('|').map(str::to_owned).collect();
        matchers.push((label.trim().to_owned(), values));
    }
    matchers
}

/// Returns what `query` names that no sample has.
fn unknown_names(query: &str, samples: &BTreeMap<&str, Labels>) -> Vec<String> {
    let mut unknown = Vec::new();
    for (metric, matchers) in selectors(query) {
        let Some(labels) = samples.get(metric) else {
            unknown.push(metric.to_owned());
            continue;
        };
        for (label, values) in parse_matchers(matchers) {
            if ADDED.contains(&&*label) {
                continue;
            }
            let known = labels.get(&label);
            let is_unknown = |value: &String| !known.is_some_and(|known| known.contains(value));
            let values = values.into_iter().filter(is_unknown);
            unknown.extend(values.map(|value| format!("{metric}{{{label}={value}}}")));
        }
    }
    unknown
}

#[tokio::test]
async fn every_query_names_metrics_and_values_that_a_server_has() {
    let server = TestServer::start(Backend::Memory).await;
    let text = server.get("/metrics").await.unwrap().text().await.unwrap();
    let samples = samples(&text);
    let (alerts, dashboard) = (alert_queries(), dashboard_queries());
    assert!(alerts.len() > 20 && dashboard.len() > 40);
    for query in alerts.iter().chain(&dashboard) {
        assert_eq!(unknown_names(query, &samples), [""; 0], "{query}");
        assert!(
            !selectors(query).is_empty() || query.starts_with("up"),
            "{query}"
        );
    }
    // The check would find a metric or a value that does not exist.
    let wrong =
        r#"sum(rate(sse_gone_total[5m])) + sse_gaps_total{reason=~"trimmed|gone", job="x"}"#;
    assert_eq!(
        unknown_names(wrong, &samples),
        ["sse_gone_total", "sse_gaps_total{reason=gone}"]
    );
}

#[test]
fn the_page_for_operators_lists_every_alert() {
    let alerts = ALERTS
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    let rows = PAGE.lines().filter_map(|line| {
        let name = line.strip_prefix("| `")?.split('`').next()?;
        name.starts_with("Sse").then_some(name)
    });
    assert_eq!(rows.collect::<Vec<_>>(), alerts.collect::<Vec<_>>());
}

#[test]
fn prometheus_accepts_the_rules_and_the_queries_of_the_dashboard() {
    let promtool = std::env::var("PROMTOOL").unwrap_or_else(|_| "promtool".to_owned());
    if Command::new(&promtool).arg("--version").output().is_err() {
        skip("promtool is not installed (it is in Debian's package prometheus)");
        return;
    }
    let rules = NamedTempFile::new().unwrap();
    std::fs::write(&rules, ALERTS).unwrap();
    let queries = dashboard_queries();
    let records = queries.iter().enumerate().map(|(number, query)| {
        let query = Value::from(query.as_str());
        format!("      - record: query_{number}\n        expr: {query}\n")
    });
    let records: String = records.collect();
    let panels = NamedTempFile::new().unwrap();
    let text = format!("groups:\n  - name: panels\n    rules:\n{records}");
    std::fs::write(&panels, text).unwrap();
    for file in [rules.path(), panels.path()] {
        let output = Command::new(&promtool)
            .args(["check", "rules"])
            .arg(file)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{text}");
    }
}
