//! Lines, their limit and their counts, and the file.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::{PermissionsExt as _, symlink},
    time::SystemTime,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    queue::{BYTES_MAX, LINES_MAX, Received},
    throttle::{INTERVAL, KINDS_MAX},
    *,
};

fn record(result: &'static str, address: u32) -> AuditRecord {
    AuditRecord {
        time: SystemTime::UNIX_EPOCH + Duration::from_micros(1_796_015_056_012_345),
        identity: Some(json!({ "kind": "key", "key": "billing" })),
        caller: Some(1),
        address: Some(IpAddr::from(Ipv4Addr::from_bits(address))),
        action: "publish",
        channels: vec!["orders.1".to_owned()],
        target: None,
        method: "POST".to_owned(),
        path: "/event/\u{e9}\n\u{2028}".to_owned(),
        status: Some(200),
        result,
        reason: None,
    }
}

fn json_of(line: &[u8]) -> Value {
    assert!(line.is_ascii() && line.ends_with(b"}\n"));
    assert!(!line[..line.len() - 1].contains(&b'\n'));
    serde_json::from_slice(line).unwrap()
}

#[test]
fn a_line_is_one_json_object_in_ascii() {
    assert_eq!(
        json_of(&record(OK, 0x7f00_0001).to_line(1)),
        json!({
            "timestamp": "2026-11-30T05:04:16.012345Z",
            "identity": { "kind": "key", "key": "billing" },
            "address": "127.0.0.1",
            "action": "publish",
            "channels": ["orders.1"],
            "target": null,
            "method": "POST",
            "path": "/event/\u{e9}\n\u{2028}",
            "status": 200,
            "result": "ok",
            "reason": null,
            "count": 1,
        })
    );
    let long = AuditRecord {
        path: "\u{e9}".repeat(10_000),
        ..record(OK, 1)
    };
    assert!(long.to_line(1).len() < 2000);
}

#[test]
fn equal_rejections_share_a_line_with_their_count_and_nothing_else_does() {
    let (throttle, start) = (RejectionThrottle::default(), Instant::now());
    for _ in 0..3 {
        // A caller that closes its connections hides nothing.
        for result in [OK, NO_RESPONSE] {
            assert!(throttle.admit(record(result, 1), start).is_some());
        }
    }
    let admitted = |address| {
        throttle
            .admit(record("unauthorized", address), start)
            .is_some()
    };
    assert_eq!([1, 1, 1, 2].map(admitted), [true, false, false, true]);
    assert!(throttle.take_due(start).is_empty());
    let due = throttle.take_due(start + INTERVAL);
    let counts: Vec<_> = due
        .iter()
        .map(|line| json_of(line)["count"].clone())
        .collect();
    assert_eq!(counts, [2]);
    // The kind without a further rejection was forgotten, and the other one is still counted.
    assert!(!admitted(1) && admitted(2));
    assert_eq!(throttle.take_all().len(), 1);
    assert!(throttle.take_all().is_empty());
}

#[test]
fn the_number_of_kinds_is_bounded_and_no_rejection_is_lost() {
    let (throttle, now) = (RejectionThrottle::default(), Instant::now());
    let all = 2 * KINDS_MAX;
    let admitted = (0..all).filter(|address| {
        let address = u32::try_from(*address).unwrap() << 8;
        throttle
            .admit(record("unauthorized", address), now)
            .is_some()
    });
    let admitted = admitted.count();
    assert_eq!(admitted, KINDS_MAX + 1);
    let lines = throttle.take_all();
    let counted: u64 = lines
        .iter()
        .filter_map(|line| json_of(line)["count"].as_u64())
        .sum();
    assert_eq!(admitted as u64 + counted, all as u64);
}

#[test]
fn a_full_queue_takes_no_more_lines_and_never_waits() {
    let (sender, receiver) = line_queue();
    let line = |bytes: usize| vec![b'x'; bytes].into_boxed_slice();
    assert!(sender.send(line(BYTES_MAX)) && !sender.send(line(1)));
    assert!(matches!(receiver.next(), Received::Line(_)));
    let sent = (0..LINES_MAX + 10).filter(|_| sender.send(line(1)));
    assert_eq!(sent.count(), LINES_MAX);
    // The writer is blocked.
    sender.close(Duration::from_millis(1));
}

#[test]
fn the_file_is_private_no_symbolic_link_and_opened_again_after_a_rotation() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("audit.log");
    let log = AuditLog::open(&path, Metrics::new()).unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for _ in 0..3 {
        log.record(record("unauthorized", 1));
    }
    log.close(Duration::from_secs(30));
    let text = fs::read_to_string(&path).unwrap();
    let counts = text
        .lines()
        .map(|line| json_of(format!("{line}\n").as_bytes())["count"].clone());
    assert_eq!(counts.collect::<Vec<_>>(), [1, 2]);
    let link = directory.path().join("link");
    symlink(&path, &link).unwrap();
    let error = AuditLog::open(&link, Metrics::new()).unwrap_err();
    assert!(format!("{error:#}").contains("symbolic link"), "{error:#}");

    let mut output = Output::open_file(AUDIT_LOG, &path).unwrap();
    fs::rename(&path, directory.path().join("audit.log.1")).unwrap();
    output.check_now();
    output.reopen_if_moved().unwrap();
    output.buffer.extend_from_slice(b"next\n");
    output.flush().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "next\n");
    fs::remove_file(&path).unwrap();
    symlink(directory.path().join("audit.log.1"), &path).unwrap();
    output.check_now();
    assert!(output.reopen_if_moved().is_err());
}
