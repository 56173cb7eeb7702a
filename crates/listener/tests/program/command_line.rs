//! The command line: misuse is reported with exit code 2, help contains examples, and every flag
//! has an environment variable.

use crate::support::{Listener, Reading, Server};

#[test]
fn misuse_ends_with_2_and_states_what_to_write() {
    for (arguments, hint) in [
        (
            ["--url", "localhost:5000"],
            "write http:// or https:// in front",
        ),
        (
            ["--url", "ftp://example.org/"],
            "write http:// or https:// in front",
        ),
        (["--channel", "a b"], "A-Z a-z 0-9"),
        (["--count", "0"], "--count"),
        (["--format", "xml"], "json"),
        (["--last-event-id", "a\nb"], "control characters"),
        (["--no-such-flag", "x"], "--no-such-flag"),
        (["--idle-timeout", "45"], "like 5ms, 15s"),
        (["--idle-timeout", "0s"], "more than zero"),
        (["--max-event-size", "0"], "more than zero"),
        (["--max-event-size", "much"], "like 512KiB"),
        (["--max-retries", "-1"], "write a whole number from 0 to"),
        (
            ["http://127.0.0.1:5000", "--count=1"],
            "give a URL by --url",
        ),
        (["--count=1", "bench"], "write bench first"),
        (["bench", "http://127.0.0.1:5000"], "give a URL by --url"),
        (["--method", "HEAD"], "the response to HEAD has no stream"),
        (["--body", "@/absent"], "cannot read the body from /absent"),
        (["--last", "0"], "write a whole number from 1 on"),
        (["bench", "--count=0"], "write a whole number from 1 on"),
        (["bench", "--seed=x"], "write a whole number from 0 to"),
        (["bench", "--connections=x"], "from 1 to 4000000"),
        (["bench", "--connections=0"], "from 1 to 4000000"),
        (["--last=5", "--since=10m"], "cannot be used with"),
        (["--since", "10"], "has no unit: write 10s, 10m, 10h or 10d"),
        (["--since", "0"], "like 1970-01-01T00:00:00Z"),
        (["--since", "1795521996855000"], "looks like microseconds"),
        (["--since", "yesterday"], "like 90s, 10m, 2h or 1d"),
        (["--since", ""], "like 90s, 10m, 2h or 1d"),
        (["bench", "--since=10"], "has no unit"),
        (
            ["--format=data", "--show-comments"],
            "no place for comments",
        ),
        (
            ["--url=http://h/a", "--url=http://h/a"],
            "--url http://h/a is given twice",
        ),
        (["--completions", "tcsh"], "bash"),
    ] {
        let ended = Listener::start(&arguments).wait_for_end();
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (Some(2), ""),
            "{arguments:?}"
        );
        assert!(ended.stderr.contains(hint), "{ended:?}");
    }
}

#[test]
fn help_documents_exit_codes_and_ends_with_examples() {
    for flag in ["-h", "--help"] {
        let ended = Listener::start(&[flag]).wait_for_end();
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
        assert!(ended.stdout.contains("Exit codes:"), "{}", ended.stdout);
        assert!(
            ended
                .stdout
                .lines()
                .last()
                .is_some_and(|line| line.starts_with("    listener --")),
            "{}",
            ended.stdout
        );
    }
}

#[test]
fn the_short_help_has_only_the_flags_that_a_first_user_needs() {
    for (arguments, rare) in [
        (&["-h"][..], "--idle-timeout"),
        (&["bench", "-h"], "--settle"),
    ] {
        let short = Listener::start(arguments).wait_for_end().stdout;
        assert!(
            short.contains("--url <URL>") && !short.contains(rare),
            "{short}"
        );
        assert!(short.lines().count() < 50, "{short}");
        let long = [&arguments[..arguments.len() - 1], &["--help"]].concat();
        let long = Listener::start(&long).wait_for_end().stdout;
        assert!(
            long.contains("--url <URL>") && long.contains(rare),
            "{long}"
        );
    }
}

#[test]
fn every_flag_has_an_environment_variable() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("got.ndjson");
    let server = Server::start();
    let mut command = Listener::command(&[]);
    command
        .env("LISTENER_URL", server.url())
        .env("LISTENER_CHANNEL", "orders")
        .env("LISTENER_EVENT", "click,view")
        .env("LISTENER_STATE", directory.path().join("state"))
        .env("LISTENER_LAST_EVENT_ID", "1-0")
        .env("LISTENER_METHOD", "POST")
        .env("LISTENER_BODY", "{}")
        .env("LISTENER_INSECURE", "1")
        .env("LISTENER_SHOW_COMMENTS", "true")
        .env("LISTENER_HEADER", "X-Key: a")
        .env("LISTENER_BEARER", "b")
        .env("LISTENER_IDLE_TIMEOUT", "2m")
        .env("LISTENER_MAX_RETRIES", "0")
        .env("LISTENER_MAX_EVENT_SIZE", "1MiB")
        .env("LISTENER_COUNT", "1")
        .env("LISTENER_FORMAT", "json")
        .env("LISTENER_RECORD", &path);
    let listener = Listener::spawn(&mut command, Reading::All);
    let mut request = server.request();
    assert_eq!(
        request.target(),
        "/stream?channel=orders&event=click&event=view"
    );
    assert_eq!(request.header("last-event-id"), Some("1-0"));
    assert_eq!(request.posted().2, "{}");
    request.open_stream();
    request.send(": hello\n\nevent: click\ndata: a\n\n");
    let ended = listener.wait_for_end();
    let expected = "{\"comment\":\"hello\"}\n{\"id\":\"1-0\",\"event\":\"click\",\"data\":\"a\"}\n";
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), expected));
    assert!(path.exists());
}

#[test]
fn completions_are_printed_for_a_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = Listener::start(&["--completions", shell]).wait_for_end();
        assert_eq!(
            (ended.code, ended.stderr.as_str()),
            (Some(0), ""),
            "{shell}"
        );
        assert!(ended.stdout.contains("max-event-size"), "{shell}");
    }
}

#[test]
fn a_mistyped_variable_is_reported() {
    let server = Server::start();
    let mut command = Listener::command(&["--url", &server.url(), "--count", "1"]);
    command
        .env("LISTENER_CHANEL", "orders")
        .env("LISTENER_IDLE_TIMEOUT", "9s")
        .env("LISTENER_BENCH_RAMP", "1s");
    let listener = Listener::spawn(&mut command, Reading::All);
    let _stream = server.stream("data: a\n\n");
    let ended = listener.wait_for_end();
    assert_eq!(ended.code, Some(0));
    assert!(
        ended.stderr.contains("unknown setting LISTENER_CHANEL; "),
        "{ended:?}"
    );
    assert_eq!(ended.stderr.matches("unknown setting").count(), 1);
}
