//! Ctrl-C and SIGTERM end the listener at once, quietly and with success.

use rustix::process::{Signal, kill_process};

use crate::support::{Listener, PortWithoutServer, Reading, Server, first_byte};

#[test]
fn a_signal_ends_the_listener_while_it_waits_for_events() {
    for signal in [Signal::INT, Signal::TERM] {
        let server = Server::start();
        let listener = Listener::start(&["--url", &server.url()]);
        let _stream = server.stream("data: a\n\n");
        assert_eq!(
            [listener.line(), listener.line()].concat(),
            "event: message \ndata: a\n"
        );
        kill_process(listener.id(), signal).unwrap();
        let ended = listener.wait_for_end();
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""));
        assert_eq!(
            ended.stderr.lines().count(),
            1,
            "only that it is connected: {ended:?}"
        );
    }
}

#[test]
fn a_signal_ends_the_listener_without_a_server() {
    let port = PortWithoutServer::take();
    let listener = Listener::start(&["--url", &port.url()]);
    listener.wait_for_stderr("no server");
    kill_process(listener.id(), Signal::TERM).unwrap();
    assert_eq!(listener.wait_for_end().code, Some(0));
}

#[test]
fn a_signal_ends_the_listener_while_stdout_is_not_read() {
    let server = Server::start();
    let mut listener = Listener::spawn(
        &mut Listener::command(&["--url", &server.url()]),
        Reading::Nothing,
    );
    // No pipe holds that much, so after its first byte the listener is blocked in the write.
    let _stream = server.stream(format!("data: {}\n\n", "x".repeat(4 << 20)));
    let _unread = first_byte(listener.take_stdout());
    kill_process(listener.id(), Signal::INT).unwrap();
    assert_eq!(listener.wait_for_end().code, Some(0));
}
