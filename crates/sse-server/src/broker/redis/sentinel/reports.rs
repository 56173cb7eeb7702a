//! What sentinels report about a primary, and which report counts.

use std::collections::HashMap;

use redis::{Pipeline, Value};

use crate::broker::redis::target::ServerAddress;

/// What one sentinel reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) primary: ServerAddress,
    /// Configuration epoch: each failover has a higher one.
    pub(super) epoch: u64,
}

/// The commands whose replies [`parse_report`] expects.
///
/// `SENTINEL MASTER` has the epoch, but names the old primary until all replicas follow the new
/// one. `SENTINEL GET-MASTER-ADDR-BY-NAME` names the new one from its promotion on.
pub(super) fn report_commands(primary: &str) -> Pipeline {
    let mut commands = redis::pipe();
    commands
        .cmd("SENTINEL")
        .arg("GET-MASTER-ADDR-BY-NAME")
        .arg(primary)
        .cmd("SENTINEL")
        .arg("MASTER")
        .arg(primary);
    // A sentinel that does not know the primary replies with nil, and with an error.
    commands.ignore_errors();
    commands
}

/// Parses the replies to [`report_commands`]; returns `None` if the sentinel does not know the
/// primary.
pub(super) fn parse_report(replies: Vec<Value>) -> Option<Report> {
    let [address, master] = replies.try_into().ok()?;
    let (host, port): (String, String) = redis::from_redis_value(address).ok()?;
    let fields: HashMap<String, String> = redis::from_redis_value(master).ok()?;
    Some(Report {
        primary: ServerAddress::reported(&host, &port)?,
        epoch: fields.get("config-epoch")?.parse().ok()?,
    })
}

/// Chooses the report with the highest configuration epoch.
///
/// `known_epoch` is the highest one that this node has used. Reports of older epochs count only if
/// a majority of the `asked` sentinels replied: the sentinels were set up again then. A few that
/// are cut off from the others must not lead back to an old primary.
pub(super) fn newest_report(reports: &[Report], asked: usize, known_epoch: u64) -> Option<&Report> {
    let newest = reports.iter().max_by_key(|report| report.epoch)?;
    let counts = newest.epoch >= known_epoch || reports.len() > asked / 2;
    counts.then_some(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn report(port: &str, epoch: u64) -> Report {
        let primary = ServerAddress::reported("127.0.0.1", port).unwrap();
        Report { primary, epoch }
    }

    #[test]
    fn a_report_has_the_address_and_the_epoch() {
        let address = Value::Array(vec![text("127.0.0.1"), text("6379")]);
        let fields = ["name", "mine", "config-epoch", "4"].map(text);
        let master = Value::Array(fields.to_vec());
        assert_eq!(
            parse_report(vec![address.clone(), master.clone()]),
            Some(report("6379", 4))
        );
        for replies in [
            vec![],
            vec![Value::Nil, master],
            vec![address.clone(), Value::Nil],
            vec![address, Value::Array(vec![text("config-epoch"), text("x")])],
        ] {
            assert_eq!(parse_report(replies), None);
        }
    }

    #[test]
    fn the_highest_epoch_counts_and_a_minority_never_leads_back() {
        let (old, new) = (report("1", 3), report("2", 4));
        let both = [old.clone(), new.clone()];
        assert_eq!(newest_report(&both, 3, 0), Some(&new));
        assert_eq!(newest_report(&both[..1], 3, 3), Some(&old));
        assert_eq!(newest_report(&both[..1], 3, 4), None);
        assert_eq!(newest_report(&[old.clone(), old.clone()], 3, 4), Some(&old));
        assert_eq!(newest_report(&[], 3, 0), None);
    }
}
