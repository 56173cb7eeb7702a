//! The stored revocations: a set of texts that all nodes of a broker share.
//!
//! The broker does not know what a text means; `access` writes and reads them. Unlike events, the
//! texts are neither trimmed nor listed, and belong to no channel. A text is removed once its time
//! has passed, so the set stays small. Over Redis a failover can lose texts. A node that still
//! knows them adds them again, which is harmless because the texts form a set.
//!
//! | broker | where the set is |
//! |---|---|
//! | embedded | a table of the log's file, written by the log's writer |
//! | memory | a map; it ends with the process |
//! | Redis | the hash `sse:revocations`: the texts, each with its time, and the `version` |

use serde::{Deserialize, Serialize};

use super::{Broker, BrokerError};

/// Texts that the set may have. Beyond it a further text is rejected.
pub const TEXTS_MAX: usize = 100_000;

/// A text of the set, and when it may be removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRevocation {
    /// What is revoked, in the form of `access`.
    pub text: String,
    /// Milliseconds since the Unix epoch after which the text may be removed; [`NEVER`] if it
    /// stays.
    pub until_ms: u64,
}

/// The `until_ms` of a text that stays.
pub const NEVER: u64 = u64::MAX;

/// The whole set at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RevocationSet {
    /// Changes with each change of the set.
    pub version: String,
    /// The texts, in no order.
    pub entries: Vec<StoredRevocation>,
}

/// A change of the set.
#[derive(Debug, Clone, Default)]
pub struct RevocationChange {
    /// Texts to add, or to give another time.
    pub add: Vec<StoredRevocation>,
    /// Texts to remove.
    pub remove: Vec<String>,
}

impl Broker {
    /// Changes the set of revocations. The change is durable when this returns.
    ///
    /// # Errors
    ///
    /// - [`Full`](BrokerError::Full): the set has [`TEXTS_MAX`] texts.
    /// - [`Unavailable`](BrokerError::Unavailable) and
    ///   [`OutcomeUnknown`](BrokerError::OutcomeUnknown): the caller can repeat the change.
    pub async fn change_revocations(&self, change: RevocationChange) -> Result<(), BrokerError> {
        match self {
            Self::Embedded(broker) => broker.change_revocations(change).await,
            Self::Memory(broker) => broker.change_revocations(change),
            Self::Redis(broker) => broker.change_revocations(change).await,
        }
    }

    /// Returns the set of revocations, or `None` if its version is still `known`.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](BrokerError::Unavailable), [`Damaged`](BrokerError::Damaged).
    pub async fn read_revocations(
        &self,
        known: Option<&str>,
    ) -> Result<Option<RevocationSet>, BrokerError> {
        match self {
            Self::Embedded(broker) => broker.read_revocations(known).await,
            Self::Memory(broker) => Ok(broker.read_revocations(known)),
            Self::Redis(broker) => broker.read_revocations(known).await,
        }
    }
}

/// The error for a set that has as many texts as it may.
pub(super) fn set_is_full() -> BrokerError {
    BrokerError::Full(format!(
        "{TEXTS_MAX} revocations are stored, which is the limit: give each revocation the time \
         until which its tokens are valid"
    ))
}
