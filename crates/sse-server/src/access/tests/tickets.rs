//! Tickets grant what they list, as far as their creators may.

use std::time::{Duration, SystemTime};

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use super::{
    fixture::{API_KEY, HUB, ISSUER, KEYS, access, now, patterns, restrictions, rules, token},
    *,
};
use crate::access::{
    keys::pem::parse_ticket_key,
    ticket::{SigningKeys, create_signing_key, issue_operator_ticket},
};

async fn identify(access: &Access, text: &str) -> Result<Arc<Identity>, RejectionWord> {
    access
        .identify(text, CredentialSource::Header)
        .await
        .map_err(|error| match error {
            CredentialError::Rejected(word) => word,
            CredentialError::Unavailable => panic!("no keys are fetched here"),
        })
}

fn request(subscribe: &[&str]) -> TicketRequest {
    let (subscribe, ttl) = (patterns(subscribe), Duration::from_mins(10));
    TicketRequest {
        subscribe,
        ttl,
        sub: Some("guest".to_owned()),
    }
}

fn may_subscribe(identity: &Identity, channel: &str) -> bool {
    identity
        .rights()
        .permits(Right::Subscribe, &channel.parse().unwrap())
}

/// A token whose subject may subscribe to `users.42`, `teams.1.*` and `own.*`.
fn subject_token() -> String {
    let own = json!({"subscribe": ["own.*"], "publish": ["own.*"], "admin": true});
    token(Algorithm::ES256)
        .claim("sse", own)
        .claim("teams", json!([1]))
        .claim("jti", "j1")
        .text()
}

#[tokio::test]
async fn a_ticket_of_a_key_grants_what_it_lists_to_its_holder() {
    let access = access();
    let creator = identify(&access, API_KEY).await.unwrap();
    let issued = access
        .issue_ticket(&creator, request(&["orders.7", "users.*"]))
        .unwrap();
    let ticket = identify(&access, issued.token.expose()).await.unwrap();
    assert_eq!(
        ticket.principal().to_string(),
        "ticket for guest by key billing"
    );
    assert_eq!(
        (&**ticket.issuer().unwrap(), ticket.jti()),
        (HUB, Some(&issued.jti))
    );
    assert_eq!(ticket.expires(), Some(issued.expires));
    assert!(may_subscribe(&ticket, "orders.7") && may_subscribe(&ticket, "users.1"));
    assert!(!may_subscribe(&ticket, "orders.8"));
    assert!(
        !ticket
            .rights()
            .permits(Right::Publish, &"orders.7".parse().unwrap())
    );
    assert!(ticket.creator_token().is_none());
}

#[tokio::test]
async fn a_ticket_of_a_subject_names_the_token_that_created_it() {
    let access = access();
    let text = subject_token();
    let creator = identify(&access, &text).await.unwrap();
    let listed = request(&["users.42", "teams.1.*", "own.a"]);
    let issued = access.issue_ticket(&creator, listed).unwrap();
    let ticket = identify(&access, issued.token.expose()).await.unwrap();
    assert_eq!(
        ticket.principal().to_string(),
        format!("ticket for guest by 42 of {ISSUER}")
    );
    let by = ticket.creator_token().unwrap();
    assert_eq!(*by.token, *to_hex(&digest(&text)));
    assert_eq!((by.jti.as_deref(), by.iat.is_some()), (Some("j1"), true));
    assert!(
        ["users.42", "teams.1.x", "own.a"]
            .iter()
            .all(|name| may_subscribe(&ticket, name))
    );
    assert!(!may_subscribe(&ticket, "own.b"));
    assert!(!ticket.rights().permits_server(ServerRight::Observe));
    // The creator's token expires after ten minutes, and with it the ticket.
    let long = TicketRequest {
        ttl: Duration::from_hours(5),
        ..request(&["own.a"])
    };
    let issued = access.issue_ticket(&creator, long).unwrap();
    assert_eq!(Some(issued.expires), creator.expires());
}

