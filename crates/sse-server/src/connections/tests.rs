//! Which connections get room, and which are closed for them.

use std::{
    net::{IpAddr, Ipv4Addr},
    task::{Context, Waker},
};

use super::*;

/// 20 general connections, of which a client may have 5 before it is large, and 8 of the reserve,
/// of which a client may use 2.
fn table() -> ConnectionTable {
    table_with(usize::MAX)
}

fn table_with(client_max: usize) -> ConnectionTable {
    let limits = ConnectionLimits {
        open_max: 28,
        reserve: 8,
        client_max,
        client_streams_max: 4,
    };
    ConnectionTable::new(limits, Metrics::new())
}

fn net(last: u8) -> ClientNet {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)).into()
}

fn accept(table: &ConnectionTable, client: impl Into<Option<u8>>) -> Option<OpenConnection> {
    table.accept(client.into().map(net), false)
}

fn accept_many(table: &ConnectionTable, client: u8, count: usize) -> Vec<OpenConnection> {
    (0..count).map(|_| accept(table, client).unwrap()).collect()
}

/// Accepts a connection in place of an idle one, once the pause after a search is over.
fn accept_in_place(table: &ConnectionTable, client: Option<u8>, short_of_files: bool) {
    loop {
        let accepted = table.accept(client.map(net), short_of_files);
        if accepted.is_some_and(|connection| !connection.is_reserved()) {
            return;
        }
    }
}

fn close_reason(connection: &OpenConnection) -> Option<CloseReason> {
    connection.poll_close(&Context::from_waker(Waker::noop()))
}

/// Puts a connection into a phase that began at this time.
fn set_since(connection: &OpenConnection, phase: Phase, since_ms: u64) {
    connection.set_phase_since(phase, since_ms);
}

#[test]
fn beyond_the_general_connections_the_reserve_is_divided_between_clients() {
    let table = table();
    let general = accept_many(&table, 1, 20);
    for connection in &general {
        connection.set_phase(Phase::Request);
        assert!(!connection.is_reserved() && connection.may_stream());
    }
    let of_hog = accept_many(&table, 1, 2);
    assert!(accept(&table, 1).is_none());
    let of_others: Vec<_> = (2..8)
        .map(|client| accept(&table, client).unwrap())
        .collect();
    assert!(accept(&table, 8).is_none(), "the reserve is in use");
    for connection in of_hog.iter().chain(&of_others) {
        assert!(connection.is_reserved() && !connection.may_stream());
    }
    let closed = table.0.metrics.render();
    assert!(closed.contains("sse_connections_closed_total{reason=\"too_many\"} 2\n"));

    // When there is room again, a connection of the reserve may become a stream.
    drop((general, of_hog));
    assert!(of_others[0].may_stream() && !of_others[0].is_reserved());
}

#[test]
fn unix_sockets_may_use_the_whole_reserve() {
    let table = table_with(1);
    let connections: Vec<_> = (0..28).map(|_| accept(&table, None).unwrap()).collect();
    assert!(accept(&table, None).is_none());
    drop(connections);
    assert_eq!(table.open_count(), 0);
    assert!(table.clients().is_empty() && table.entries().slab.is_empty());
}

#[test]
fn the_longest_idle_connection_makes_room() {
    let table = table();
    let general: Vec<_> = (1..=20)
        .map(|client| accept(&table, client).unwrap())
        .collect();
    for (connection, since_ms) in general.iter().zip([7, 3, 5]) {
        set_since(connection, Phase::Idle, since_ms);
    }
    let new = accept(&table, 50).unwrap();
    assert!(!new.is_reserved());
    let closed: Vec<_> = general.iter().map(close_reason).collect();
    assert_eq!(closed[..3], [None, Some(CloseReason::IdleEvicted), None]);
    // Its place is given away, so the first bytes of another request do not save it.
    set_since(&general[1], Phase::Head, 9);
    assert_eq!(close_reason(&general[1]), Some(CloseReason::IdleEvicted));
    // A request that has begun before its owner closes it is served.
    set_since(&general[1], Phase::Request, 9);
    assert_eq!(close_reason(&general[1]), None);
    let newer = [accept(&table, 51), accept(&table, 52)].map(Option::unwrap);
    assert!(newer.iter().all(|connection| !connection.is_reserved()));
    for connection in [&general[0], &general[2]] {
        assert_eq!(close_reason(connection), Some(CloseReason::IdleEvicted));
    }
    assert!(accept(&table, 53).unwrap().is_reserved());
}

#[test]
fn a_client_with_many_connections_is_the_first_to_lose_them() {
    let table = table();
    let of_hog = accept_many(&table, 1, 18);
    let of_others = [accept(&table, 2), accept(&table, 3)].map(Option::unwrap);
    for connection in &of_hog[2..] {
        connection.set_phase(Phase::Request);
    }
    set_since(&of_hog[0], Phase::Idle, 9);
    set_since(&of_others[0], Phase::Idle, 1);
    let _new: Vec<_> = (10..13)
        .map(|client| accept(&table, client).unwrap())
        .collect();
    let reasons = [&of_hog[0], &of_hog[1], &of_others[0]].map(close_reason);
    let expected = [
        CloseReason::IdleEvicted,
        CloseReason::HeadEvicted,
        CloseReason::IdleEvicted,
    ];
    assert_eq!(reasons, expected.map(Some));
    // The hog itself gets no room from others.
    set_since(&of_others[1], Phase::Idle, 1);
    assert!(accept(&table, 1).unwrap().is_reserved());
    assert_eq!(close_reason(&of_others[1]), None);
}

