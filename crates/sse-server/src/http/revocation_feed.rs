//! Reads the stored revocations for as long as the server runs.

use std::{
    collections::HashMap,
    time::{Duration, Instant, SystemTime},
};

use sse_cli::log_throttle::LogThrottle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    access::{
        AccessControl,
        revocations::{Revocation, Revocations},
    },
    broker::{
        Broker, BrokerError,
        revocations::{RevocationChange, StoredRevocation},
    },
    epoch::milliseconds,
};

/// Pause between two readings. A revocation takes effect within a second on every node.
const INTERVAL: Duration = Duration::from_millis(250);
const OUTAGE_LOG_INTERVAL: Duration = Duration::from_secs(30);

/// Reads the revocations again and again, until the server stops.
///
/// Without access rules no credential exists, and nothing is read.
pub async fn follow_revocations(
    broker: Broker,
    control: AccessControl,
    stopping: CancellationToken,
) {
    stopping
        .run_until_cancelled(follow(&broker, &control))
        .await;
}

async fn follow(broker: &Broker, control: &AccessControl) {
    let revocations = control.revocations();
    let mut version: Option<String> = None;
    let mut outage = LogThrottle::every(OUTAGE_LOG_INTERVAL);
    loop {
        let rules = control.version();
        if !control.access().has_rules() {
            control.changed_since(rules).await;
            continue;
        }
        match read(broker, revocations, version.as_deref()).await {
            Ok(Some(read)) => version = Some(read),
            Ok(None) => {}
            Err(error) => {
                if let Some(suppressed) = outage.record(Instant::now()) {
                    tracing::warn!(%error, suppressed, "the revocations of credentials cannot be read");
                }
            }
        }
        sleep(INTERVAL).await;
    }
}

/// Reads the revocations once.
pub(super) async fn read_now(
    broker: &Broker,
    revocations: &Revocations,
) -> Result<(), BrokerError> {
    read(broker, revocations, None).await.map(|_| ())
}

/// Reads the revocations if their version is not `known`, and returns the new version.
async fn read(
    broker: &Broker,
    revocations: &Revocations,
    known: Option<&str>,
) -> Result<Option<String>, BrokerError> {
    let Some(set) = broker.read_revocations(known).await? else {
        revocations.record_read();
        return Ok(None);
    };
    let now = SystemTime::now();
    let change = RevocationChange {
        remove: expired(&set.entries, now),
        // Texts of a newer version of the server, which this one does not understand, stay.
        add: restore(revocations.update(parse(set.entries), now)),
    };
    if !change.add.is_empty() {
        tracing::warn!(
            count = change.add.len(),
            "the log had lost revocations, which this node stores again"
        );
    }
    if !change.add.is_empty() || !change.remove.is_empty() {
        broker.change_revocations(change).await?;
    }
    Ok(Some(set.version))
}

fn parse(entries: Vec<StoredRevocation>) -> HashMap<Revocation, u64> {
    let parsed = entries.into_iter().filter_map(|entry| {
        let revocation = Revocation::from_text(&entry.text)?;
        Some((revocation, entry.until_ms))
    });
    parsed.collect()
}

fn restore(lost: Vec<(Revocation, u64)>) -> Vec<StoredRevocation> {
    let stored = lost
        .into_iter()
        .map(|(revocation, until_ms)| StoredRevocation {
            text: revocation.to_text(),
            until_ms,
        });
    stored.collect()
}

/// Returns the texts whose time has passed.
fn expired(entries: &[StoredRevocation], now: SystemTime) -> Vec<String> {
    let now_ms = milliseconds(now);
    let expired = entries.iter().filter(|entry| entry.until_ms <= now_ms);
    expired.map(|entry| entry.text.clone()).collect()
}
