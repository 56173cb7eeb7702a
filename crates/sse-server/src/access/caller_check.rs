//! Rules and revocations together: what decides on a caller, and on whether an open stream may
//! continue.

use std::sync::Arc;

use sse_proto::Channel;

use super::{
    Access, CredentialError, CredentialSource, Identity, Pattern, Principal, Right, ServerRight,
    revocations::{Revocations, UNREADABLE_MAX},
};
use crate::budget::ClientNet;

/// The access control of a server; clones share it.
#[derive(Debug, Clone)]
pub struct AccessControl {
    access: Access,
    revocations: Revocations,
}

/// The state of rules, keys and revocations. A caller that was checked in another state must be
/// checked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessVersion {
    generation: u64,
    revocations: u64,
}

impl AccessControl {
    /// Combines rules with the revocations of the server.
    #[must_use]
    pub const fn new(access: Access, revocations: Revocations) -> Self {
        Self {
            access,
            revocations,
        }
    }

    /// Returns the rules.
    #[must_use]
    pub const fn access(&self) -> &Access {
        &self.access
    }

    /// Returns the revocations.
    #[must_use]
    pub const fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// Returns who a credential belongs to that `client` has sent, unless it is revoked.
    ///
    /// # Errors
    ///
    /// Those of [`Access::identify_of_client`] and [`Revocations::check`].
    pub async fn identify(
        &self,
        text: &str,
        source: CredentialSource,
        client: Option<ClientNet>,
    ) -> Result<Arc<Identity>, CredentialError> {
        let identity = self.access.identify_of_client(text, source, client).await?;
        self.check_revocations(&identity)?;
        Ok(identity)
    }

    /// Returns the identity of an open stream with the rights that it has now.
    ///
    /// # Errors
    ///
    /// Those of [`Access::recheck`] and [`Revocations::check`]. After `Unavailable` the stream
    /// continues, because nothing is known to be wrong.
    pub fn recheck(&self, identity: &Arc<Identity>) -> Result<Arc<Identity>, CredentialError> {
        // A lost right counts even while the revocations cannot be read.
        let present = self.access.recheck(identity)?;
        if *present.principal() != Principal::Anonymous {
            self.revocations.check(&present)?;
        }
        Ok(present)
    }

    /// Returns whether a caller has a right for a channel. What anonymous callers may do, every
    /// caller may do: otherwise a page could not read its own channels and public ones with one
    /// stream.
    #[must_use]
    pub fn permits(&self, identity: &Identity, right: Right, channel: &Channel) -> bool {
        identity.rights().permits(right, channel)
            || self.access.anonymous().rights().permits(right, channel)
    }

    /// Returns whether a caller has a right for some channel.
    #[must_use]
    pub fn permits_some(&self, identity: &Identity, right: Right) -> bool {
        let anonymous = self.access.anonymous();
        [identity.rights(), anonymous.rights()]
            .iter()
            .any(|rights| !rights.patterns(right).is_empty())
    }

    /// Returns the patterns of which one matches each channel for which a caller has a right. A
    /// ticket may have less than its patterns.
    #[must_use]
    pub fn patterns(&self, identity: &Identity, right: Right) -> Vec<Pattern> {
        let anonymous = self.access.anonymous();
        let rights = [identity.rights(), anonymous.rights()];
        rights
            .iter()
            .flat_map(|rights| rights.patterns(right))
            .cloned()
            .collect()
    }

    /// Returns whether a caller has a right for the server.
    #[must_use]
    pub fn permits_server(&self, identity: &Identity, right: ServerRight) -> bool {
        identity.rights().permits_server(right)
            || self.access.anonymous().rights().permits_server(right)
    }

    fn check_revocations(&self, identity: &Identity) -> Result<(), CredentialError> {
        match identity.principal() {
            Principal::Anonymous => return Ok(()),
            Principal::Subject { .. } | Principal::Ticket { .. }
                if self.is_too_old_for_tokens() =>
            {
                return Err(CredentialError::Unavailable);
            }
            Principal::Key { .. } | Principal::Subject { .. } | Principal::Ticket { .. } => {}
        }
        self.revocations.check(identity)
    }

    fn is_too_old_for_tokens(&self) -> bool {
        self.access.rules().revocation_is_strict() && self.revocations.age() >= UNREADABLE_MAX
    }

    /// Returns the present state. Read it before a check: a change in between is noticed then.
    #[must_use]
    pub fn version(&self) -> AccessVersion {
        AccessVersion {
            generation: self.access.generation(),
            revocations: self.revocations.version(),
        }
    }

    /// Waits until the state differs from `seen`.
    pub async fn changed_since(&self, seen: AccessVersion) {
        let mut generation = self.access.watch_generation();
        let mut revocations = self.revocations.watch();
        tokio::select! {
            // An error means that the server ends.
            _ = generation.wait_for(|now| *now != seen.generation) => {}
            _ = revocations.wait_for(|now| *now != seen.revocations) => {}
        }
    }
}
