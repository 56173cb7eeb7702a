//! Headers and tokens of the user: they are sent only to the origin of `--url`, and never printed.

use crate::support::{Listener, PortWithoutServer, Reading, Server};

const SECRETS: [&str; 6] = [
    "--header",
    "X-Key: secret-key",
    "--header",
    "x-tag: a: b",
    "--bearer",
    "secret-token",
];

fn start(url: &str, arguments: &[&str]) -> Listener {
    Listener::start(&[&["--url", url], arguments].concat())
}

fn location(url: &str) -> String {
    format!("Location: {url}")
}

#[test]
fn headers_and_the_token_are_sent_with_every_request() {
    let server = Server::start();
    let _listener = start(&server.url(), &SECRETS);
    for _ in 0..2 {
        let mut request = server.request();
        assert_eq!(request.header("x-key"), Some("secret-key"));
        assert_eq!(request.header("x-tag"), Some("a: b"));
        assert_eq!(request.header("authorization"), Some("Bearer secret-token"));
        assert_eq!(request.header("accept"), Some("text/event-stream"));
        request.open_stream();
        request.send("retry: 1\n\n");
        request.end();
    }
}

#[test]
fn a_redirect_within_the_origin_keeps_headers_and_token() {
    let server = Server::start();
    let _listener = start(&server.url(), &SECRETS);
    server
        .request()
        .respond("302 Found", &["Location: /relative"], "");
    server.request().respond(
        "308 Permanent Redirect",
        &[&location(&format!("{}/absolute", server.url()))],
        "",
    );
    let moved = server.request();
    assert_eq!(moved.target(), "/absolute");
    assert_eq!(moved.header("x-key"), Some("secret-key"));
    assert_eq!(moved.header("authorization"), Some("Bearer secret-token"));
}

#[test]
fn another_origin_gets_no_secret_at_any_hop() {
    for (user, arguments) in [("", &SECRETS[..]), ("user:secret@", &SECRETS[..4])] {
        let (server, elsewhere) = (Server::start(), Server::start());
        let url = server.url().replace("http://", &format!("http://{user}")) + "/s?token=secret";
        let listener = start(&url, arguments);
        let first = server.request();
        assert!(first.header("authorization").is_some());
        first.respond("307 Temporary Redirect", &[&location(&elsewhere.url())], "");
        let hop = elsewhere.request();
        assert_bare(&hop.head);
        hop.respond("307 Temporary Redirect", &["Location: /again"], "");
        let hop = elsewhere.request();
        assert_bare(&hop.head);
        // Another server must not choose the URL that receives the secrets.
        hop.respond(
            "307 Temporary Redirect",
            &[&location(&format!("{}/chosen", server.url()))],
            "",
        );
        let mut back = server.request();
        assert_bare(&back.head);
        back.open_stream();
        back.send("retry: 1\n\n");
        back.end();
        // The next connection begins at `--url`, with all secrets.
        listener.wait_for_stderr("the server ended the stream");
        assert!(server.request().header("authorization").is_some());
    }
}

fn assert_bare(head: &str) {
    let lower = head.to_lowercase();
    for kept in ["secret", "authorization", "x-key", "x-tag", "referer"] {
        assert!(!lower.contains(kept), "{kept}: {head}");
    }
    assert!(lower.contains("accept: text/event-stream"), "{head}");
}

#[test]
fn a_rejection_after_a_redirect_states_what_was_withheld() {
    let (server, elsewhere) = (Server::start(), Server::start());
    let listener = start(&server.url(), &["--bearer", "secret-token"]);
    server
        .request()
        .respond("301 Moved Permanently", &[&location(&elsewhere.url())], "");
    elsewhere
        .request()
        .respond("401 Unauthorized", &[], "who are you?");
    let ended = listener.wait_for_end();
    assert_eq!(ended.code, Some(1));
    let expected = format!(
        "401 Unauthorized: who are you? (after a redirect to {}, to which --header, --bearer and passwords are not sent",
        elsewhere.url()
    );
    assert!(ended.stderr.contains(&expected), "{ended:?}");
    assert!(!ended.stderr.contains("secret"), "{ended:?}");
}

#[test]
fn a_header_and_the_token_can_be_set_by_the_environment() {
    let server = Server::start();
    let mut command = Listener::command(&["--url", &server.url()]);
    command
        .env("LISTENER_HEADER", "X-Key: a, b")
        .env("LISTENER_BEARER", "secret-token");
    let _listener = Listener::spawn(&mut command, Reading::All);
    let request = server.request();
    assert_eq!(request.header("x-key"), Some("a, b"));
    assert_eq!(request.header("authorization"), Some("Bearer secret-token"));
}

#[test]
fn misuse_ends_with_2_and_shows_no_value() {
    for (arguments, hint) in [
        (&["--header", "secret"][..], "'Name: value'"),
        (&["--header", "secret secret: secret"], "'Name: value'"),
        (
            &["--header", "X-Key: secret\nX-Other: secret"],
            "control characters",
        ),
        (&["--header", "X-Key:"], "has no value"),
        (&["--header", "X-Key:", "secret"], "in quotes"),
        (
            &["--header", "Accept: secret"],
            "sets the header accept itself",
        ),
        (&["--header", "last-event-id: secret"], "--last-event-id"),
        (
            &["--header", "Content-Length: 123456"],
            "it is set automatically",
        ),
        (&["--bearer", "Bearer secret"], "without spaces"),
        (&["--bearer", ""], "one word"),
        (
            &["--bearer", "secret", "--header", "authorization: secret"],
            "both set Authorization",
        ),
        (
            &["--bearer", "secret", "--url", "http://user:secret@h"],
            "both set Authorization",
        ),
        (
            &["--url", "ftp://user:secret@h"],
            "write http:// or https:// in front",
        ),
        (&["--url", "http://user:secret@"], "not a URL"),
    ] {
        let ended = Listener::start(arguments).wait_for_end();
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (Some(2), ""),
            "{arguments:?}"
        );
        assert!(ended.stderr.contains(hint), "{arguments:?}: {ended:?}");
        assert!(
            !ended.stderr.contains("secret") && !ended.stderr.contains("123456"),
            "{ended:?}"
        );
    }
}

#[test]
fn help_prints_no_secret_and_recommends_the_variable() {
    let mut command = Listener::command(&["--help"]);
    command
        .env("LISTENER_HEADER", "X-Key: hunter2")
        .env("LISTENER_BEARER", "hunter2");
    let ended = Listener::spawn(&mut command, Reading::All).wait_for_end();
    assert_eq!(ended.code, Some(0));
    assert!(!ended.stdout.contains("hunter2"), "{}", ended.stdout);
    assert!(
        ended.stdout.contains("[env: LISTENER_BEARER]"),
        "{}",
        ended.stdout
    );
    assert!(
        ended
            .stdout
            .contains("Give it by the variable rather than by the flag"),
        "{}",
        ended.stdout
    );
}

#[test]
fn no_message_contains_a_secret() {
    let port = PortWithoutServer::reserve();
    let url = port.url().replace("http://", "http://user:secret@") + "/s?token=secret";
    let ended = start(&url, &["--header", "X-Key: secret", "--max-retries", "0"]).wait_for_end();
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("connection refused") && !ended.stderr.contains("secret"),
        "{ended:?}"
    );
}