#[test]
fn a_client_beyond_its_limit_needs_an_idle_connection_or_uses_the_reserve() {
    let table = table_with(3);
    let connections = accept_many(&table, 1, 3);
    for connection in &connections {
        connection.set_phase(Phase::Request);
    }
    let reserved = accept_many(&table, 1, 2);
    for connection in &reserved {
        assert!(connection.is_reserved() && !connection.may_stream());
    }
    assert!(accept(&table, 1).is_none());
    assert!(!accept(&table, 2).unwrap().is_reserved());
    connections[1].set_phase(Phase::Idle);
    accept_in_place(&table, Some(1), false);
    assert_eq!(
        close_reason(&connections[1]),
        Some(CloseReason::IdleEvicted)
    );
}

#[test]
fn without_free_files_a_connection_needs_the_place_of_another_one() {
    let table = table();
    let connection = accept(&table, 1).unwrap();
    assert!(table.accept(None, true).is_none());
    connection.set_phase(Phase::Idle);
    accept_in_place(&table, None, true);
    assert_eq!(close_reason(&connection), Some(CloseReason::IdleEvicted));
}

#[test]
fn a_search_that_found_nothing_is_repeated_after_a_pause() {
    let table = table();
    let idle = |connections: &[OpenConnection]| {
        for connection in connections {
            connection.set_phase(Phase::Idle);
        }
    };
    let [of_one, of_two] = [1, 2].map(|client| accept_many(&table, client, 2));
    let [net_one, net_two] = [net(1), net(2)].map(Some).map(Some);
    let mut candidates = Candidates::default();
    let mut evict_at = |now_ms, only_of| {
        let entries = table.entries();
        let connections = Connections {
            entries: &entries.slab,
            large_client: 5,
            now_ms,
        };
        candidates.evict_next(&connections, only_of)
    };
    assert!(!evict_at(0, None) && !evict_at(0, net_one));
    idle(&of_one[..1]);
    idle(&of_two[..1]);
    assert!(!evict_at(9, None) && !evict_at(9, net_one));
    assert!(evict_at(10, None), "the pause is over");
    assert!(evict_at(11, None), "the same search found the other one");
    idle(&of_one[1..]);
    idle(&of_two[1..]);
    assert!(evict_at(12, net_one));
    assert!(
        !evict_at(13, net_two),
        "another client waits for its search"
    );
    assert!(evict_at(22, net_two));
}

#[test]
fn connections_are_closed_after_the_limit_of_their_phase() {
    let table = table();
    let general = accept_many(&table, 1, 20);
    for connection in &general {
        connection.set_phase(Phase::Request);
    }
    let reserved = accept(&table, 2).unwrap();
    for (connection, phase) in
        general
            .iter()
            .zip([Phase::Head, Phase::Idle, Phase::Request, Phase::Stream])
    {
        set_since(connection, phase, 1000);
    }
    set_since(&reserved, Phase::Head, 1000);
    let closed_at = |now_ms| {
        table.sweep_at(now_ms);
        let first = general[..4].iter().chain([&reserved]);
        first.map(close_reason).collect::<Vec<_>>()
    };
    let (head, idle) = (
        Some(CloseReason::HeadTimeout),
        Some(CloseReason::IdleTimeout),
    );
    assert_eq!(closed_at(2000), [None; 5]);
    assert_eq!(closed_at(2001), [None, None, None, None, head]);
    assert_eq!(closed_at(6000), [None, None, None, None, head]);
    assert_eq!(closed_at(6001), [head, None, None, None, head]);
    assert_eq!(closed_at(76_001), [head, idle, None, None, head]);
    let metrics = table.0.metrics.render();
    for line in [
        "sse_connections{state=\"idle\"} 1\n",
        "sse_connections{state=\"stream\"} 1\n",
        "sse_connections{state=\"request\"} 17\n",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    // A stream that has left the table is still a stream.
    let permit = general.into_iter().nth(3).map(OpenConnection::into_permit);
    table.sweep_at(80_000);
    assert!(
        table
            .0
            .metrics
            .render()
            .contains("sse_connections{state=\"stream\"} 1\n")
    );
    drop(permit);
}

#[test]
fn streams_of_one_client_that_share_connections_count_with_its_connections() {
    let table = table();
    let [first, second] = [accept(&table, 1).unwrap(), accept(&table, 1).unwrap()];
    assert!(first.claim_stream() && second.claim_stream());
    assert!(!first.claim_stream() && !second.claim_stream());
    let other = accept(&table, 2).unwrap();
    assert!(other.claim_stream());
    first.release_stream();
    assert!(second.claim_stream());
    // Clients over unix sockets share no limit.
    let unix = accept(&table, None).unwrap();
    assert!((0..10).all(|_| unix.claim_stream()));
}

#[test]
fn a_connection_whose_proxy_has_not_named_its_client_makes_room_for_every_other_one() {
    let table = table_with(10);
    let unnamed: Vec<_> = (0..20).map(|_| accept(&table, None).unwrap()).collect();
    for (nth, connection) in unnamed.iter().enumerate() {
        set_since(connection, Phase::ProxyHeader, nth as u64);
    }
    assert!(!accept(&table, 1).unwrap().is_reserved());
    assert_eq!(close_reason(&unnamed[0]), Some(CloseReason::HeadEvicted));
    assert_eq!(close_reason(&unnamed[1]), None);
}
