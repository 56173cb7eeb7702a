//! From the text of a token to an identity.
//!
//! What is cheap is checked first: form, type, issuer, time and audience, then the signature. A token
//! that cannot become valid therefore never causes a fetch of keys.

use std::{sync::Arc, time::SystemTime};

use super::{
    Digest, Identity, RejectionWord, digest,
    facts::{IssuerGrant, TokenFacts, TokenGrant},
    jwt::{UnverifiedToken, header::TokenType},
    keys::{key_set::NoKey, verifying_key::Thumbprint},
    snapshot::{Denial, Snapshot},
    ticket::{SigningKeys, claims::read_ticket_grant},
};

/// Verifies a token by the rules of `snapshot`.
pub(super) fn verify_token(
    snapshot: &Snapshot,
    text: &str,
    text_digest: Digest,
    now: SystemTime,
) -> Result<Arc<Identity>, Denial> {
    let token = UnverifiedToken::parse(text)?;
    let restrictions = snapshot.restrictions().ok_or(RejectionWord::Issuer)?;
    let signing = restrictions.signing.as_deref();
    let (key, grant) = match signing.filter(|signing| signing.issuer == token.claims.issuer) {
        Some(signing) => verify_ticket(signing, &token, now)?,
        None => verify_of_issuer(snapshot, &restrictions.claim, &token, now)?,
    };
    let claims = token.claims;
    let facts = TokenFacts {
        issuer: claims.issuer,
        subject: claims.subject,
        jti: claims.jti,
        issued_at: claims.issued_at,
        expires: claims.expires,
        text_digest,
        digest: digest(text),
        key,
        grant,
    };
    let caller = snapshot.rights_of(&facts)?;
    Ok(Arc::new(Identity::of_token(Box::new(facts), caller)))
}

fn verify_ticket(
    signing: &SigningKeys,
    token: &UnverifiedToken<'_>,
    now: SystemTime,
) -> Result<(Thumbprint, TokenGrant), Denial> {
    check_type(token, TokenType::Ticket)?;
    token.claims.check(&[signing.issuer.to_string()], now)?;
    let grant = read_ticket_grant(&token.claims)?;
    let key = signing.verify.verify(token).map_err(|error| match error {
        NoKey::Unknown(word) | NoKey::Rejected(word) => word,
    })?;
    Ok((key, TokenGrant::Ticket(grant)))
}

fn verify_of_issuer(
    snapshot: &Snapshot,
    rights_claim: &str,
    token: &UnverifiedToken<'_>,
    now: SystemTime,
) -> Result<(Thumbprint, TokenGrant), Denial> {
    let issuer = snapshot.issuer(&token.claims.issuer)?;
    check_type(token, TokenType::Token)?;
    token.claims.check(&issuer.rules.audience, now)?;
    let grant = IssuerGrant {
        claim: rights_claim.into(),
        own: token.claims.read_rights(rights_claim)?,
        values: issuer.read_values(&token.claims.all),
        audience: token.claims.audience.clone(),
    };
    let missing = issuer.missing_key();
    let Some(set) = issuer.keys.current() else {
        return Err(missing);
    };
    match set.verify(token) {
        Ok(key) => Ok((key, TokenGrant::Issuer(grant))),
        // Only a set that an issuer serves can become another one.
        Err(NoKey::Unknown(_)) if matches!(missing, Denial::MissingKey { .. }) => Err(missing),
        Err(NoKey::Unknown(word) | NoKey::Rejected(word)) => Err(word.into()),
    }
}

fn check_type(token: &UnverifiedToken<'_>, expected: TokenType) -> Result<(), RejectionWord> {
    if token.header.token_type == expected {
        Ok(())
    } else {
        Err(RejectionWord::Type)
    }
}
