//! The header of the PROXY protocol, version 2, with which a load balancer names its client.
//!
//! ```text
//! 12 bytes   1         1        2                           the rest
//! signature  version   family   length of what follows      addresses, ports, further fields
//!            command
//! ```
//!
//! The specification is <https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>. Version 1, a
//! line of text, is not supported.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use tokio::io::{AsyncRead, AsyncReadExt as _};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes before the addresses.
const START_BYTES: usize = 16;
/// Most bytes that may follow. The addresses take 216 at most, and the other fields are short.
const REST_BYTES_MAX: usize = 4096;

/// Why a connection does not begin with a header.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyHeaderError {
    #[error("the connection does not begin with a PROXY header of version 2")]
    Missing,
    #[error("the PROXY header is malformed")]
    Malformed,
    #[error("the PROXY header has more than {REST_BYTES_MAX} bytes")]
    TooLarge,
    #[error("the connection ended in its PROXY header")]
    Incomplete(#[from] io::Error),
}

/// Reads the header, and no byte behind it.
///
/// Returns the client that the header names. A health check of the load balancer itself, and a
/// client without an IP address, have none.
///
/// # Errors
///
/// The connection must be closed.
pub(super) async fn read_proxy_header(
    socket: &mut (impl AsyncRead + Unpin),
) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    let mut start = [0; START_BYTES];
    socket.read_exact(&mut start).await?;
    let length = parse_start(&start)?;
    let mut rest = vec![0; length];
    socket.read_exact(&mut rest).await?;
    parse_source([start[12], start[13]], &rest)
}

/// Returns how many bytes follow.
fn parse_start(start: &[u8; START_BYTES]) -> Result<usize, ProxyHeaderError> {
    if !start.starts_with(SIGNATURE) {
        return Err(ProxyHeaderError::Missing);
    }
    if start[12] >> 4 != 2 || start[12] & 0xf > 1 {
        return Err(ProxyHeaderError::Malformed);
    }
    match usize::from(u16::from_be_bytes([start[14], start[15]])) {
        length if length > REST_BYTES_MAX => Err(ProxyHeaderError::TooLarge),
        length => Ok(length),
    }
}

/// Returns the source that `rest` begins with, by the command and the family.
fn parse_source(
    [command, family]: [u8; 2],
    rest: &[u8],
) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    const LOCAL: u8 = 0;
    match family {
        _ if command & 0xf == LOCAL => Ok(None),
        0x11 => parse_addresses::<4>(rest).map(Some),
        0x21 => parse_addresses::<16>(rest).map(Some),
        _ => Ok(None),
    }
}

/// Parses the source of a pair of addresses, which two ports follow.
fn parse_addresses<const BYTES: usize>(rest: &[u8]) -> Result<SocketAddr, ProxyHeaderError>
where
    IpAddr: From<[u8; BYTES]>,
{
    let source = rest.first_chunk::<BYTES>();
    let port = rest.get(2 * BYTES..2 * BYTES + 2);
    match (source, port, rest.len() >= 2 * BYTES + 4) {
        (Some(ip), Some(&[high, low]), true) => Ok(SocketAddr::new(
            (*ip).into(),
            u16::from_be_bytes([high, low]),
        )),
        _ => Err(ProxyHeaderError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family][..], &length, rest].concat()
    }

    /// Reads a header that other bytes follow, which must remain.
    async fn read(header: &[u8]) -> Result<Option<SocketAddr>, ProxyHeaderError> {
        let bytes = [header, b"GET /"].concat();
        let mut unread = &bytes[..];
        let result = read_proxy_header(&mut unread).await;
        if result.is_ok() {
            assert_eq!(unread, b"GET /");
        }
        result
    }

    #[tokio::test]
    async fn the_source_is_the_client() {
        let v4 = [192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x34, 0, 80];
        let expected: SocketAddr = "192.0.2.1:4660".parse().unwrap();
        assert_eq!(
            read(&header(0x21, 0x11, &v4)).await.unwrap(),
            Some(expected)
        );
        let with_fields = [&v4[..], &[4, 0, 2, 0, 0]].concat();
        let found = read(&header(0x21, 0x11, &with_fields)).await;
        assert_eq!(found.unwrap(), Some(expected));
        let mut v6 = [0; 36];
        (v6[0], v6[1], v6[15], v6[33]) = (0x20, 1, 7, 9);
        let expected: SocketAddr = "[2001::7]:9".parse().unwrap();
        assert_eq!(
            read(&header(0x21, 0x21, &v6)).await.unwrap(),
            Some(expected)
        );
    }

    #[tokio::test]
    async fn a_health_check_and_other_families_have_no_client() {
        for (command, family, rest) in [
            (0x20, 0x11, &[192, 0, 2, 1, 10, 0, 0, 1, 0, 1, 0, 80][..]),
            (0x20, 0, &[]),
            (0x21, 0, &[]),
            (0x21, 0x31, &[7; 216]),
            (0x21, 0x12, &[7; 12]),
        ] {
            assert_eq!(read(&header(command, family, rest)).await.unwrap(), None);
        }
    }

    #[tokio::test]
    async fn everything_else_is_an_error() {
        let too_large = vec![0; REST_BYTES_MAX + 1];
        let v1 = b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 80\r\n".to_vec();
        for (bytes, error) in [
            (v1, "does not begin"),
            (
                b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
                "does not begin",
            ),
            (header(0x11, 0x11, &[0; 12]), "malformed"),
            (header(0x22, 0x11, &[0; 12]), "malformed"),
            (header(0x21, 0x11, &[0; 11]), "malformed"),
            (header(0x21, 0x21, &[0; 35]), "malformed"),
            (header(0x21, 0x11, &too_large), "more than"),
        ] {
            let found = read(&bytes).await.unwrap_err().to_string();
            assert!(found.contains(error), "{found}");
        }
        let mut cut = &header(0x21, 0x11, &[0; 12])[..20];
        let found = read_proxy_header(&mut cut).await;
        assert!(matches!(found, Err(ProxyHeaderError::Incomplete(_))));
    }

    proptest! {
        #[test]
        fn a_header_is_read_as_it_was_written(
            ip: IpAddr, port: u16, fields in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let address = SocketAddr::new(ip, port);
            let (family, ips) = match ip {
                IpAddr::V4(ip) => (0x11, [ip.octets(); 2].concat()),
                IpAddr::V6(ip) => (0x21, [ip.octets(); 2].concat()),
            };
            let rest = [&ips, &port.to_be_bytes()[..], &[0; 2], &fields].concat();
            let header = header(0x21, family, &rest);
            let start = header.first_chunk().unwrap();
            prop_assert_eq!(parse_start(start).unwrap(), rest.len());
            let source = parse_source([start[12], start[13]], &rest);
            prop_assert_eq!(source.unwrap(), Some(address));
        }

        #[test]
        fn any_bytes_are_an_error_or_a_header(
            start: [u8; START_BYTES], is_signed: bool,
            rest in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut start = start;
            if is_signed {
                start[..12].copy_from_slice(SIGNATURE);
            }
            if let Ok(length) = parse_start(&start) {
                prop_assert!(is_signed && length <= REST_BYTES_MAX);
            }
            let _ = parse_source([start[12], start[13]], &rest);
        }
    }
}
