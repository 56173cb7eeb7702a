//! The command line: misuse is reported with exit code 2, and help contains examples.

use crate::{
    run::{Bench, event},
    support::{Listener, Reading, Server},
};

#[test]
fn misuse_ends_with_2_and_states_what_to_write() {
    for (arguments, hint) in [
        (&["--http2-streams", "10"][..], "needs https"),
        (
            &["--url", "https://h", "--http2-streams", "0"],
            "--http2-streams",
        ),
        (&["--url", "localhost:1"], "write http://"),
        (&["--connections", "0"], "--connections"),
        (&["--cut-every", "5s", "--cut-share", "0"], "write a share"),
        (&["--cut-share", "5%"], "--cut-every"),
        (&["--duration", "5"], "like 5ms, 15s"),
        (&["--source", "here"], "--source"),
        (&["--expect-no-loss", "--event", "a"], "cannot be judged"),
        (&["--format", "json"], "--format"),
    ] {
        let ended = Listener::start(&[&["bench"], arguments].concat()).wait_for_end();
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (Some(2), ""),
            "{arguments:?}: {ended:?}"
        );
        assert!(ended.stderr.contains(hint), "{arguments:?}: {ended:?}");
    }
}

#[test]
fn too_few_open_files_are_reported_at_the_start() {
    let server = Server::start();
    let mut shell = std::process::Command::new("sh");
    let script = format!(
        "ulimit -n 64; exec {} bench --url {} --connections 100",
        env!("CARGO_BIN_EXE_listener"),
        server.url()
    );
    let ended =
        Listener::spawn(shell.args(["-c", &script]).env_clear(), Reading::All).wait_for_end();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("ulimit -Hn"), "{ended:?}");
}

#[test]
fn help_contains_examples_for_several_servers() {
    let ended = Listener::start(&["bench", "--help"]).wait_for_end();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    for word in [
        "Exit codes:",
        "Nchan",
        "Mercure",
        "Flask-SSE",
        "--cut-every 5s",
        "LISTENER_BENCH_CONNECTIONS",
        "no proxies",
    ] {
        assert!(ended.stdout.contains(word), "{word}:\n{}", ended.stdout);
    }
}

#[test]
fn flags_of_bench_have_environment_variables_of_their_own() {
    let server = Server::start();
    let mut command = Listener::command(&["bench"]);
    command
        .env("LISTENER_URL", server.url())
        .env("LISTENER_BENCH_CONNECTIONS", "2")
        .env("LISTENER_BENCH_COUNT", "1")
        .env("LISTENER_BENCH_EXPECT_NO_LOSS", "1")
        .env("LISTENER_COUNT", "1000");
    let listener = Listener::spawn(&mut command, Reading::All);
    let _streams = [server.stream(event(0)), server.stream(event(0))];
    let ended = listener.wait_for_end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("2 of 2"), "{ended:?}");
}

#[test]
fn the_request_equals_that_of_the_listener() {
    let server = Server::start();
    let bench = Bench::start(
        &server,
        &[
            "--channel",
            "orders",
            "--since",
            "10m",
            "--bearer",
            "t",
            "--header",
            "X-A: b",
            "--body",
            "{}",
            "--count",
            "1",
        ],
    );
    let mut stream = server.request();
    assert_eq!(
        stream.posted(),
        (
            "POST /stream?channel=orders&since=10m",
            Some("application/json"),
            "{}"
        )
    );
    assert_eq!(
        (stream.header("authorization"), stream.header("x-a")),
        (Some("Bearer t"), Some("b"))
    );
    stream.open_stream();
    stream.send(event(0));
    bench.wait_for_end().assert_code(0);
}

#[test]
fn connections_come_from_the_sources_that_were_named() {
    let server = Server::start();
    let bench = Bench::start(
        &server,
        &[
            "--source",
            "127.0.0.1",
            "--connections",
            "2",
            "--count",
            "1",
            "--ramp",
            "10ms",
        ],
    );
    let _streams = [server.stream(event(0)), server.stream(event(0))];
    let done = bench.wait_for_end();
    done.assert_code(0);
    assert_eq!(done.report["sources"][0], "127.0.0.1");
}
