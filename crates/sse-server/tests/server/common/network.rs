//! Two network namespaces joined by a cable: the server's side and the clients' side.
//!
//! Each client has an address of its own, so that one of them can vanish. Creating the namespaces
//! needs root, the tool `ip`, and a kernel with virtual Ethernet. They are deleted on drop.

use std::{
    fs::File,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    os::fd::AsFd as _,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Socket, Type};

/// A network for benchmarks (RFC 2544), which no other network uses.
const SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

/// Link address of all clients.
const CLIENT_LINK: &str = "02:00:00:00:00:02";

/// How a client vanishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Its packets are dropped, as behind a router.
    Silent,
    /// Nothing answers for its address any more, as after its cable was pulled.
    Unplugged,
}

/// The namespaces. The names of interfaces are those of their sides.
#[derive(Debug)]
pub(crate) struct Network {
    server_side: String,
    client_side: String,
}

impl Network {
    /// Creates the namespaces with clients 0 to `clients`.
    ///
    /// # Errors
    ///
    /// The reason why this machine cannot do that.
    pub(crate) fn create(clients: u8) -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let name = |side| format!("sse-{side}-{process}-{number}");
        let network = Self {
            server_side: name("server"),
            client_side: name("client"),
        };
        network.set_up(clients)?;
        Ok(network)
    }

    fn set_up(&self, clients: u8) -> Result<(), String> {
        let (server, client) = (self.server_side.as_str(), self.client_side.as_str());
        ip(&format!("netns add {server}"))?;
        ip(&format!("netns add {client}"))?;
        ip(&format!("-n {server} link set lo up"))?;
        ip(&format!(
            "-n {server} link add server type veth peer name client address {CLIENT_LINK} netns {client}"
        ))?;
        ip(&format!("-n {server} addr add {SERVER}/24 dev server"))?;
        ip(&format!("-n {server} link set server up"))?;
        ip(&format!("-n {client} link set client up"))?;
        ip(&format!("-n {client} route add {SERVER} dev client"))?;
        for client in 0..clients {
            self.client_ip(&format!(
                "addr add {}/32 dev client",
                client_address(client)
            ))?;
        }
        Ok(())
    }

    fn client_ip(&self, arguments: &str) -> Result<(), String> {
        ip(&format!("-n {} {arguments}", self.client_side))
    }

    /// The address of the server's side.
    pub(crate) const fn server_address() -> IpAddr {
        IpAddr::V4(SERVER)
    }

    /// The address of a client.
    pub(crate) const fn client_address(client: u8) -> IpAddr {
        IpAddr::V4(client_address(client))
    }

    /// Runs `work` on a new thread, which is on the server's side with all of its child processes.
    pub(crate) fn run_on_server_side<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        run_in(&self.server_side, work)
    }

    /// Connects a client, with a receive buffer of this size or the usual one.
    pub(crate) fn connect(
        &self,
        client: u8,
        server: SocketAddr,
        receive_buffer: Option<usize>,
    ) -> TcpStream {
        let connect = || -> io::Result<TcpStream> {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            if let Some(bytes) = receive_buffer {
                socket.set_recv_buffer_size(bytes)?;
            }
            socket.bind(&SocketAddr::new(client_address(client).into(), 0).into())?;
            socket.connect(&server.into())?;
            Ok(socket.into())
        };
        run_in(&self.client_side, connect).expect("a connection")
    }

    /// Makes a client vanish: no packet reaches it or leaves it from now on.
    pub(crate) fn vanish(&self, client: u8, loss: Loss) {
        let address = client_address(client);
        if loss == Loss::Silent {
            // The server's side still knows where to send the packets.
            let neighbour = format!("neigh replace {address} lladdr {CLIENT_LINK} dev server");
            ip(&format!(
                "-n {} {neighbour} nud permanent",
                self.server_side
            ))
            .expect("a permanent neighbour");
        }
        self.client_ip(&format!("addr del {address}/32 dev client"))
            .expect("the client has its address");
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for side in [&self.server_side, &self.client_side] {
            // The namespace may not exist.
            let _ = ip(&format!("netns del {side}"));
        }
    }
}

const fn client_address(client: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 0, 10 + client)
}

/// The socket of a server to one client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServerSocket {
    /// Time until the next probe; `None` if the client's window is open.
    pub(crate) next_probe: Option<Duration>,
}

impl ServerSocket {
    /// Finds the socket to a client in the network of this thread. Returns `None` if it is closed.
    pub(crate) fn find(client: IpAddr) -> Option<Self> {
        let IpAddr::V4(client) = client else {
            panic!("the network has IPv4 addresses")
        };
        let client = format!("{:08X}:", u32::from_ne_bytes(client.octets()));
        let table = std::fs::read_to_string("/proc/thread-self/net/tcp").expect("the sockets");
        let rows = table
            .lines()
            .map(|row| row.split_whitespace().collect::<Vec<_>>());
        // Fields: number, local address, peer, state, queues, timer.
        let row = rows
            .into_iter()
            .find(|row| row[2].starts_with(&client) && row[3] == "01")?;
        let next_probe = row[5].strip_prefix("04:").map(|ticks| {
            let ticks = u64::from_str_radix(ticks, 16).expect("a time");
            Duration::from_millis(ticks * 10)
        });
        Some(Self { next_probe })
    }
}

/// Runs `work` on a new thread in a namespace.
fn run_in<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    let enter_and_work = || {
        let namespace = File::open(format!("/run/netns/{namespace}")).expect("a namespace");
        let kind = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(namespace.as_fd(), kind).expect("permission");
        work()
    };
    let result = thread::scope(|scope| scope.spawn(enter_and_work).join());
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Runs the tool `ip` with arguments without spaces in them.
fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .map_err(|error| format!("the tool `ip` cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(format!("`ip {arguments}` failed: {}", stderr.trim()))
}
