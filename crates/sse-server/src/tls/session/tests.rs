//! Sessions with a real client, over buffers in place of sockets.

use std::io::{Read as _, Write as _};

use rustls::version::{TLS12, TLS13};
use tempfile::TempDir;

use super::*;
use crate::tls::{
    RECORD_BYTES,
    test_support::{TestConnection, certificates, collect},
};

const NAME: &str = "hub.example";

fn connected(version: &'static rustls::SupportedProtocolVersion) -> TestConnection {
    let directory = TempDir::new().unwrap();
    let mut connection = TestConnection::new(&certificates(&directory, &[NAME]), NAME, version);
    connection.exchange().unwrap();
    assert!(!connection.server.is_handshaking() && !connection.client.is_handshaking());
    connection
}

fn read_client(connection: &mut TestConnection) -> Vec<u8> {
    let mut plaintext = Vec::new();
    // The client has no more for now.
    let _ = connection.client.reader().read_to_end(&mut plaintext);
    plaintext
}

#[test]
fn plaintext_goes_both_ways_and_an_idle_session_has_no_buffers() {
    for version in [&TLS12, &TLS13] {
        let mut connection = connected(version);
        connection.client.writer().write_all(b"request").unwrap();
        connection.exchange().unwrap();
        assert_eq!(connection.received, b"request");
        let mut sent = Vec::new();
        let written = connection
            .server
            .write(b"response", &mut collect(&mut sent));
        assert_eq!(written.unwrap(), Some(8));
        connection.client_reads(&sent).unwrap();
        assert_eq!(read_client(&mut connection), b"response");
        let server = &mut connection.server;
        assert!(server.take_accepted() > 8 && server.take_accepted() == 0);
        assert_eq!(
            (server.incoming.capacity(), server.outgoing.capacity()),
            (0, 0)
        );
    }
}

#[test]
fn received_bytes_may_be_cut_anywhere() {
    let mut connection = connected(&TLS13);
    connection
        .client
        .writer()
        .write_all(&vec![7; 40_000])
        .unwrap();
    let mut bytes = Vec::new();
    while connection.client.wants_write() {
        connection.client.write_tls(&mut bytes).unwrap();
    }
    let mut received = Vec::new();
    for part in bytes.chunks_mut(1500) {
        let server = &mut connection.server;
        server
            .receive(part, &mut |bytes| received.extend_from_slice(bytes))
            .unwrap();
        assert!(server.incoming_bytes() <= RECORD_BYTES + ALERT_BYTES);
        // An incomplete record is no obstacle.
        let mut sent = Vec::new();
        server.write(b"x", &mut collect(&mut sent)).unwrap();
    }
    assert_eq!(received, vec![7; 40_000]);
    assert_eq!(connection.server.incoming.capacity(), 0);
}

#[test]
fn a_full_socket_leaves_one_record_and_is_continued() {
    let mut connection = connected(&TLS13);
    // The handshake.
    connection.server.take_accepted();
    let event = vec![b'e'; 100_000];
    let (mut sent, mut written) = (Vec::new(), 0);
    let mut calls = 0;
    while written < event.len() {
        // The socket has room for some bytes in every second call.
        let count = connection
            .server
            .write(&event[written..], &mut |bytes| {
                calls += 1;
                let count = bytes.len().min(5000);
                if calls % 2 == 0 {
                    return Ok(None);
                }
                sent.extend_from_slice(&bytes[..count]);
                Ok(Some(count))
            })
            .unwrap();
        assert!(connection.server.outgoing_bytes() <= RECORD_BYTES + ALERT_BYTES);
        written += count.unwrap_or(0);
    }
    assert_eq!(connection.server.take_accepted(), sent.len());
    let mut plaintext = Vec::new();
    for part in sent.chunks(3000) {
        connection.client_reads(part).unwrap();
        plaintext.extend(read_client(&mut connection));
    }
    assert!(plaintext == event);
}

#[test]
fn new_keys_of_the_client_are_answered_with_the_next_record() {
    let mut connection = connected(&TLS13);
    for round in 0..3_u8 {
        connection.client.refresh_traffic_keys().unwrap();
        connection.client.writer().write_all(&[round]).unwrap();
        connection.exchange().unwrap();
        let mut sent = Vec::new();
        let written = connection.server.write(&[round], &mut collect(&mut sent));
        assert_eq!(written.unwrap(), Some(1));
        connection.client_reads(&sent).unwrap();
        assert_eq!(read_client(&mut connection), [round]);
    }
    assert_eq!(connection.received, [0, 1, 2]);
}

#[test]
fn both_sides_can_close_the_session() {
    for version in [&TLS12, &TLS13] {
        let mut connection = connected(version);
        connection.server.close();
        connection.server.close();
        connection.exchange().unwrap();
        assert!(
            connection
                .client
                .reader()
                .read(&mut [0])
                .is_ok_and(|count| count == 0)
        );
        assert!(!connection.server.is_closed_by_client());
        connection.client.send_close_notify();
        connection.exchange().unwrap();
        assert!(connection.server.is_closed_by_client());
    }
}

#[test]
fn a_violation_ends_the_session_with_an_alert() {
    let mut connection = connected(&TLS13);
    let mut forged = [&[23, 3, 3, 0, 32][..], &[9; 32]].concat();
    let mut nothing = |_: &[u8]| panic!("no plaintext");
    let server = &mut connection.server;
    assert!(server.receive(&mut forged, &mut nothing).is_err());
    assert!(server.receive(&mut [], &mut nothing).is_err());
    assert!(server.wants_write());
    assert!(
        server
            .write(b"x", &mut |bytes| Ok(Some(bytes.len())))
            .is_err()
    );
    let mut alert = Vec::new();
    let mut other = connected(&TLS13);
    other
        .server
        .receive(&mut forged.clone(), &mut nothing)
        .unwrap_err();
    other.server.close();
    other.server.flush(&mut collect(&mut alert)).unwrap();
    let error = other.client_reads(&alert).unwrap_err();
    assert_eq!(
        error,
        Error::AlertReceived(rustls::AlertDescription::BadRecordMac)
    );
}

#[test]
fn only_keys_of_tls_1_2_are_used_up() {
    for (version, is_worn_out) in [(&TLS12, true), (&TLS13, false)] {
        let mut server = connected(version).server;
        server.records = TLS12_RECORDS_MAX - 1;
        assert!(!server.is_worn_out());
        server
            .write(b"x", &mut |bytes| Ok(Some(bytes.len())))
            .unwrap();
        assert_eq!(server.is_worn_out(), is_worn_out);
    }
}
