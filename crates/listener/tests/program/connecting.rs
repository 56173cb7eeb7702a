//! Connecting: the request, redirects, and what is retried.

use crate::support::{Listener, PortWithoutServer, Reading, Server};

#[test]
fn the_request_accepts_an_event_stream() {
    let server = Server::start();
    let _listener = Listener::start(&["--url", &server.url()]);
    let request = server.request();
    assert!(
        request.head.starts_with("GET /stream HTTP/1.1\n"),
        "{}",
        request.head
    );
    assert_eq!(request.header("accept"), Some("text/event-stream"));
    assert_eq!(request.header("cache-control"), Some("no-store"));
    assert_eq!(request.header("accept-encoding"), Some("identity"));
}

#[test]
fn channel_and_types_are_sent_as_a_query() {
    let server = Server::start();
    let url = format!("{}/live?x=1", server.url());
    let _listener = Listener::start(&[
        "--url",
        &url,
        "--channel",
        "orders",
        "--event",
        "a b",
        "--event",
        "view",
    ]);
    assert_eq!(
        server.request().target(),
        "/live?x=1&channel=orders&event=a%20b&event=view"
    );
}

#[test]
fn a_missing_server_is_reported_once_and_joined_when_it_starts() {
    let port = PortWithoutServer::reserve();
    let listener = Listener::start(&["--url", &port.url(), "--count", "1"]);
    let output = listener.wait_for_stderr("no server at http://127.0.0.1:");
    assert!(
        output.contains("connection refused") && output.contains("cargo run -p sse-server"),
        "{output}"
    );
    let server = port.serve();
    let _stream = server.stream("data: a\n\n");
    let ended = listener.wait_for_end();
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(0), "event: message \ndata: a\n")
    );
    assert!(
        !ended.stderr.contains("no server"),
        "logged once: {ended:?}"
    );
    assert!(
        ended.stderr.contains("connected to http://127.0.0.1:"),
        "{ended:?}"
    );
}

#[test]
fn a_server_that_is_unavailable_is_retried() {
    let server = Server::start();
    let listener = Listener::start(&["--url", &server.url(), "--count", "2"]);
    server.stream("retry: 1\n\nid: 1-0\ndata: a\n\n").end();
    let busy = r#"{"error":{"code":"broker_down","message":"the broker is away"}}"#;
    server
        .request()
        .respond("503 Service Unavailable", &["Retry-After: 0"], busy);
    listener.wait_for_stderr("503 Service Unavailable: the broker is away");
    server
        .request()
        .respond("500 Internal Server Error", &[], "oops");
    server.request().respond("408 Request Timeout", &[], "");
    let mut again = server.request();
    assert_eq!(again.header("last-event-id"), Some("1-0"));
    again.open_stream();
    again.send("data: b\n\n");
    let ended = listener.wait_for_end();
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (
            Some(0),
            "event: message \ndata: a\nevent: message \ndata: b\n"
        )
    );
}

#[test]
fn a_server_that_is_not_ready_at_first_is_retried() {
    let server = Server::start();
    let listener = Listener::start(&["--url", &server.url(), "--count", "1"]);
    server.request().respond("503 Service Unavailable", &[], "");
    let _stream = server.stream("data: a\n\n");
    assert_eq!(listener.wait_for_end().code, Some(0));
}

#[test]
fn retry_after_sets_the_wait() {
    let server = Server::start();
    let listener = Listener::start(&["--url", &server.url()]);
    server.stream("retry: 1\n\n").end();
    server
        .request()
        .respond("429 Too Many Requests", &["Retry-After: 2"], "slow down");
    let output = listener.wait_for_stderr("429 Too Many Requests: slow down");
    assert!(output.contains("retrying in 2s"), "{output}");
    server.request();
}

#[test]
fn retry_sets_the_wait() {
    let server = Server::start();
    let listener = Listener::start(&["--url", &server.url()]);
    server.stream("retry: 40\ndata: a\n\n").end();
    let output = listener.wait_for_stderr("the server ended the stream");
    assert!(output.contains("retrying in 40ms"), "{output}");
    // Without a `retry`, the last one applies.
    assert_eq!(server.stream("data: a\n\n").target(), "/stream");
}

#[test]
fn a_server_that_ends_every_stream_at_once_is_retried_ever_more_rarely() {
    let server = Server::start();
    let listener = Listener::start(&["--url", &server.url()]);
    let waits = [0, 1, 2, 3].map(|nth| {
        // A short stream with an event is no success.
        server.stream(format!("retry: 5\ndata: {nth}\n\n")).end();
        let output = listener.wait_for_stderr("the server ended the stream; retrying in ");
        output
            .trim_end()
            .rsplit(' ')
            .next()
            .expect("a wait")
            .to_owned()
    });
    assert_eq!(waits[0], "5ms");
    assert!(waits.iter().any(|wait| wait != "5ms"), "{waits:?}");
}

#[test]
fn a_redirect_is_followed_with_the_id() {
    let elsewhere = Server::start();
    let server = Server::start();
    let listener = Listener::start(&[
        "--url",
        &server.url(),
        "--last-event-id",
        "1-0",
        "--count",
        "1",
    ]);
    let location = format!("Location: {}/moved", elsewhere.url());
    server
        .request()
        .respond("307 Temporary Redirect", &[&location], "");
    let mut moved = elsewhere.request();
    assert_eq!(
        (moved.target(), moved.header("last-event-id")),
        ("/moved", Some("1-0"))
    );
    assert_eq!(moved.header("accept"), Some("text/event-stream"));
    moved.open_stream();
    moved.send("data: a\n\n");
    assert_eq!(listener.wait_for_end().code, Some(0));
}

