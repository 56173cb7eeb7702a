//! What is wrong in which line.

use super::{Files, checked, with_issuer, with_key};

/// Checks that the text is rejected with this line and hint, by the server and by `config check`.
fn assert_wrong(text: &str, line: usize, hint: &str) {
    let files = Files::new(text);
    let path = files.path();
    for error in [files.config(&[]).unwrap_err(), checked(&files).unwrap_err()] {
        assert!(error.contains(hint), "{text}\n{error}");
        assert!(
            error.contains(&format!("{path}:{line}:")),
            "{text}\n{error}"
        );
    }
}

#[test]
fn an_error_in_the_tables_names_the_line() {
    for (text, line, hint) in [
        ("[acces]", 1, "did you mean access?"),
        ("access = 1", 1, "[access] must be a table"),
        ("[access]", 1, "[access] has no caller"),
        (
            "[access]\nclame = \"x\"",
            2,
            "no setting clame in [access]; did you mean claim?",
        ),
        ("[access.anonymos]", 1, "did you mean anonymous?"),
        ("[access]\ncookie = \"a b\"", 2, "the name of a cookie"),
        ("[access]\nclaim = \"\"", 2, "name of the claim"),
        ("[access]\nquery_token_life = \"1x\"", 2, "15s, 10m, 24h"),
        (
            "[access.anonymous]\nsubscribe = [\n  \"a b\"]",
            3,
            "a pattern is 1 to 64",
        ),
        (
            "[access.anonymous]\nsubscribe = 1",
            2,
            "must be a list of strings",
        ),
        (
            "[access.anonymous]\nobserve = \"yes\"",
            2,
            "observe must be true or false",
        ),
        (
            "[access.anonymous]\nsubscribe = [\"u.{sub}\"]",
            2,
            "a pattern is 1 to 64",
        ),
        (
            "[access.key]\nname = \"a\"",
            1,
            "[[access.key]] with two brackets",
        ),
        ("[[access.key]]\nsha256 = \"\"", 1, "access.key needs name"),
        ("[[access.key]]\nname = \"a\"", 1, "sha256 is one digest"),
        ("[[access.key]]\nname = \"a b\"", 2, "without spaces"),
        (
            "[[access.key]]\nname = \"a\"\nsha256 = \"abc\"",
            3,
            "64 hexadecimal digits",
        ),
        ("[[access.issuer]]\nissuer = \"x\"", 1, "audience"),
    ] {
        assert_wrong(text, line, hint);
    }
}

#[test]
fn an_error_in_a_key_names_the_line() {
    for (settings, hint) in [
        (
            "nme = 1",
            "there is no setting nme in access.key; did you mean name?",
        ),
        (
            "limits = { events = \"1\" }",
            "events: write a number from 1",
        ),
        ("limits = { evnts = \"1/s\" }", "did you mean events?"),
        ("limits = { streams = 0 }", "whole number from 1"),
        ("limits = { streams = \"5\" }", "whole number from 1"),
    ] {
        assert_wrong(&with_key(settings), 4, hint);
    }
    let second = with_key("").replace("\"a\"", "\"b\"");
    assert_wrong(
        &(with_key("") + &with_key("")),
        6,
        "the name a is used twice",
    );
    assert_wrong(
        &(with_key("") + &second),
        7,
        "another key has the same digest",
    );
}

#[test]
fn an_error_in_an_issuer_names_the_line() {
    let secret = "secret_file = \"secret\"\n";
    for (settings, line, hint) in [
        ("", 1, "needs one of jwks_url, jwks_file"),
        (
            "secret_file = \"secret\"\njwks_file = \"x\"",
            1,
            "needs one of",
        ),
        ("jwks_url = \"http://id.example\"", 4, "https"),
        ("jwks_url = \"file:///etc/passwd\"", 4, "https"),
        (
            "jwks_url = \"https://x\"\nalgorithm = \"HS256\"",
            5,
            "RSA keys without alg",
        ),
        ("jwks_url = \"https://u:pw@x\"", 4, "without a user name"),
        ("jwks_file = \"absent\"", 4, "cannot read"),
        ("jwks_file = \"secret\"", 4, "key set"),
        ("public_key_file = \"secret\"", 4, "not a public key"),
        ("secret_file = \"short\"", 4, "at least 32 bytes"),
        (&format!("{secret}algorithm = \"none\""), 5, "write HS256"),
        (
            &format!("{secret}algorithm = \"RS256\""),
            4,
            "HS256, HS384 or HS512",
        ),
        (
            &format!("{secret}grants = {{ subscribe = [\"u.{{sub\"] }}"),
            5,
            "write a claim as {name}",
        ),
        (
            &format!("{secret}grants = {{ subscrib = [] }}"),
            5,
            "did you mean subscribe?",
        ),
    ] {
        assert_wrong(&with_issuer(settings), line, hint);
    }
    assert_wrong(
        &(with_issuer(secret) + &with_issuer("")),
        7,
        "different for each",
    );
}

#[test]
fn an_error_in_the_signing_keys_names_the_line() {
    let anonymous = "[access.anonymous]\nsubscribe = [\"a\"]\n[access.signing]\n";
    for (settings, line, hint) in [
        ("", 3, "needs key_file"),
        ("key_file = \"secret\"", 4, "private Ed25519"),
        ("key_file = \"absent\"", 4, "cannot read"),
        (
            "key_file = \"s\"\nverify_files = [\"secret\"]",
            5,
            "verify_files",
        ),
        ("issuer = \"\"", 4, "issuer must not be empty"),
    ] {
        assert_wrong(&format!("{anonymous}{settings}"), line, hint);
    }
}
