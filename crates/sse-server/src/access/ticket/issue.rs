//! Creates a ticket.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Algorithm, Header, encode};

use super::{
    IssuedTicket, LIFE_MAX, PATTERNS_MAX, SUB_BYTES_MAX, SigningKeys, TicketError, TicketRequest,
    claims::TicketClaims,
};
use crate::access::{
    Identity, Pattern, Principal, Right, Rights, Secret,
    api_key::{random_hex, to_hex},
    facts::{CreatorKey, CreatorSubject, CreatorToken, TicketCreator, TokenFacts, TokenGrant},
    jwt::{TOKEN_BYTES_MAX, header::TICKET_TYPE},
    rules::Grants,
    template::ClaimValues,
};

/// Random bytes of the id of a ticket.
const JTI_BYTES: usize = 16;

/// Creates a ticket of `creator`, whose rights must be those of the present rules. `grants` are those
/// of the creator's issuer.
pub(crate) fn issue_ticket(
    keys: &SigningKeys,
    creator: &Identity,
    grants: Option<&Grants>,
    request: TicketRequest,
    now: SystemTime,
) -> Result<IssuedTicket, TicketError> {
    check_request(&request)?;
    check_rights(creator.rights(), &request.subscribe)?;
    let by = name_creator(creator, grants, &request.subscribe)?;
    let mut expires = now + request.ttl;
    if let Some(end) = creator.expires() {
        expires = expires.min(end);
    }
    sign_ticket(keys, by, request, now, expires)
}

/// Creates a ticket in the name of the operator.
pub(crate) fn issue_operator_ticket(
    keys: &SigningKeys,
    request: TicketRequest,
    now: SystemTime,
) -> Result<IssuedTicket, TicketError> {
    check_request(&request)?;
    let expires = now + request.ttl;
    sign_ticket(keys, TicketCreator::Operator, request, now, expires)
}

fn check_request(request: &TicketRequest) -> Result<(), TicketError> {
    if !(1..=PATTERNS_MAX).contains(&request.subscribe.len()) {
        return Err(TicketError::Patterns);
    }
    if !(Duration::from_secs(1)..=LIFE_MAX).contains(&request.ttl) {
        return Err(TicketError::Life);
    }
    let has_length = |sub: &String| (1..=SUB_BYTES_MAX).contains(&sub.len());
    if !request.sub.as_ref().is_none_or(has_length) {
        return Err(TicketError::Sub);
    }
    Ok(())
}

fn check_rights(rights: &Rights, subscribe: &[Pattern]) -> Result<(), TicketError> {
    let lacking = subscribe
        .iter()
        .filter(|pattern| !rights.covers(Right::Subscribe, pattern));
    let lacking: Vec<_> = lacking.cloned().collect();
    if lacking.is_empty() {
        Ok(())
    } else {
        Err(TicketError::NotAllowed(lacking))
    }
}

fn name_creator(
    creator: &Identity,
    grants: Option<&Grants>,
    subscribe: &[Pattern],
) -> Result<TicketCreator, TicketError> {
    match (creator.principal(), creator.token()) {
        (Principal::Key { name }, _) => {
            let digest = creator.credential_digest().ok_or(TicketError::Creator)?;
            Ok(TicketCreator::Key(CreatorKey {
                name: name.clone(),
                digest: to_hex(digest).into(),
            }))
        }
        (Principal::Subject { .. }, Some(facts)) => name_subject(facts, grants, subscribe),
        _ => Err(TicketError::Creator),
    }
}

/// The holder of a ticket can read it, so it has only what is needed to conclude that the creator may
/// subscribe to these patterns.
fn name_subject(
    facts: &TokenFacts,
    grants: Option<&Grants>,
    subscribe: &[Pattern],
) -> Result<TicketCreator, TicketError> {
    let TokenGrant::Issuer(grant) = &facts.grant else {
        return Err(TicketError::Creator);
    };
    let is_needed = |own: &&Pattern| subscribe.iter().any(|pattern| own.covers(pattern));
    Ok(TicketCreator::Subject(Box::new(CreatorSubject {
        iss: facts.issuer.clone(),
        sub: facts.subject.clone(),
        aud: grant.audience.clone(),
        key: facts.key.clone(),
        claim: grant.claim.clone(),
        subscribe: grant
            .own
            .subscribe
            .iter()
            .filter(is_needed)
            .cloned()
            .collect(),
        values: grants.map_or_else(ClaimValues::new, |grants| {
            grants.needed_values(&grant.values, subscribe)
        }),
        token: CreatorToken {
            token: to_hex(&facts.digest).into(),
            jti: facts.jti.clone(),
            iat: facts.issued_at.map(to_seconds),
        },
    })))
}

fn sign_ticket(
    keys: &SigningKeys,
    by: TicketCreator,
    request: TicketRequest,
    now: SystemTime,
    expires: SystemTime,
) -> Result<IssuedTicket, TicketError> {
    let jti: Arc<str> = random_hex(JTI_BYTES).map_err(TicketError::Signing)?.into();
    let claims = TicketClaims {
        iss: keys.issuer.clone(),
        aud: keys.issuer.clone(),
        iat: to_seconds(now),
        exp: to_seconds(expires),
        jti: jti.clone(),
        sub: request.sub,
        subscribe: request.subscribe,
        by,
    };
    if claims.exp <= claims.iat {
        return Err(TicketError::Ended);
    }
    let header = Header {
        typ: Some(TICKET_TYPE.to_owned()),
        kid: Some(keys.key_id.clone()),
        ..Header::new(Algorithm::EdDSA)
    };
    let token = encode(&header, &claims, &keys.signer);
    let token = token.map_err(|error| TicketError::Signing(error.to_string()))?;
    if token.len() > TOKEN_BYTES_MAX {
        return Err(TicketError::TooLong);
    }
    Ok(IssuedTicket {
        token: Secret::new(token),
        jti,
        issuer: keys.issuer.clone(),
        expires: UNIX_EPOCH + Duration::from_secs(claims.exp),
    })
}

fn to_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}