#[tokio::test]
async fn a_creator_cannot_pass_on_what_it_may_not_do() {
    let access = access();
    let creator = identify(&access, &subject_token()).await.unwrap();
    for lacking in ["users.43", "users.*", "*", "teams.2.x", "teams.*", "own"] {
        let refused = access
            .issue_ticket(&creator, request(&["own.a", lacking]))
            .unwrap_err();
        assert_eq!(
            refused,
            TicketError::NotAllowed(patterns(&[lacking])),
            "{lacking}"
        );
    }
    let ticket = access.issue_ticket(&creator, request(&["own.a"])).unwrap();
    let holder = identify(&access, ticket.token.expose()).await.unwrap();
    let again = access
        .issue_ticket(&holder, request(&["own.a"]))
        .unwrap_err();
    assert_eq!(again, TicketError::Creator);
    let anonymous = access
        .issue_ticket(&access.anonymous(), request(&["own.a"]))
        .unwrap_err();
    assert!(matches!(anonymous, TicketError::NotAllowed(_)));
}

#[tokio::test]
async fn a_ticket_has_limits() {
    let access = access();
    let creator = identify(&access, API_KEY).await.unwrap();
    let valid = || request(&["orders.1"]);
    let many = vec!["orders.1"; 65];
    for (request, expected) in [
        (request(&[]), TicketError::Patterns),
        (request(&many), TicketError::Patterns),
        (
            TicketRequest {
                ttl: Duration::from_millis(999),
                ..valid()
            },
            TicketError::Life,
        ),
        (
            TicketRequest {
                ttl: Duration::from_hours(366 * 24),
                ..valid()
            },
            TicketError::Life,
        ),
        (
            TicketRequest {
                sub: Some(String::new()),
                ..valid()
            },
            TicketError::Sub,
        ),
        (
            TicketRequest {
                sub: Some("x".repeat(256)),
                ..valid()
            },
            TicketError::Sub,
        ),
    ] {
        assert_eq!(
            access.issue_ticket(&creator, request).unwrap_err(),
            expected
        );
    }
    let longest = format!("orders.{}", "x".repeat(57));
    let huge = request(&vec![longest.as_str(); 64]);
    assert!(access.issue_ticket(&creator, huge).is_ok());
    let unsigned = Access::new(rules(rules::Restrictions {
        signing: None,
        ..restrictions()
    }));
    assert_eq!(
        unsigned.issue_ticket(&creator, valid()).unwrap_err(),
        TicketError::NoSigningKey
    );
    let open = Access::new(AccessRules::default());
    assert_eq!(
        open.issue_ticket(&open.anonymous(), valid()).unwrap_err(),
        TicketError::NoSigningKey
    );
}

#[tokio::test]
async fn the_operator_grants_what_it_lists() {
    let access = access();
    let signing = restrictions().signing.unwrap();
    let issued = issue_operator_ticket(&signing, request(&["any.*"]), SystemTime::now()).unwrap();
    let ticket = identify(&access, issued.token.expose()).await.unwrap();
    assert_eq!(
        ticket.principal().to_string(),
        "ticket for guest by the operator"
    );
    assert!(may_subscribe(&ticket, "any.1") && !may_subscribe(&ticket, "other"));
}

/// Signs claims as if they were a ticket's.
fn forged(claims: &Value) -> String {
    let key = jsonwebtoken::EncodingKey::from_ed_pem(KEYS.signing_pem.expose().as_bytes()).unwrap();
    let mut ticket = token(Algorithm::EdDSA).signed_by(key, Algorithm::EdDSA);
    ticket = ticket
        .header("typ", "sse-ticket+jwt")
        .without("header", "kid");
    ticket.claims = json!({"iss": HUB, "aud": HUB, "iat": now(), "exp": now() + 60, "jti": "1"});
    for (name, value) in claims.as_object().unwrap() {
        ticket = ticket.claim(name, value.clone());
    }
    ticket.text()
}