#[test]
fn plain_http_needs_no_certificates() {
    let server = Server::start();
    let nothing = tempfile::tempdir().unwrap();
    let no_file = nothing.path().join("absent.pem");
    let mut command = Listener::command(&["--url", &server.url(), "--count", "1"]);
    command
        .env("SSL_CERT_FILE", no_file)
        .env("SSL_CERT_DIR", nothing.path());
    let listener = Listener::spawn(&mut command, Reading::All);
    let _stream = server.stream("data: a\n\n");
    assert_eq!(listener.wait_for_end().code, Some(0));
}

#[test]
fn this_machine_is_not_reached_through_a_proxy() {
    let (server, proxy) = (Server::start(), PortWithoutServer::reserve());
    let mut command = Listener::command(&["--url", &server.url(), "--count", "1"]);
    command
        .env("HTTP_PROXY", proxy.url())
        .env("ALL_PROXY", proxy.url());
    let listener = Listener::spawn(&mut command, Reading::All);
    let _stream = server.stream("data: a\n\n");
    assert_eq!(listener.wait_for_end().code, Some(0));
}

#[test]
fn another_machine_is_reached_through_a_proxy() {
    let proxy = Server::start();
    let mut command = Listener::command(&["--url", "http://stream.invalid/live", "--count", "1"]);
    command.env("HTTP_PROXY", proxy.url());
    let listener = Listener::spawn(&mut command, Reading::All);
    let mut request = proxy.request();
    assert_eq!(request.target(), "http://stream.invalid/live");
    request.open_stream();
    request.send("data: a\n\n");
    assert_eq!(listener.wait_for_end().code, Some(0));
}

/// Starts a listener for a server on another machine, with this variable. It does not retry.
fn behind_proxy(url: &str, variable: &str, proxy: &str) -> Listener {
    let mut command = Listener::command(&["--url", url, "--max-retries", "0"]);
    command.env(variable, proxy);
    Listener::spawn(&mut command, Reading::All)
}

#[test]
fn a_proxy_that_refuses_the_connection_is_named_without_its_password() {
    let port = PortWithoutServer::reserve();
    let address = port.url().replace("http://", "");
    let proxy = format!("http://me:secret@{address}");
    for (url, variable) in [
        ("http://stream.invalid/live", "HTTP_PROXY"),
        ("http://stream.invalid/live", "all_proxy"),
        ("https://stream.invalid/live", "HTTPS_PROXY"),
    ] {
        let ended = behind_proxy(url, variable, &proxy).wait_for_end();
        let named = format!("the proxy http://{address} ({variable}) refused the connection");
        assert!(
            ended.stderr.contains(&named) && ended.stderr.contains("NO_PROXY"),
            "{url} {variable}: {ended:?}"
        );
        assert!(!ended.stderr.contains("secret"), "{ended:?}");
    }
}

#[test]
fn a_proxy_that_refuses_a_request_is_named() {
    for (status, headers, who) in [
        ("407 Proxy Authentication Required", &[][..], "the proxy"),
        (
            "403 Forbidden",
            &["X-Squid-Error: ERR_ACCESS_DENIED 0"],
            "the proxy",
        ),
        ("403 Forbidden", &[], "the server or the proxy"),
    ] {
        let proxy = Server::start();
        let listener = behind_proxy("http://stream.invalid/live", "HTTP_PROXY", &proxy.url());
        proxy.request().respond(status, headers, "not you");
        let ended = listener.wait_for_end();
        let named = format!(
            "cannot follow http://stream.invalid/live: {who} {} (HTTP_PROXY) responded with {status}: not you",
            proxy.url()
        );
        assert!(ended.stderr.contains(&named), "{named}: {ended:?}");
    }
}

#[test]
fn a_proxy_that_opens_no_tunnel_is_named() {
    let proxy = Server::start();
    let listener = behind_proxy("https://stream.invalid/live", "HTTPS_PROXY", &proxy.url());
    proxy.request().respond("403 Forbidden", &[], "");
    let ended = listener.wait_for_end();
    let named = format!(
        "the proxy {} (HTTPS_PROXY) did not connect to the server: ",
        proxy.url()
    );
    assert!(ended.stderr.contains(&named), "{ended:?}");
}

#[test]
fn a_space_in_a_url_must_be_encoded() {
    let ended = Listener::start(&["--url", "http://h/s?channel=a b"]).wait_for_end();
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.stderr.contains("%20") && !ended.stderr.contains("write http://"),
        "{ended:?}"
    );
}

#[test]
fn a_redirect_to_another_scheme_is_a_failure() {
    let server = Server::start();
    let listener = Listener::start(&["--url", &server.url()]);
    server
        .request()
        .respond("302 Found", &["Location: ftp://example.org/"], "");
    let ended = listener.wait_for_end();
    assert_eq!(ended.code, Some(1));
    assert!(
        ended
            .stderr
            .contains("cannot follow the redirects: to a URL that is neither http nor https"),
        "{ended:?}"
    );
}

#[test]
fn a_server_that_is_silent_for_too_long_is_retried() {
    let server = Server::start();
    let listener = Listener::start(&["--url", &server.url(), "--idle-timeout", "1s"]);
    // The server sends no response.
    let _mute = server.request();
    listener.wait_for_stderr("no bytes for 1s");
    // The server opens a stream and sends nothing more.
    let _silent = server.stream("retry: 1\n\n");
    listener.wait_for_stderr("connected");
    listener.wait_for_stderr("no bytes for 1s");
    server.request();
}
