//! From the text of a credential to an identity: API keys by their digest, and tokens from the cache or
//! by their signature.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use super::{
    Access, CredentialError, CredentialSource, Digest, Identity, RejectionWord,
    api_key::{is_api_key, text_digest},
    jwt::TOKEN_BYTES_MAX,
    keys::remote::RemoteKeys,
    signature_checks::CheckTurn,
    snapshot::Denial,
    token_cache::Checked,
    verify::verify_token,
};
use crate::budget::ClientNet;

impl Access {
    /// Returns who the credential `text` belongs to, and what it may do, without the limits of a
    /// client.
    ///
    /// # Errors
    ///
    /// As for [`Self::identify_of_client`].
    pub async fn identify(
        &self,
        text: &str,
        source: CredentialSource,
    ) -> Result<Arc<Identity>, CredentialError> {
        self.identify_of_client(text, source, None).await
    }

    /// Returns who the credential `text` belongs to, which `client` sent, and what it may do.
    ///
    /// `text` is what follows `Bearer `, or the value of the cookie or parameter. A token that was
    /// verified before costs one hash and one look-up. A token whose issuer serves its keys by URL
    /// may wait for a fetch, up to 20 s, and a client that has sent many wrong tokens for its turn.
    ///
    /// # Errors
    ///
    /// - [`CredentialError::Rejected`]: the credential is invalid. A retry does not help (401).
    /// - [`CredentialError::Unavailable`]: the keys of the issuer cannot be fetched, or the client
    ///   sends too many wrong tokens. The caller can retry (503, never 401).
    pub async fn identify_of_client(
        &self,
        text: &str,
        source: CredentialSource,
        client: Option<ClientNet>,
    ) -> Result<Arc<Identity>, CredentialError> {
        let presented = Presented {
            text,
            source,
            client,
        };
        match self.identify_in_turn(presented).await? {
            Ok(identified) => identified,
            Err(missing) => Box::pin(self.identify_after_fetch(presented, missing)).await,
        }
    }

    /// Identifies a credential as far as that is possible without a fetch. Waits for the turn of its
    /// client.
    ///
    /// # Errors
    ///
    /// `Unavailable`: the client has used up its time.
    async fn identify_in_turn(
        &self,
        presented: Presented<'_>,
    ) -> Result<Result<Identified, MissingKey>, CredentialError> {
        match self.identify_now(presented, None) {
            Ok(identified) => Ok(Ok(identified)),
            Err(NotYet::MissingKey(missing)) => Ok(Err(missing)),
            Err(NotYet::MustWait(turn)) => {
                turn.wait().await?;
                match self.identify_now(presented, Some(turn)) {
                    Ok(identified) => Ok(Ok(identified)),
                    Err(NotYet::MissingKey(missing)) => Ok(Err(missing)),
                    // The turn was due.
                    Err(NotYet::MustWait(_)) => Err(CredentialError::Unavailable),
                }
            }
        }
    }

    /// Identifies a credential as far as that is possible now. `turn` is one that was waited for.
    fn identify_now(
        &self,
        presented: Presented<'_>,
        turn: Option<CheckTurn>,
    ) -> Result<Identified, NotYet> {
        let Presented { text, source, .. } = presented;
        if text.len() > TOKEN_BYTES_MAX {
            return Ok(Err(RejectionWord::Malformed.into()));
        }
        let digest = text_digest(text);
        if is_api_key(text) {
            return Ok(self.identify_key(&digest, source).map_err(Into::into));
        }
        let now = SystemTime::now();
        let checked = self.check_token(presented, digest, now, turn)?;
        let admitted = checked.and_then(|identity| self.admit(identity, source, now));
        Ok(admitted.map_err(Into::into))
    }