#[tokio::test]
async fn a_ticket_without_a_proper_creator_is_rejected() {
    let access = access();
    let by_key = |name: &str, text: &str| {
        let key = json!({"name": name, "digest": to_hex(&digest(text))});
        json!({"subscribe": ["a"], "by": {"key": key}})
    };
    let by_subject = |change: &str, value: Value| {
        let mut by = json!({
            "iss": ISSUER, "sub": "42", "aud": [HUB], "key": "", "claim": "sse", "token": "",
        });
        by[change] = value;
        json!({"subscribe": ["own.a"], "by": {"subject": by}})
    };
    for (claims, expected) in [
        (json!({"subscribe": ["a"], "by": "operator"}), None),
        (by_key("billing", API_KEY), None),
        (by_key("other", API_KEY), Some(RejectionWord::Creator)),
        (by_key("billing", "other"), Some(RejectionWord::Creator)),
        (json!({"subscribe": ["a"]}), Some(RejectionWord::Malformed)),
        (json!({"by": "operator"}), Some(RejectionWord::Malformed)),
        (
            json!({"subscribe": ["a"], "by": "anybody"}),
            Some(RejectionWord::Malformed),
        ),
        (
            json!({"subscribe": ["a b"], "by": "operator"}),
            Some(RejectionWord::Malformed),
        ),
        (
            json!({"subscribe": vec!["a"; 65], "by": "operator"}),
            Some(RejectionWord::Malformed),
        ),
        (
            json!({"subscribe": ["a"], "by": "operator", "aud": "x"}),
            Some(RejectionWord::Audience),
        ),
        (
            json!({"subscribe": ["a"], "by": "operator", "exp": 1}),
            Some(RejectionWord::Expired),
        ),
        (
            by_subject("iss", "https://other.example".into()),
            Some(RejectionWord::Creator),
        ),
        (
            by_subject("aud", json!(["x"])),
            Some(RejectionWord::Creator),
        ),
        (
            by_subject("key", "unknown".into()),
            Some(RejectionWord::UnknownKey),
        ),
    ] {
        let found = identify(&access, &forged(&claims)).await.err();
        assert_eq!(found, expected, "{claims}");
    }
    // Without the type of a ticket, and with the type but of another issuer.
    let ticket = forged(&json!({"subscribe": ["a"], "by": "operator"}));
    assert!(identify(&access, &ticket).await.is_ok());
}

#[tokio::test]
async fn keys_are_rotated_in_three_steps() {
    let (new_private, new_public) = create_signing_key().unwrap();
    let old_public = &KEYS.signing_public_pem;
    let keys = |private: &Secret, verify: &[&String]| {
        let verify = verify
            .iter()
            .map(|pem| parse_ticket_key(pem.as_bytes()).unwrap())
            .collect();
        SigningKeys::new(HUB.into(), private.expose().as_bytes(), verify).unwrap()
    };
    let access_with = |keys: SigningKeys| {
        Access::new(rules(rules::Restrictions {
            signing: Some(Arc::new(keys)),
            ..restrictions()
        }))
    };
    let sign = |keys: &SigningKeys| {
        issue_operator_ticket(keys, request(&["a"]), SystemTime::now())
            .unwrap()
            .token
    };
    let old = sign(&keys(&KEYS.signing_pem, &[]));
    let new = sign(&keys(&new_private, &[]));
    for (step, keys, accepts_old, accepts_new) in [
        ("before", keys(&KEYS.signing_pem, &[]), true, false),
        (
            "announced",
            keys(&KEYS.signing_pem, &[&new_public]),
            true,
            true,
        ),
        (
            "signs",
            keys(&new_private, &[old_public, &new_public]),
            true,
            true,
        ),
        ("after", keys(&new_private, &[&new_public]), false, true),
    ] {
        let access = access_with(keys);
        for (ticket, is_accepted) in [(&old, accepts_old), (&new, accepts_new)] {
            let found = identify(&access, ticket.expose()).await;
            assert_eq!(found.is_ok(), is_accepted, "{step}: {found:?}");
        }
    }
}
