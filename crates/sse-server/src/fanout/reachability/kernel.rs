//! Asks the kernel about connections, through a netlink socket of the protocol `sock_diag`.
//!
//! The answer is a list of all established connections of one local port, with the `tcp_info` of
//! each. Single questions would need the addresses of each connection, and one system call each.

use std::{
    io::{self, Read as _},
    net::SocketAddr,
    time::Duration,
};

use netlink_packet_core::{
    DecodeError, DoneBuffer, Emitable as _, ErrorBuffer, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE,
    NLMSG_ERROR, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NlasIterator, Parseable as _,
};
use netlink_packet_sock_diag::{
    SockDiagMessage,
    constants::{AF_INET, AF_INET6, AF_NETLINK, INET_DIAG_INFO, IPPROTO_TCP, SOCK_DIAG_BY_FAMILY},
    inet::{
        ExtensionFlags, InetRequest, InetResponseHeader, SocketId, StateFlags, Timer, nlas::TcpInfo,
    },
};
use socket2::{Domain, Protocol, Socket, Type};

use super::verdict::{Outstanding, TcpState};
use crate::fanout::socket::SocketCookie;

/// Number of the netlink protocol `sock_diag`.
const NETLINK_SOCK_DIAG: i32 = 4;
/// The kernel sends no larger datagrams to a receiver with a buffer of this size.
const DATAGRAM_BYTES: usize = 32 << 10;
/// The kernel answers while it is asked, so this limit is reached only if it is broken.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Calls `visit` for each established connection that was accepted on `listener`, or on another
/// listener with the same port. The list is no snapshot: connections open and close meanwhile.
///
/// # Errors
///
/// This system has no `sock_diag`, does not permit it, or answers in an unknown format.
pub(super) fn visit_connections(
    listener: SocketAddr,
    mut visit: impl FnMut(SocketCookie, TcpState),
) -> io::Result<()> {
    let mut socket = Socket::new(
        Domain::from(i32::from(AF_NETLINK)),
        Type::DGRAM,
        Some(Protocol::from(NETLINK_SOCK_DIAG)),
    )?;
    socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    socket.send(&encode_request(listener))?;
    let mut datagram = vec![0; DATAGRAM_BYTES];
    loop {
        let length = socket.read(&mut datagram)?;
        if visit_datagram(&datagram[..length], &mut visit)? == Progress::Done {
            return Ok(());
        }
    }
}

/// Encodes the request for the connections of a listener.
fn encode_request(listener: SocketAddr) -> Vec<u8> {
    let (family, mut socket_id) = match listener {
        SocketAddr::V4(_) => (AF_INET, SocketId::new_v4()),
        // Accepted sockets have the family of the listener, also those of IPv4 clients.
        SocketAddr::V6(_) => (AF_INET6, SocketId::new_v6()),
    };
    socket_id.source_port = listener.port();
    let request = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::INFO,
        states: StateFlags::ESTABLISHED,
        socket_id,
    };
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// More datagrams follow.
    More,
    /// The list is complete.
    Done,
}

fn visit_datagram(
    mut rest: &[u8],
    visit: &mut impl FnMut(SocketCookie, TcpState),
) -> io::Result<Progress> {
    if rest.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    while !rest.is_empty() {
        let message = NetlinkBuffer::new_checked(rest).map_err(unknown_format)?;
        let payload = message.payload();
        match message.message_type() {
            NLMSG_DONE => return end_of_list(payload),
            NLMSG_ERROR => return Err(kernel_error(payload)),
            SOCK_DIAG_BY_FAMILY => {
                if let Some((cookie, state)) = decode(payload).map_err(unknown_format)? {
                    visit(cookie, state);
                }
            }
            _ => {}
        }
        // Messages are aligned to four bytes, except that the last one may end early.
        let length = (message.length() as usize).next_multiple_of(4);
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(Progress::More)
}

fn end_of_list(payload: &[u8]) -> io::Result<Progress> {
    // Without a code the list is complete.
    let code = DoneBuffer::new_checked(payload).map_or(0, |done| done.code());
    if code < 0 {
        return Err(io::Error::from_raw_os_error(code.saturating_neg()));
    }
    Ok(Progress::Done)
}

fn kernel_error(payload: &[u8]) -> io::Error {
    match ErrorBuffer::new_checked(payload).map(|error| error.code()) {
        Ok(Some(code)) => io::Error::from_raw_os_error(code.get().saturating_abs()),
        _ => io::ErrorKind::InvalidData.into(),
    }
}

fn unknown_format(error: DecodeError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Decodes one connection. Returns `None` if it was closed before the kernel could read its state.
fn decode(payload: &[u8]) -> Result<Option<(SocketCookie, TcpState)>, DecodeError> {
    let header = InetResponseHeader::parse(payload)?;
    let attributes = &payload[header.buffer_len()..];
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute?;
        if attribute.kind() == INET_DIAG_INFO {
            let info = TcpInfo::parse(attribute.value())?;
            return Ok(Some((cookie(&header.socket_id), tcp_state(&header, &info))));
        }
    }
    Ok(None)
}

fn tcp_state(header: &InetResponseHeader, info: &TcpInfo) -> TcpState {
    let outstanding = match header.timer {
        Some(Timer::Retransmit(_, count)) if count > 0 => Outstanding::Retransmission,
        Some(Timer::Probe(_)) => Outstanding::Window {
            unanswered_probes: info.probes,
        },
        _ => Outstanding::Nothing,
    };
    TcpState {
        outstanding,
        since_ack: Duration::from_millis(info.last_ack_recv.into()),
    }
}

/// Returns the cookie of a socket. The kernel sends two words, of which the lower one comes first.
const fn cookie(socket_id: &SocketId) -> SocketCookie {
    let cookie = u64::from_ne_bytes(socket_id.cookie);
    SocketCookie(if cfg!(target_endian = "big") {
        cookie.rotate_left(32)
    } else {
        cookie
    })
}

#[cfg(test)]
mod tests;