    fn identify_key(
        &self,
        digest: &Digest,
        source: CredentialSource,
    ) -> Result<Arc<Identity>, RejectionWord> {
        if source != CredentialSource::Header {
            return Err(RejectionWord::HeaderOnly);
        }
        let snapshot = self.shared.snapshot.load();
        snapshot
            .api_key(digest)
            .cloned()
            .ok_or(RejectionWord::UnknownKey)
    }

    /// Looks a token up, or verifies it.
    fn check_token(
        &self,
        presented: Presented<'_>,
        digest: Digest,
        now: SystemTime,
        turn: Option<CheckTurn>,
    ) -> Result<Checked, NotYet> {
        let generation = self.generation();
        if let Some(checked) = self.shared.cache.get(&digest, generation) {
            return Ok(checked);
        }
        let checks = &self.shared.checks;
        let turn = turn.unwrap_or_else(|| checks.reserve(presented.client));
        if !turn.is_due() {
            return Err(NotYet::MustWait(turn));
        }
        let began = Instant::now();
        let verified = verify_token(&self.shared.snapshot.load(), presented.text, digest, now);
        turn.finish(verified.is_ok(), began);
        let checked = match verified {
            Ok(identity) => Ok(identity),
            Err(Denial::Rejected(word)) => Err(word),
            Err(Denial::MissingKey { keys, begun }) => {
                return Err(NotYet::MissingKey(MissingKey { keys, begun }));
            }
        };
        if is_lasting(&checked) {
            self.shared
                .cache
                .insert(digest, generation, checked.clone());
        }
        Ok(checked)
    }

    /// Checks what depends on the time and on where the token was found.
    fn admit(&self, identity: Arc<Identity>, source: CredentialSource, now: SystemTime) -> Checked {
        if identity.valid_until().is_some_and(|end| now >= end) {
            return Err(RejectionWord::Expired);
        }
        if source == CredentialSource::Url && !self.may_be_in_url(&identity) {
            return Err(RejectionWord::Lifetime);
        }
        Ok(identity)
    }

    /// A URL is written to logs and histories, so a token in it must be short-lived.
    fn may_be_in_url(&self, identity: &Identity) -> bool {
        let longest = self.shared.snapshot.load().rules.query_token_life();
        let (Some(issued), Some(expires)) = (identity.issued_at(), identity.expires()) else {
            return false;
        };
        !longest.is_zero()
            && expires
                .duration_since(issued)
                .is_ok_and(|life| life <= longest)
    }

    /// Waits for fetches until one proves what the keys of the issuer are.
    async fn identify_after_fetch(
        &self,
        presented: Presented<'_>,
        missing: MissingKey,
    ) -> Result<Arc<Identity>, CredentialError> {
        let MissingKey {
            mut keys,
            mut begun,
        } = missing;
        loop {
            let is_proof = keys.wait_for_fetch(begun, presented.client).await;
            let is_proof = is_proof.map_err(|_| CredentialError::Unavailable)?;
            match self.identify_in_turn(presented).await? {
                Ok(identified) => return identified,
                // A reload has replaced the source of keys, which counts its own fetches.
                Err(replaced) if !Arc::ptr_eq(&keys, &replaced.keys) => {
                    MissingKey { keys, begun } = replaced;
                }
                Err(_) if is_proof => return Err(RejectionWord::UnknownKey.into()),
                Err(_) => {}
            }
        }
    }
}

/// A credential as a client has sent it.
#[derive(Debug, Clone, Copy)]
struct Presented<'a> {
    text: &'a str,
    source: CredentialSource,
    client: Option<ClientNet>,
}

type Identified = Result<Arc<Identity>, CredentialError>;

/// Why a token is not verified yet.
enum NotYet {
    MissingKey(MissingKey),
    MustWait(CheckTurn),
}

/// The key of a token is in no set that was fetched.
struct MissingKey {
    keys: Arc<RemoteKeys>,
    begun: u64,
}

/// Returns whether a check has the same result until rules or keys change.
fn is_lasting(checked: &Checked) -> bool {
    !matches!(checked, Err(RejectionWord::NotYetValid))
}
