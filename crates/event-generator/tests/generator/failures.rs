//! An absent server, and wrong command lines.

use crate::{
    program::Program,
    server::{RefusingPort, Response, Server},
};

#[test]
fn a_server_that_closes_each_connection_loses_no_event() {
    let server = Server::start(|_| Response::AcknowledgeAndClose);
    for url in [
        server.url(),
        server.url().replace("http://", "http://me:secret@"),
    ] {
        let ended = Program::run([
            "--url",
            &url,
            "--rate",
            "max",
            "--count",
            "50",
            "--concurrency",
            "4",
        ]);
        assert!(
            ended
                .stderr_text()
                .contains("sent 50, acknowledged 50, failed 0, unknown 0"),
            "{ended:?}"
        );
    }
}

#[test]
fn without_a_server_a_run_shows_a_hint_keeps_trying_and_fails_at_the_end() {
    let refusing = RefusingPort::new();
    let url = refusing.url();
    let ended = Program::run(["--url", &url, "--rate", "50", "--count", "5"]);
    assert_eq!((ended.code, ended.stdout.len()), (Some(1), 0));
    let output = ended.stderr_text();
    assert_eq!(
        output.matches("`cargo run -p sse-server`").count(),
        1,
        "{output}"
    );
    assert!(
        output.contains(&format!("cannot connect to {url}: ")),
        "{output}"
    );
    assert!(
        output.contains("sent 5, acknowledged 0, failed 5, unknown 0"),
        "{output}"
    );
}

#[test]
fn a_proxy_that_does_not_answer_is_named_without_its_password() {
    let refusing = RefusingPort::new();
    let address = refusing.address();
    let proxy = format!("http://me:secret@{address}");
    for (url, variable) in [
        ("http://sse.invalid", "HTTP_PROXY"),
        ("http://sse.invalid", "http_proxy"),
        ("http://sse.invalid", "ALL_PROXY"),
        ("https://sse.invalid", "HTTPS_PROXY"),
    ] {
        let ended =
            Program::start_with(["--url", url, "--count", "1"], &[(variable, &proxy)]).end();
        let output = ended.stderr_text();
        let named =
            format!("cannot connect to {url} through the proxy http://{address} ({variable}): ");
        assert!(
            output.contains(&named) && output.contains("NO_PROXY"),
            "{output}"
        );
        assert!(
            !output.contains("secret") && !output.contains("sse-server`"),
            "{output}"
        );
    }
}

#[test]
fn a_proxy_that_refuses_a_request_or_a_tunnel_is_named() {
    let proxy = Server::start(|_| Response::Status(407, String::new()));
    let arguments = ["--url", "http://sse.invalid", "--count", "1"];
    let ended = Program::start_with(arguments, &[("HTTP_PROXY", &proxy.url())]).end();
    assert!(
        ended
            .stderr_text()
            .contains("the proxy asks for a user name"),
        "{ended:?}"
    );
    let arguments = ["--url", "https://sse.invalid", "--count", "1"];
    let ended = Program::start_with(arguments, &[("HTTPS_PROXY", &proxy.url())]).end();
    let named = format!("no connection: the proxy {} (HTTPS_PROXY): ", proxy.url());
    assert!(ended.stderr_text().contains(&named), "{ended:?}");
}

#[test]
fn without_a_server_a_closed_loop_pauses_between_attempts() {
    let refusing = RefusingPort::new();
    let url = refusing.url();
    let arguments = [
        "--url",
        &url,
        "--rate",
        "max",
        "--concurrency",
        "1",
        "--duration",
        "500ms",
    ];
    let ended = Program::run(arguments);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    // The loop connects at 0, 50, 150 and 350 ms: on a slow machine less often, and without pauses
    // thousands of times.
    let sent = |count| {
        ended.stderr_text().contains(&format!(
            "sent {count}, acknowledged 0, failed {count}, unknown 0"
        ))
    };
    assert!((1..=4).any(sent), "{ended:?}");
}

#[test]
fn misuse_ends_with_code_two_and_states_what_is_allowed() {
    for (arguments, hint) in [
        (&["--url", "ftp://127.0.0.1"][..], "http:// or https://"),
        (&["--url", "127.0.0.1:5000"], "http://127.0.0.1:5000"),
        (
            &["--url", "127.0.0.1:5000"],
            "write http:// or https:// in front",
        ),
        (
            &["--url", "localhost:5000"],
            "write http:// or https:// in front",
        ),
        (&["--count", "0"], "a whole number from 1 to "),
        (&["--count", "x"], "a whole number from 1 to "),
        (&["--seed", "x"], "a whole number from 0 to "),
        (
            &["--payload", "session", "--users", "0"],
            "a whole number from 1 to 1000000",
        ),
        (&["--rate", "0"], "more than 0"),
        (&["--rate", "-1"], "more than 0"),
        (&["--rate", "inf"], "at most 1000000"),
        (&["--duration", "10"], "a number and a unit"),
        (&["--actions", "view,gap"], "reserved"),
        (&["--actions", "view=0"], "more than 0"),
        (&["--channel", "a/b"], "a channel is"),
        (&["--colour"], "--colour"),
        (&["--ramp", "10..20"], "10..1000/60s"),
        (&["--batch", "2", "--path", "/x"], "remove it"),
        (
            &["--replay", "x", "--record", "y"],
            "remove --replay or --record",
        ),
        (
            &["--payload", "session", "--actions", "view"],
            "remove --actions",
        ),
        (&["--path", "x"], "begins with a slash"),
        (
            &["--bearer", "a", "--header", "Authorization: b"],
            "both set Authorization",
        ),
    ] {
        let ended = Program::run(arguments.iter().copied());
        assert_eq!(
            (ended.code, ended.stdout.len()),
            (Some(2), 0),
            "{arguments:?}"
        );
        assert!(ended.stderr_text().contains(hint), "{ended:?}");
    }
}

#[test]
fn an_invalid_url_is_not_printed_wherever_it_comes_from() {
    for url in [
        "ftp://me:secret@127.0.0.1",
        "http://me:secret@127.0.0.1:x",
        "me:secret@127.0.0.1:5000",
    ] {
        for ended in [
            Program::run(["--url", url]),
            Program::start_with([], &[("GENERATOR_URL", url)]).end(),
        ] {
            assert_eq!(ended.code, Some(2), "{ended:?}");
            let output = ended.stderr_text();
            assert!(
                output.contains("http://127.0.0.1:5000") && !output.contains("secret"),
                "{output}"
            );
        }
    }
}

#[test]
fn the_short_help_has_only_the_flags_that_a_first_user_needs() {
    let [short, long] = ["-h", "--help"].map(|how| Program::run([how]).stdout.join("\n"));
    for help in [&short, &long] {
        assert!(help.contains("--rate <EVENTS>"), "{help}");
    }
    assert!(
        !short.contains("--concurrency") && short.lines().count() < 50,
        "{short}"
    );
    assert!(long.contains("--concurrency"), "{long}");
}

#[test]
fn help_documents_the_exit_codes_and_ends_with_examples() {
    let ended = Program::run(["--help"]);
    assert_eq!(ended.code, Some(0));
    let help = ended.stdout.join("\n");
    assert!(help.contains("Exit codes:\n  0  done"), "{help}");
    assert!(
        help.lines()
            .last()
            .is_some_and(|line| line.trim().starts_with("event-generator ")),
        "{help}"
    );
}
