//! Streams over TLS, and several of them on a connection over HTTP/2.

use crate::{
    run::{Bench, Done},
    tls_server::{AfterEvent, TlsServer},
};

/// Runs a load test of the server that trusts its certificate.
fn run(server: &TlsServer, path: &str, arguments: &[&str]) -> Done {
    let certificate = server.certificate();
    let trust = ["--cacert", certificate.to_str().expect("UTF-8")];
    let url = server.url() + path;
    Bench::at(&[&url], &[&trust, arguments].concat()).wait_for_end()
}

#[test]
fn streams_over_tls_are_read() {
    let server = TlsServer::start("http/1.1", AfterEvent::Wait);
    let done = run(&server, "", &["--connections", "3", "--count", "1"]);
    done.assert_code(0);
    assert_eq!(
        done.numbers(["/events/total", "/connects/opened", "/loss/lost/total"]),
        [3, 3, 0]
    );
    assert!(done.number("/bytes/wire") > done.number("/bytes/data"));
}

#[test]
fn insecure_accepts_any_certificate_and_otherwise_it_must_be_trusted() {
    let server = TlsServer::start("http/1.1", AfterEvent::Wait);
    let url = server.url();
    let done = Bench::at(&[&url], &["--insecure", "--count", "1"]).wait_for_end();
    done.assert_code(0);
    let other = TlsServer::start("http/1.1", AfterEvent::Wait);
    let certificate = other.certificate();
    let arguments = ["--cacert", certificate.to_str().expect("UTF-8")];
    let done = Bench::at(&[&url], &arguments).wait_for_end();
    done.assert_code(1);
    let failed = "/connects/failed/the server's certificate is not trusted";
    assert_eq!(done.number(failed), 1);
    assert!(done.ended.stdout.contains("--cacert"), "{done:#?}");
}

#[test]
fn streams_share_connections_over_http2() {
    let server = TlsServer::start("h2", AfterEvent::Wait);
    let arguments = ["--connections", "5", "--http2-streams", "2", "--count", "1"];
    let done = run(&server, "", &arguments);
    done.assert_code(0);
    assert_eq!(
        done.numbers(["/events/total", "/connects/opened", "/http2_streams"]),
        [5, 5, 2]
    );
    assert_eq!(server.connections(), 3);
}

#[test]
fn a_stream_over_http2_that_ends_is_resumed_on_its_connection() {
    let server = TlsServer::start("h2", AfterEvent::EndStream);
    let arguments = ["--connections", "2", "--http2-streams", "2", "--count", "3"];
    let done = run(&server, "", &arguments);
    done.assert_code(0);
    assert_eq!(
        done.numbers([
            "/events/total",
            "/ends/by_server",
            "/connects/resumed_with_id",
            "/loss/lost/total"
        ]),
        [6, 4, 4, 0]
    );
    assert_eq!(server.connections(), 1);
}

#[test]
fn streams_of_a_connection_that_ends_are_resumed_on_another_one() {
    let server = TlsServer::start("h2", AfterEvent::Disconnect);
    let arguments = ["--connections", "1", "--http2-streams", "2", "--count", "2"];
    let done = run(&server, "", &arguments);
    done.assert_code(0);
    assert_eq!(done.numbers(["/events/total", "/loss/lost/total"]), [2, 0]);
    assert_eq!(server.connections(), 2);
}

#[test]
fn a_rejection_over_http2_is_counted_with_its_message() {
    let server = TlsServer::start("h2", AfterEvent::Wait);
    let arguments = ["--http2-streams", "1", "--duration", "300ms"];
    let done = run(&server, "/elsewhere", &arguments);
    assert_eq!(done.report["connects"]["refused"][0]["answer"], "503");
    assert_eq!(done.report["connects"]["refused"][0]["message"], "busy");
}

#[test]
fn a_server_without_http2_is_a_failure_with_a_hint() {
    let server = TlsServer::start("http/1.1", AfterEvent::Wait);
    let done = run(&server, "", &["--http2-streams", "10"]);
    done.assert_code(1);
    assert_eq!(
        done.number("/connects/failed/the server does not speak HTTP~12"),
        1
    );
    assert!(done.ended.stdout.contains("--http2-streams"), "{done:#?}");
}
