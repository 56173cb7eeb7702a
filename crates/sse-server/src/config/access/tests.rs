//! Tests of the table `[access]`: what is accepted, what is wrong in which line, and what is printed.

mod errors;

use std::path::Path;

use tempfile::TempDir;

use crate::{
    access::{Right, digest, ticket::create_signing_key, to_hex},
    config::{Config, Invocation},
};

/// A directory with a configuration file and the files that it names.
struct Files(TempDir);

impl Files {
    fn new(config: &str) -> Self {
        let files = Self(TempDir::new().unwrap());
        files.add("sse.toml", config);
        files.add("secret", &"x".repeat(32));
        files.add("short", "x");
        files
    }

    fn add(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    fn path(&self) -> String {
        self.0.path().join("sse.toml").to_str().unwrap().to_owned()
    }

    fn run(&self, args: &[&str]) -> Result<Invocation, String> {
        let path = self.path();
        let args = [&["sse-server", "--memory", "--config", &path], args].concat();
        Invocation::from_args(args).map_err(|error| error.to_string())
    }

    fn config(&self, args: &[&str]) -> Result<Config, String> {
        match self.run(args)? {
            Invocation::Serve(config) => Ok(*config),
            other => panic!("{other:?}"),
        }
    }
}

fn with_key(settings: &str) -> String {
    let digest = to_hex(&digest("key"));
    format!("[[access.key]]\nname = \"a\"\nsha256 = \"{digest}\"\n{settings}\n")
}

fn with_issuer(settings: &str) -> String {
    format!(
        "[[access.issuer]]\nissuer = \"https://id.example\"\naudience = [\"hub\"]\n{settings}\n"
    )
}

#[test]
fn the_example_of_the_issue_is_read() {
    let (private, public) = create_signing_key().unwrap();
    let key = with_key(
        "publish = [\"orders.*\"]\n\
         limits = { events = \"100/s\", bytes = \"1MiB/s\", streams = 50, opens = \"10/s\", \
         channels = \"10/s\", searches = \"5/s\" }",
    );
    let issuer = with_issuer(
        "jwks_url = \"https://id.example.org/jwks.json\"\n\
         grants = { subscribe = [\"users.{sub}\", \"users.{sub}.*\"] }",
    );
    let files = Files::new(&format!(
        "[access]\nclaim = \"sse\"\ncookie = \"__Host-sse\"\nquery_token_life = \"1h\"\n\
         [access.anonymous]\nsubscribe = [\"public.*\"]\n{key}{issuer}\
         [access.signing]\nkey_file = \"signing.pem\"\nverify_files = [\"signing.pem.pub\"]\n"
    ));
    files.add("signing.pem", private.expose());
    files.add("signing.pem.pub", &public);
    let config = files.config(&[]).unwrap();
    assert_eq!(config.warnings, Vec::<String>::new());
    let rules = config.access;
    assert_eq!(
        rules.key_names().map(|name| &**name).collect::<Vec<_>>(),
        ["a"]
    );
    assert!(rules.is_restricted() && rules.signs_tickets());
    assert_eq!(rules.query_token_life().as_secs(), 3600);
    let anonymous = rules.anonymous_rights();
    assert!(anonymous.permits(Right::Subscribe, &"public.a".parse().unwrap()));
    let limits = rules.restrictions.unwrap().keys[0].caller.limits;
    assert_eq!(limits.streams.unwrap().get(), 50);
    assert_eq!(limits.bytes.unwrap().to_string(), "1048576B/s");
}

/// Returns what `config check` prints.
fn checked(files: &Files) -> Result<String, String> {
    match files.run(&["config", "check", &files.path()])? {
        Invocation::Print(text) => Ok(text),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    let (private, _) = create_signing_key().unwrap();
    let (_, other_public) = create_signing_key().unwrap();
    let grants = "secret_file = \"secret\"\ngrants = { subscribe = [\"users.{sub}*\"] }";
    let signing = "[access.signing]\nkey_file = \"signing.pem\"\nverify_files = [\"other\"]\n";
    let files = Files::new(&(with_key("") + &with_issuer(grants) + signing));
    files.add("signing.pem", private.expose());
    files.add("other", &other_public);
    let text = checked(&files).unwrap();
    let path = files.path();
    for expected in [
        format!("warning: {path}:1: the key a grants nothing"),
        format!("warning: {path}:9: users.{{sub}}* also matches"),
        format!("warning: {path}:10: the key of key_file is not in verify_files"),
        format!("{path} is valid"),
    ] {
        assert!(text.contains(&expected), "{expected}\n{text}");
    }
    assert_eq!(files.config(&[]).unwrap().warnings.len(), 3);
}

#[test]
fn files_are_relative_to_the_configuration_file_and_the_public_url_names_the_issuer() {
    let (private, _) = create_signing_key().unwrap();
    let files = Files::new(&(with_key("") + "[access.signing]\nkey_file = \"keys/signing.pem\"\n"));
    std::fs::create_dir(files.0.path().join("keys")).unwrap();
    files.add("keys/signing.pem", private.expose());
    let issuer = |args: &[&str]| {
        let rules = files.config(args).unwrap().access.restrictions.unwrap();
        rules.signing.unwrap().issuer.to_string()
    };
    assert_eq!(issuer(&[]), "urn:sse-server");
    assert_eq!(
        issuer(&["--public-url", "https://hub.example/live/"]),
        "https://hub.example/live"
    );
    files.add(
        "sse.toml",
        &(with_key("") + "[access.signing]\nissuer = \"me\"\nkey_file = \"keys/signing.pem\"\n"),
    );
    assert_eq!(issuer(&["--public-url", "https://hub.example"]), "me");
    let same = with_issuer("secret_file = \"secret\"")
        + "[access.signing]\nissuer = \"https://id.example\"\nkey_file = \"keys/signing.pem\"\n";
    files.add("sse.toml", &same);
    assert!(
        files
            .config(&[])
            .unwrap_err()
            .contains("is the issuer of tickets")
    );
}

#[test]
fn rules_permit_an_address_that_other_machines_can_reach() {
    let reachable = ["--bind", "0.0.0.0:0"];
    let consent = ["--bind", "0.0.0.0:0", "--allow-anonymous"];
    let anonymous = |right: &str| format!("[access.anonymous]\n{right}\n");
    for (text, hint) in [
        (String::new(), Some("--allow-anonymous")),
        (with_key("publish = [\"*\"]"), None),
        (anonymous("subscribe = [\"*\"]"), None),
        (
            anonymous("publish = [\"a\"]"),
            Some("[access.anonymous] grants publish"),
        ),
        (anonymous("manage = [\"a\"]"), Some("grants manage")),
        (anonymous("observe = true"), Some("grants observe")),
        (anonymous("admin = true"), Some("grants admin")),
    ] {
        let files = Files::new(&text);
        let error = files.config(&reachable).err();
        assert_eq!(error.is_some(), hint.is_some(), "{text}: {error:?}");
        assert!(
            hint.is_none_or(|hint| error.unwrap().contains(hint)),
            "{text}"
        );
        assert!(files.config(&consent).is_ok() && files.config(&[]).is_ok());
    }
}

#[test]
fn the_rules_are_printed_without_secrets() {
    let config = with_key("publish = [\"orders.*\"]\nlimits = { streams = 5 }")
        + &with_issuer("secret_file = \"secret\"");
    let files = Files::new(&config);
    let Invocation::Print(text) = files.run(&["config", "print"]).unwrap() else {
        panic!("the settings are printed");
    };
    for (setting, source) in [
        ("# claim = \"sse\"", "default"),
        ("[[access.key]]", "[[access.key]]"),
        ("name = \"a\"", "file, line 2"),
        ("publish = [\"orders.*\"]", "file, line 4"),
        ("limits = { streams = 5 }", "file, line 5"),
        ("secret_file = \"secret\"", "file, line 9"),
    ] {
        let line = text.lines().find(|line| line.starts_with(setting));
        assert!(
            line.is_some_and(|line| line.ends_with(source)),
            "{setting} in {text}"
        );
    }
    assert!(
        !text.contains(&to_hex(&digest("key"))) && !text.contains(&"x".repeat(32)),
        "{text}"
    );
}

#[test]
fn the_rules_can_be_read_again() {
    let files = Files::new(&with_key("publish = [\"a\"]"));
    let config = files.config(&[]).unwrap();
    files.add(
        "sse.toml",
        &with_key("publish = [\"b\"]").replace("\"a\"", "\"b\""),
    );
    let again = config.read_access_again().unwrap();
    assert_eq!(
        again
            .rules
            .key_names()
            .map(|name| &**name)
            .collect::<Vec<_>>(),
        ["b"]
    );
    files.add("sse.toml", "[access");
    assert!(
        config
            .read_access_again()
            .unwrap_err()
            .contains("this is not TOML")
    );
    std::fs::remove_file(Path::new(&files.path())).unwrap();
    assert!(
        config
            .read_access_again()
            .unwrap_err()
            .contains("cannot read")
    );
}
