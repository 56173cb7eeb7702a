//! What an identity may do after the rules have changed.

use std::time::Duration;

use jsonwebtoken::Algorithm;
use serde_json::json;

use super::{
    fixture::{
        API_KEY, ISSUER, KEYS, access, issuer, key_source, patterns, restrictions, rules, token,
    },
    *,
};
use crate::access::rules::{CallerRules, Grants, IssuerRules, KeyRules, Restrictions};

async fn identify(access: &Access, text: &str) -> Arc<Identity> {
    access
        .identify(text, CredentialSource::Header)
        .await
        .unwrap()
}

fn ticket_of(access: &Access, creator: &Arc<Identity>, channel: &str) -> String {
    let request = TicketRequest {
        subscribe: patterns(&[channel]),
        ttl: Duration::from_mins(5),
        sub: None,
    };
    access
        .issue_ticket(creator, request)
        .unwrap()
        .token
        .expose()
        .to_owned()
}

fn may_subscribe(identity: &Identity, channel: &str) -> bool {
    identity
        .rights()
        .permits(Right::Subscribe, &channel.parse().unwrap())
}

fn rejected(word: RejectionWord) -> CredentialError {
    CredentialError::Rejected(word)
}

/// Rules in which the key `billing` has these digests and rights.
fn with_key(digests: Vec<Digest>, subscribe: &[&str]) -> AccessRules {
    let rights = Rights {
        subscribe: patterns(subscribe),
        ..Rights::default()
    };
    let caller = CallerRules {
        rights,
        limits: crate::quota::Limits::default(),
    };
    let key = KeyRules {
        name: "billing".into(),
        digests,
        caller,
    };
    rules(Restrictions {
        keys: vec![key],
        ..restrictions()
    })
}

fn with_issuer(change: impl FnOnce(&mut IssuerRules)) -> AccessRules {
    let mut changed = restrictions();
    change(&mut changed.issuers[0]);
    rules(changed)
}

#[tokio::test]
async fn nothing_changes_without_a_change() {
    let access = access();
    let generation = access.generation();
    for text in [API_KEY.to_owned(), token(Algorithm::ES256).text()] {
        let identity = identify(&access, &text).await;
        let again = access.recheck(&identity).unwrap();
        assert!(Arc::ptr_eq(&identity, &again));
        access.reload(rules(restrictions()));
        let again = access.recheck(&identity).unwrap();
        assert_eq!(identity.rights(), again.rights());
    }
    assert_eq!(access.generation(), generation + 2);
    assert_eq!(*access.watch_generation().borrow(), generation + 2);
}

#[tokio::test]
async fn a_key_that_is_removed_or_replaced_ends_with_its_tickets() {
    let access = access();
    let key = identify(&access, API_KEY).await;
    let ticket = identify(&access, &ticket_of(&access, &key, "orders.1")).await;
    access.reload(with_key(
        vec![digest(API_KEY), digest("new")],
        &["orders.*"],
    ));
    assert!(may_subscribe(&access.recheck(&key).unwrap(), "orders.1"));
    assert!(may_subscribe(&access.recheck(&ticket).unwrap(), "orders.1"));
    // Fewer rights of the creator are fewer rights of the ticket.
    access.reload(with_key(vec![digest(API_KEY)], &["other.*"]));
    assert!(!may_subscribe(
        &access.recheck(&ticket).unwrap(),
        "orders.1"
    ));
    // Another key of the same name, and no key of this name: both end the key and its tickets.
    let without_keys = rules(Restrictions {
        keys: vec![],
        ..restrictions()
    });
    for changed in [with_key(vec![digest("new")], &["orders.*"]), without_keys] {
        access.reload(changed);
        assert_eq!(
            access.recheck(&key).unwrap_err(),
            rejected(RejectionWord::UnknownKey)
        );
        assert_eq!(
            access.recheck(&ticket).unwrap_err(),
            rejected(RejectionWord::Creator)
        );
    }
}

