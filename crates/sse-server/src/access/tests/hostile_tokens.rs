//! Texts of any kind never panic, and are accepted only if they are what was signed.

use std::sync::LazyLock;

use jsonwebtoken::Algorithm;
use proptest::prelude::*;
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

use super::{
    fixture::{Token, access, token},
    *,
};

static ACCESS: LazyLock<(Runtime, Access)> = LazyLock::new(|| {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    let access = {
        let _entered = runtime.enter();
        access()
    };
    (runtime, access)
});

fn is_accepted(text: &str) -> bool {
    let (runtime, access) = &*ACCESS;
    runtime
        .block_on(access.identify(text, CredentialSource::Header))
        .is_ok()
}

fn valid() -> Token {
    token(Algorithm::HS256)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_text_is_accepted(text in any::<String>()) {
        prop_assert!(!is_accepted(&text));
    }

    #[test]
    fn no_text_in_the_form_of_a_token_is_accepted(text in "[A-Za-z0-9_-]{0,40}\\.[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,40}") {
        prop_assert!(!is_accepted(&text));
    }

    #[test]
    fn a_token_with_one_other_character_is_rejected(position in any::<prop::sample::Index>(), other in "[A-Za-z0-9_.=-]") {
        let text = valid().text();
        let position = position.index(text.len());
        let changed = format!("{}{other}{}", &text[..position], &text[position + 1..]);
        prop_assert_eq!(is_accepted(&changed), changed == text);
    }

    #[test]
    fn a_token_that_is_cut_off_is_rejected(length in any::<prop::sample::Index>()) {
        let text = valid().text();
        prop_assert!(!is_accepted(&text[..length.index(text.len())]));
    }

    #[test]
    fn signed_claims_of_any_form_never_panic(name in "[a-z]{1,4}|iss|aud|exp|nbf|iat|sub|jti|sse|teams", text in any::<String>(), number in any::<f64>()) {
        for value in [json!(text), json!(number), json!([text, number]), json!({&name: text}), json!(null)] {
            let _ = is_accepted(&valid().claim(&name, value.clone()).text());
            let _ = is_accepted(&valid().header(&name, value).text());
        }
    }

    #[test]
    fn a_subject_reaches_only_its_own_channels(sub in any::<String>(), name in "[a-zA-Z0-9._:~-]{1,30}") {
        let (runtime, access) = &*ACCESS;
        let text = valid().claim("sub", sub.clone()).text();
        let identity = runtime.block_on(access.identify(&text, CredentialSource::Header)).unwrap();
        let channel = format!("users.{name}").parse().unwrap();
        let own = name == escape_value(&sub);
        prop_assert_eq!(identity.rights().permits(Right::Subscribe, &channel), own);
    }
}
