//! Whether the addresses can be listened on.
//!
//! A TCP address is tried: the socket is bound, which succeeds only if it is free, and closed again
//! without listening, so no client can connect to it.

use std::{
    io::ErrorKind, net::SocketAddr, os::unix::fs::FileTypeExt as _, path::Path, time::Duration,
};

use rustix::fs::{Access, access};
use socket2::{Domain, Protocol, Socket, Type};

use super::report::Report;
use crate::{
    Endpoint, ListenAddress,
    config::Config,
    diagnosis::{
        connect::{Connection, Trust},
        health::{HealthQuestion, ask},
        target::HealthTarget,
    },
};

const AREA: &str = "ports";
/// Time for the program that uses an address.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) async fn check(config: &Config, report: &mut Report) {
    for address in &config.addresses {
        match address.endpoint() {
            Endpoint::Tcp(tcp) => check_tcp(address, *tcp, report).await,
            Endpoint::Unix(path) => check_unix(address, path, report).await,
        }
    }
}

async fn check_tcp(address: &ListenAddress, tcp: SocketAddr, report: &mut Report) {
    let error = match try_bind(tcp) {
        Ok(()) => return report.ok(AREA, format_args!("{address} is free")),
        Err(error) => error,
    };
    match error.kind() {
        ErrorKind::AddrInUse => report_user(address, report).await,
        ErrorKind::PermissionDenied => report.fail(
            AREA,
            format_args!(
                "this user may not listen on {address}: choose a port from 1024, or let systemd pass \
                 the socket"
            ),
        ),
        ErrorKind::AddrNotAvailable => {
            report.fail(AREA, format_args!("this machine does not have the address {address}"));
        }
        _ => report.fail(AREA, format_args!("{address} cannot be used: {error}")),
    }
}

fn try_bind(address: SocketAddr) -> std::io::Result<()> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())
}

/// Reports the program that uses an address.
async fn report_user(address: &ListenAddress, report: &mut Report) {
    if is_this_server(address).await {
        report.ok(AREA, format_args!("a server is running at {address}"));
    } else {
        report.fail(
            AREA,
            format_args!("another program uses {address}: stop it, or choose another --bind"),
        );
    }
}

async fn is_this_server(address: &ListenAddress) -> bool {
    let Ok(target) = HealthTarget::of_own(std::slice::from_ref(address)) else {
        return false;
    };
    let question = HealthQuestion {
        connection: Connection {
            target,
            timeout: HEALTH_TIMEOUT,
            trust: Trust {
                certificates: None,
                insecure: false,
            },
        },
        only_live: true,
    };
    ask(&question).await.is_ok()
}

async fn check_unix(address: &ListenAddress, path: &Path, report: &mut Report) {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if let Err(error) = access(directory, Access::WRITE_OK | Access::EXEC_OK) {
        let directory = directory.display();
        return report.fail(
            AREA,
            format_args!("this user cannot create a socket in {directory}: {error}"),
        );
    }
    match std::fs::symlink_metadata(path) {
        Err(_) => report.ok(AREA, format_args!("{address} is free")),
        Ok(found) if !found.file_type().is_socket() => report.fail(
            AREA,
            format_args!("the file at {address} is not a socket, and it stays: remove it"),
        ),
        Ok(_) if is_this_server(address).await => {
            report.ok(AREA, format_args!("a server is running at {address}"));
        }
        Ok(_) => report.ok(
            AREA,
            format_args!("a server that has ended left its socket at {address}; it is replaced"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn an_address_is_free_or_used_by_another_program() {
        let mut report = Report::default();
        let free = "127.0.0.1:0".parse().unwrap();
        check_tcp(&ListenAddress::http(Endpoint::Tcp(free)), free, &mut report).await;
        assert_eq!(report.exit_code(), 0, "{}", report.to_text());
        // It closes each connection at once.
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = other.local_addr().unwrap();
        drop(std::thread::spawn(move || while other.accept().is_ok() {}));
        check_tcp(
            &ListenAddress::http(Endpoint::Tcp(address)),
            address,
            &mut report,
        )
        .await;
        assert_eq!(report.exit_code(), 2, "{}", report.to_text());
        assert!(report.to_text().contains("another program"));
    }
}