#[tokio::test]
async fn rights_of_a_subject_follow_the_grants_of_its_issuer() {
    let access = access();
    let own = json!({"subscribe": ["own.*"]});
    let text = token(Algorithm::ES256)
        .claim("sse", own)
        .claim("teams", json!(["a"]))
        .text();
    let subject = identify(&access, &text).await;
    let ticket = identify(&access, &ticket_of(&access, &subject, "teams.a.*")).await;
    assert!(may_subscribe(&subject, "teams.a.1") && may_subscribe(&ticket, "teams.a.1"));
    access.reload(with_issuer(|issuer| issuer.grants = Grants::default()));
    let present = access.recheck(&subject).unwrap();
    assert!(may_subscribe(&present, "own.1") && !may_subscribe(&present, "teams.a.1"));
    assert!(!may_subscribe(
        &access.recheck(&ticket).unwrap(),
        "teams.a.1"
    ));
    // A request verifies the token itself.
    assert_eq!(present.rights(), identify(&access, &text).await.rights());
    // Rights that were read from another claim do not count any more, on streams and in requests.
    access.reload(rules(Restrictions {
        claim: "other".to_owned(),
        ..restrictions()
    }));
    assert!(!may_subscribe(&access.recheck(&subject).unwrap(), "own.1"));
    let requested = identify(&access, &text).await;
    assert!(!may_subscribe(&requested, "own.1"));
}

#[tokio::test]
async fn a_token_ends_with_its_issuer_its_audience_and_its_key() {
    let access = access();
    let text = token(Algorithm::ES256).text();
    let subject = identify(&access, &text).await;
    let ticket = identify(&access, &ticket_of(&access, &subject, "users.42")).await;
    let other_keys = json!({"keys": [KEYS.jwk("ES256", Algorithm::ES384)]});
    for (changed, word, of_ticket) in [
        (
            with_issuer(|rules| *rules = issuer("https://new.example", rules.keys.clone())),
            RejectionWord::Issuer,
            RejectionWord::Creator,
        ),
        (
            with_issuer(|issuer| issuer.audience = vec!["x".to_owned()]),
            RejectionWord::Audience,
            RejectionWord::Creator,
        ),
        (
            with_issuer(|issuer| issuer.keys = key_source(&other_keys)),
            RejectionWord::UnknownKey,
            RejectionWord::UnknownKey,
        ),
    ] {
        access.reload(changed);
        assert_eq!(access.recheck(&subject).unwrap_err(), rejected(word));
        assert_eq!(access.recheck(&ticket).unwrap_err(), rejected(of_ticket));
        assert!(
            access
                .identify(&text, CredentialSource::Header)
                .await
                .is_err()
        );
        access.reload(rules(restrictions()));
        assert!(access.recheck(&subject).is_ok() && access.recheck(&ticket).is_ok());
    }
}

#[tokio::test]
async fn without_rules_every_caller_may_do_everything() {
    let open = Access::new(AccessRules::default());
    assert!(!open.has_rules() && open.rules().cookie().is_none());
    let anonymous = open.anonymous();
    assert!(
        anonymous
            .rights()
            .permits(Right::Manage, &"a".parse().unwrap())
    );
    assert!(anonymous.rights().permits_server(ServerRight::Admin));
    open.reload(rules(restrictions()));
    assert!(open.has_rules() && open.rules().cookie() == Some("__Host-sse"));
    assert!(open.recheck(&anonymous).unwrap().rights().is_empty());
    assert!(
        identify(&open, &token(Algorithm::ES256).text())
            .await
            .issuer()
            .is_some_and(|iss| **iss == *ISSUER)
    );
}

#[tokio::test]
async fn the_limits_of_a_creator_are_those_of_its_tickets() {
    let limits = crate::quota::Limits {
        events: crate::quota::Rate::parse_count("5/s").ok(),
        ..crate::quota::Limits::default()
    };
    let mut limited = restrictions();
    limited.keys[0].caller.limits = limits;
    let access = Access::new(rules(limited));
    let key = identify(&access, API_KEY).await;
    let ticket = identify(&access, &ticket_of(&access, &key, "orders.1")).await;
    assert_eq!((key.limits(), ticket.limits()), (&limits, &limits));
    access.reload(rules(restrictions()));
    assert_eq!(
        *access.recheck(&ticket).unwrap().limits(),
        crate::quota::Limits::default()
    );
}
