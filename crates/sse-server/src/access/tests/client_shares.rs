//! What one client can use of what all clients need for their credentials.

use std::net::IpAddr;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::{FutureExt as _, future::join_all};
use jsonwebtoken::Algorithm;
use tokio::time::timeout;

use super::{
    fixture::{access, token},
    jwks_server::{Reply, set},
    remote_keys::{PATIENCE, fast, identify, keys, start, with_kid},
    *,
};
use crate::budget::ClientNet;

const HEADER: CredentialSource = CredentialSource::Header;
/// Requests of one client that can wait for a fetch.
const CLIENT_WAITERS: usize = 16;

fn client(last: u8) -> ClientNet {
    IpAddr::from([192, 0, 2, last]).into()
}

#[tokio::test]
async fn a_client_that_invents_signatures_waits_and_delays_no_other() {
    let access = access();
    let valid = token(Algorithm::ES384).text();
    let (message, _) = valid.rsplit_once('.').unwrap();
    let invented = |number: u32| {
        let mut signature = [7; 96];
        signature[..4].copy_from_slice(&number.to_be_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    };
    let identified_now = |text: &str, last| {
        let identified = access.identify_of_client(text, HEADER, Some(client(last)));
        identified.now_or_never().map(|result| result.is_ok())
    };
    let mut numbers = 0..1_000_000;
    assert!(numbers.any(|number| identified_now(&invented(number), 1).is_none()));
    assert_eq!(identified_now(&valid, 1), None);
    assert_eq!(identified_now(&valid, 2), Some(true));
    // A token that was verified before needs no check.
    assert_eq!(identified_now(&valid, 1), Some(true));
}

#[tokio::test]
async fn a_client_takes_a_part_of_the_places_for_requests_that_wait_for_a_fetch() {
    let script = vec![
        set(&keys(&["a"], &[])),
        Reply::Held(keys(&["a", "b"], &[]).to_string()),
        set(&keys(&["a", "b"], &[])),
    ];
    let (server, access) = start(script, fast()).await;
    assert!(identify(&access, &with_kid("a")).await.is_ok());
    let texts: Vec<_> = (0..=CLIENT_WAITERS)
        .map(|sub| with_kid("b").claim("sub", sub).text())
        .collect();
    let of_client =
        |number: usize, last| access.identify_of_client(&texts[number], HEADER, Some(client(last)));
    let waiting = join_all((0..CLIENT_WAITERS).map(|number| of_client(number, 1)));
    tokio::pin!(waiting);
    tokio::select! {
        _ = &mut waiting => panic!("the fetch is held"),
        _ = server.requests(2) => {}
    }
    assert_eq!(
        of_client(CLIENT_WAITERS, 1).await.unwrap_err(),
        CredentialError::Unavailable
    );
    let mut of_other = Box::pin(of_client(CLIENT_WAITERS, 2));
    assert!((&mut of_other).now_or_never().is_none());
    server.release();
    let found = timeout(PATIENCE, waiting).await.unwrap();
    assert!(found.iter().all(Result::is_ok));
    assert!(timeout(PATIENCE, of_other).await.unwrap().is_ok());
}
