//! Reads the configuration and the certificates again while the server runs.
//!
//! This happens only on a SIGHUP, never when the file changes: a TOML file that is half written
//! is often a valid file with fewer callers, and would disconnect the others. For the same reason a
//! file without access rules is no reason to give every caller every right.
//!
//! A file with an error changes nothing. Settings that cannot change while the server runs are
//! reported, and keep their values.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::mpsc;

use super::{
    accept::Acceptor,
    connection_limits::{connection_limits, streams_max},
};
use crate::{
    access::AccessControl,
    broker::lifecycle::Classes,
    config::{Config, FileAccess, SettingValues},
    connections::ConnectionTable,
    fanout::{admission::Admission, stream_life::StreamLife},
    http::AppState,
    quota::CallerQuotas,
    tls::Certificates,
};

const NO_RULES_ANY_MORE: &str = "the file has no access rules any more; restart the server if every \
                                 caller may do everything";
/// Streams that were opened without rules have no caller that could be checked.
const FIRST_RULES: &str = "the server was started without access rules, so its open streams cannot be \
                           checked; restart it to apply the rules";
/// The keys of the settings that a reload applies.
const RELOADABLE: [&str; 9] = [
    "client_connections_max",
    "limit_bytes",
    "limit_channels",
    "limit_events",
    "limit_opens",
    "limit_searches",
    "limit_streams",
    "stream_life",
    "streams_max",
];

/// The parts of the server that a reload changes.
pub(super) struct Reloader {
    access: AccessControl,
    classes: Classes,
    quotas: Arc<CallerQuotas>,
    admission: Admission,
    life: StreamLife,
    connections: ConnectionTable,
    /// Connections that the limit of open files allows.
    connections_max: usize,
    /// `None` without TLS.
    certificates: Option<Certificates>,
}

/// Reads the configuration again for each message, until the sender is gone.
pub(super) async fn follow_reloads(
    mut config: Config,
    reloader: Reloader,
    mut reloads: mpsc::Receiver<()>,
) {
    while reloads.recv().await.is_some() {
        match reloader.reload(&config) {
            Ok(read) => {
                report_changes(&config.settings, &read.settings);
                config = config.with_reloaded(&read, &RELOADABLE);
            }
            Err(error) => tracing::error!("SIGHUP changed nothing: {error}"),
        }
    }
}

impl Reloader {
    /// Takes what a reload changes out of the parts of the server.
    pub(super) fn new(state: &AppState, acceptor: &Acceptor) -> Self {
        Self {
            access: state.access.clone(),
            classes: state.hub.broker().classes().clone(),
            quotas: state.quotas.clone(),
            admission: state.streams.admission.clone(),
            life: state.streams.life.clone(),
            connections: acceptor.connections.clone(),
            connections_max: acceptor.connections_max,
            certificates: state.certificates.clone(),
        }
    }

    /// Reads everything, and applies it if all of it is valid. Returns the settings as they were
    /// read.
    fn reload(&self, running: &Config) -> Result<Config, String> {
        let read = running.read_again()?;
        let access = running.read_access_again()?;
        self.check_rules(&access)?;
        if let Some(certificates) = &self.certificates {
            certificates
                .reload_all()
                .map_err(|error| format!("{:#}", anyhow::Error::new(error)))?;
        }
        for warning in &access.warnings {
            tracing::warn!("{warning}");
        }
        self.apply_limits(&read);
        self.apply_classes(&read);
        self.access.access().reload(access.rules);
        Ok(read)
    }

    fn check_rules(&self, read: &FileAccess) -> Result<(), String> {
        match (self.access.access().has_rules(), read.rules.is_restricted()) {
            (true, false) => Err(NO_RULES_ANY_MORE.to_owned()),
            (false, true) => Err(FIRST_RULES.to_owned()),
            _ => Ok(()),
        }
    }

    /// Replaces the classes of channels. Limits that become lower apply from the next write or sweep
    /// of a channel on.
    fn apply_classes(&self, read: &Config) {
        self.classes.replace(read.classes.clone());
    }

    fn apply_limits(&self, read: &Config) {
        let connections_max = self.connections_max;
        self.quotas.set_flags(read.limits);
        self.life.set(read.stream_life);
        self.admission
            .set_streams_max(streams_max(read.streams_max, connections_max));
        self.connections.set_limits(connection_limits(
            read.streams_max,
            read.client_connections_max,
            connections_max,
        ));
    }
}

/// Logs which settings have changed, and which of them need a restart.
fn report_changes(running: &SettingValues, read: &SettingValues) {
    let changed = changed_keys(running, read);
    let (applied, waiting): (Vec<_>, Vec<_>) = changed
        .into_iter()
        .partition(|key| RELOADABLE.contains(key));
    let applied: BTreeMap<_, _> = applied
        .into_iter()
        .map(|key| (key, shown(read.get(key))))
        .collect();
    tracing::info!(
        changed = ?applied,
        "SIGHUP: the configuration and the certificates were read again"
    );
    if !waiting.is_empty() {
        tracing::warn!(
            "these settings have changed, and need a restart: {}",
            waiting.join(", ")
        );
    }
}

/// Returns the keys that have another value, or only one of both has a value.
fn changed_keys<'a>(one: &'a SettingValues, other: &'a SettingValues) -> Vec<&'a str> {
    let keys = one.keys().chain(other.keys());
    let mut keys: Vec<&str> = keys
        .filter(|key| one.get(*key) != other.get(*key))
        .map(String::as_str)
        .collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn shown(values: Option<&Vec<String>>) -> String {
    values.map_or_else(|| "none".to_owned(), |values| values.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_were_added_removed_or_changed_are_found() {
        let values = |pairs: &[(&str, &str)]| -> SettingValues {
            let pairs = pairs.iter();
            pairs
                .map(|(key, value)| ((*key).to_owned(), vec![(*value).to_owned()]))
                .collect()
        };
        let one = values(&[("bind", "a"), ("log", "info"), ("hsts", "1d")]);
        let other = values(&[("bind", "b"), ("log", "info"), ("limit_events", "1/s")]);
        assert_eq!(changed_keys(&one, &other), ["bind", "hsts", "limit_events"]);
        assert!(changed_keys(&one, &one).is_empty());
    }
}
