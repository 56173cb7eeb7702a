//! When a socket reports room.

use std::time::Duration;

use mio::{Events, Poll};

use super::*;

const TOKEN: Token = Token(1);

/// Whether the socket reports room now.
fn reports_room(poll: &mut Poll) -> bool {
    let mut events = Events::with_capacity(8);
    poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
    events.iter().any(mio::event::Event::is_writable)
}

fn fill(socket: &mut StreamSocket) {
    while socket.write(&[b'x'; 4096]).is_ok() {}
}

fn drain(client: &mut mio::net::UnixStream) {
    while client.read(&mut [0; 4096]).is_ok() {}
}

#[test]
fn a_unix_socket_reports_room_only_while_a_write_is_blocked() {
    let mut poll = Poll::new().unwrap();
    let (mut client, accepted) = mio::net::UnixStream::pair().unwrap();
    let mut socket = StreamSocket::Unix(accepted);
    let registry = poll.registry();
    let interest = socket.interest();
    socket.register(registry, TOKEN, interest).unwrap();
    fill(&mut socket);
    drain(&mut client);
    assert!(!reports_room(&mut poll));

    fill(&mut socket);
    socket.set_blocked(poll.registry(), TOKEN, true);
    assert!(!reports_room(&mut poll));
    drain(&mut client);
    assert!(reports_room(&mut poll));

    socket.set_blocked(poll.registry(), TOKEN, false);
    fill(&mut socket);
    drain(&mut client);
    assert!(!reports_room(&mut poll));
}
