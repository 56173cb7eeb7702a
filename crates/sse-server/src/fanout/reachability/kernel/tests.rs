//! What the kernel reports about connections of this machine, and what other bytes lead to.

use std::{
    collections::HashMap,
    io::Write as _,
    net::{TcpListener, TcpStream},
    time::Instant,
};

use proptest::prelude::*;
use socket2::SockRef;

use super::*;

/// Longer than the kernel takes to notice a closed window; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

fn connect(address: &str) -> (TcpListener, TcpStream, TcpStream) {
    let listener = TcpListener::bind(address).unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    (listener, client, accepted)
}

fn connections(listener: &TcpListener) -> HashMap<SocketCookie, TcpState> {
    let mut found = HashMap::new();
    let address = listener.local_addr().unwrap();
    visit_connections(address, |cookie, state| {
        found.insert(cookie, state);
    })
    .unwrap();
    found
}

fn cookie_of(socket: &TcpStream) -> SocketCookie {
    SocketCookie(SockRef::from(socket).cookie().unwrap())
}

#[test]
fn only_accepted_connections_of_the_port_are_reported() {
    let (listener, client, accepted) = connect("127.0.0.1:0");
    let (_other_listener, _other_client, other) = connect("127.0.0.1:0");
    let found = connections(&listener);
    assert_eq!(found.len(), 1);
    let state = found[&cookie_of(&accepted)];
    assert_eq!(state.outstanding, Outstanding::Nothing);
    assert!(!found.contains_key(&cookie_of(&client)));
    assert!(!found.contains_key(&cookie_of(&other)));
    drop((client, accepted));
    assert!(connections(&listener).is_empty());
}

#[test]
fn an_ipv4_client_of_an_ipv6_listener_is_reported() {
    let (listener, _client, accepted) = connect("[::]:0");
    assert!(connections(&listener).contains_key(&cookie_of(&accepted)));
}

#[test]
fn a_client_that_reads_nothing_has_a_closed_window() {
    let (listener, _client, mut accepted) = connect("127.0.0.1:0");
    accepted.set_nonblocking(true).unwrap();
    let start = Instant::now();
    loop {
        // The kernel may move its buffers for a while before the window is closed for good.
        while accepted.write(&[0; 4096]).is_ok() {}
        let state = connections(&listener)[&cookie_of(&accepted)];
        if matches!(state.outstanding, Outstanding::Window { .. }) {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{state:?}");
    }
}

#[test]
fn an_error_of_the_kernel_is_returned() {
    // A header of NLMSG_ERROR, and ENOENT: the kernel has no `tcp_diag`.
    let mut message = vec![20, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    message.extend((-2_i32).to_ne_bytes());
    let error = visit_datagram(&message, &mut |_, _| {}).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

proptest! {
    #[test]
    fn no_datagram_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = visit_datagram(&bytes, &mut |_, _| {});
    }

    #[test]
    fn no_answer_about_a_connection_panics(payload in prop::collection::vec(any::<u8>(), 0..400)) {
        // With a known family, the decoder reads further.
        for family in [AF_INET, AF_INET6] {
            let mut payload = payload.clone();
            if let Some(first) = payload.first_mut() {
                *first = family;
            }
            let _ = decode(&payload);
        }
    }
}
