//! Replaces the access rules while the server runs.
//!
//! The file is read again only on a SIGHUP, never when it changes: a TOML file that is half written
//! is often a valid file with fewer callers, and would disconnect the others. For the same reason a
//! file without access rules is no reason to give every caller every right.

use tokio::sync::mpsc;

use crate::{access::AccessControl, config::Config};

const NO_RULES_ANY_MORE: &str = "the file has no access rules any more; restart the server if every \
                                 caller may do everything";
/// Streams that were opened without rules have no caller that could be checked.
const FIRST_RULES: &str = "the server was started without access rules, so its open streams cannot be \
                           checked; restart it to apply the rules";

/// Reads the access rules again for each message, until the sender is gone. A file with an error
/// changes nothing.
pub(super) async fn follow_reloads(
    config: Config,
    access: AccessControl,
    mut reloads: mpsc::Receiver<()>,
) {
    while reloads.recv().await.is_some() {
        match read_rules(&config, &access) {
            Ok(()) => tracing::info!("SIGHUP: the access rules were read again"),
            Err(error) => tracing::error!("SIGHUP changed nothing: {error}"),
        }
    }
}

fn read_rules(config: &Config, access: &AccessControl) -> Result<(), String> {
    let read = config.read_access_again()?;
    match (access.access().has_rules(), read.rules.is_restricted()) {
        (true, false) => return Err(NO_RULES_ANY_MORE.to_owned()),
        (false, true) => return Err(FIRST_RULES.to_owned()),
        _ => {}
    }
    for warning in &read.warnings {
        tracing::warn!("{warning}");
    }
    access.access().reload(read.rules);
    config.printed.set_access(read.printed);
    Ok(())
}
