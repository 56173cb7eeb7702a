//! Opens connections to Redis and to sentinels, whose replies have a [limit](super::reply_limit).
//!
//! The client library can open connections by itself, but not with a limit.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures::{FutureExt as _, future::select_ok};
use redis::{
    AsyncConnectionConfig, Cmd, Pipeline, RedisConnectionInfo, RedisFuture, RedisResult, Value,
    aio::{ConnectionLike, MultiplexedConnection, PubSub},
};
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::{
    either::Either,
    sync::{CancellationToken, DropGuard},
};

use super::{
    reply_limit::{LimitedReplies, ReplyErrorLog},
    sentinel::Sentinels,
    target::{ServerAddress, Servers, Target},
};

/// A connection over TCP, a unix socket or TLS.
pub(super) type Stream = Either<Either<TcpStream, UnixStream>, Box<TlsStream<TcpStream>>>;

/// Opens connections to one Redis, or to that which sentinels name; clones share the log of replies
/// that are too large.
#[derive(Debug, Clone)]
pub(super) struct Dialer {
    target: Arc<Target>,
    locator: Locator,
    reply_cost_max: u64,
    replicas_to_wait_for: u32,
    errors: Arc<ReplyErrorLog>,
}

/// Where the primary is.
#[derive(Debug, Clone)]
enum Locator {
    Fixed(ServerAddress),
    Sentinels(Arc<Sentinels>),
    /// A node of a Redis Cluster that others report as a primary.
    ClusterNode(ServerAddress),
    /// Some nodes of a Redis Cluster.
    Cluster(Arc<[ServerAddress]>),
}

impl Dialer {
    /// Opens connections to `target`, whose replies cost at most `reply_cost_max`.
    pub(super) fn new(target: Target, reply_cost_max: u64) -> Self {
        let locator = match target.servers.clone() {
            Servers::One(address) => Locator::Fixed(address),
            Servers::Sentinels { addresses, primary } => {
                Locator::Sentinels(Arc::new(Sentinels::new(addresses, primary)))
            }
            Servers::Cluster(addresses) => Locator::Cluster(addresses.into()),
        };
        Self {
            errors: Arc::new(ReplyErrorLog::new(target.to_string())),
            target: Arc::new(target),
            locator,
            reply_cost_max,
            replicas_to_wait_for: 0,
        }
    }

    /// Lets publishes wait for this many replicas.
    pub(super) fn waiting_for(self, replicas_to_wait_for: u32) -> Self {
        Self {
            replicas_to_wait_for,
            ..self
        }
    }

    /// Returns how many replicas must confirm a publish.
    pub(super) const fn replicas_to_wait_for(&self) -> u32 {
        self.replicas_to_wait_for
    }

    /// Returns the servers, for messages.
    pub(super) fn address(&self) -> String {
        match &self.locator {
            Locator::ClusterNode(address) => address.to_string(),
            _ => self.target.to_string(),
        }
    }

    /// Returns the sentinels, if they name the primary.
    pub(super) const fn sentinels(&self) -> Option<&Arc<Sentinels>> {
        match &self.locator {
            Locator::Sentinels(sentinels) => Some(sentinels),
            Locator::Fixed(_) | Locator::ClusterNode(_) | Locator::Cluster(_) => None,
        }
    }

    /// Returns the nodes of a Redis Cluster that `--redis-url` names; `None` if it names none.
    pub(super) fn cluster_nodes(&self) -> Option<&[ServerAddress]> {
        match &self.locator {
            Locator::Cluster(nodes) => Some(nodes),
            _ => None,
        }
    }

    /// Opens connections to one node of the cluster, which must be a primary.
    pub(super) fn of_node(&self, address: ServerAddress) -> Self {
        Self {
            locator: Locator::ClusterNode(address),
            ..self.clone()
        }
    }

    /// Whether a Redis must have the role of a primary, because others name it as one.
    pub(super) const fn needs_role(&self) -> bool {
        matches!(
            self.locator,
            Locator::Sentinels(_) | Locator::ClusterNode(_)
        )
    }

    /// Whether connections use TLS.
    pub(super) fn has_tls(&self) -> bool {
        self.target.tls.is_some()
    }

    /// Returns the address of the primary, if it is always the same.
    pub(super) fn fixed_address(&self) -> Option<ServerAddress> {
        match &self.locator {
            Locator::Fixed(address) | Locator::ClusterNode(address) => Some(address.clone()),
            Locator::Sentinels(_) | Locator::Cluster(_) => None,
        }
    }

    /// Returns the address at which to try the primary.
    ///
    /// # Errors
    ///
    /// Why the sentinels name none, in words.
    pub(super) async fn find_primary(&self) -> Result<ServerAddress, String> {
        match &self.locator {
            Locator::Fixed(address) | Locator::ClusterNode(address) => Ok(address.clone()),
            Locator::Sentinels(sentinels) => sentinels.find_primary(self).await,
            Locator::Cluster(_) => Err("a cluster has several primaries".to_owned()),
        }
    }

    /// Waits until the primary is no longer the one at `current`; returns why, in words.
    pub(super) async fn wait_for_another(&self, current: &ServerAddress) -> String {
        match &self.locator {
            Locator::Sentinels(sentinels) => sentinels.wait_for_another(current, self).await,
            // The task that keeps the map of a cluster ends the session.
            Locator::Fixed(_) | Locator::ClusterNode(_) | Locator::Cluster(_) => {
                std::future::pending().await
            }
        }
    }

    /// Opens a connection for commands, each of which waits up to `limit` for its reply.
    pub(super) async fn open_commands(
        &self,
        address: &ServerAddress,
        limit: Duration,
    ) -> RedisResult<CommandConnection> {
        self.open_commands_as(&self.target.login, address, limit)
            .await
    }

    /// Opens a connection for commands to a sentinel.
    pub(super) async fn open_sentinel_commands(
        &self,
        address: &ServerAddress,
        limit: Duration,
    ) -> RedisResult<CommandConnection> {
        self.open_commands_as(&self.target.sentinel_login, address, limit)
            .await
    }

    async fn open_commands_as(
        &self,
        login: &RedisConnectionInfo,
        address: &ServerAddress,
        limit: Duration,
    ) -> RedisResult<CommandConnection> {
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(limit));
        let stream = self.open_stream(address).await?;
        let (connection, driver) =
            MultiplexedConnection::new_with_config(login, stream, config).await?;
        let ended = CancellationToken::new();
        let guard = ended.clone().drop_guard();
        tokio::spawn(ended.run_until_cancelled_owned(driver));
        Ok(CommandConnection {
            connection,
            _driver: Arc::new(guard),
        })
    }

    /// Opens a connection for a caller that reads the replies itself, and must log in first.
    pub(super) async fn open_socket(
        &self,
        address: &ServerAddress,
    ) -> RedisResult<(Stream, Login)> {
        let login = &self.target.login;
        let login = Login {
            user: login.username().map(ToOwned::to_owned),
            password: login.password().map(ToOwned::to_owned),
        };
        Ok((connect(address, self.target.tls.as_ref()).await?, login))
    }

    /// Opens a connection for subscriptions to a sentinel.
    pub(super) async fn open_sentinel_pubsub(
        &self,
        address: &ServerAddress,
    ) -> RedisResult<PubSub> {
        PubSub::new(
            &self.target.sentinel_login,
            self.open_stream(address).await?,
        )
        .await
    }

    async fn open_stream(&self, address: &ServerAddress) -> io::Result<LimitedReplies<Stream>> {
        let stream = connect(address, self.target.tls.as_ref()).await?;
        Ok(LimitedReplies::new(
            stream,
            self.reply_cost_max,
            self.errors.clone(),
        ))
    }
}

/// Who logs in to Redis.
pub(super) struct Login {
    user: Option<String>,
    password: Option<String>,
}

impl Login {
    /// Returns the command that logs in; `None` without a password.
    pub(super) fn command(&self) -> Option<Cmd> {
        let mut command = redis::cmd("AUTH");
        command.arg(self.user.as_deref().as_slice());
        command.arg(self.password.as_deref()?);
        Some(command)
    }
}

async fn connect(address: &ServerAddress, tls: Option<&TlsConnector>) -> io::Result<Stream> {
    match (address, tls) {
        (ServerAddress::Socket(path), _) => {
            let stream = UnixStream::connect(path).await?;
            Ok(Either::Left(Either::Right(stream)))
        }
        (ServerAddress::Tcp { host, port }, None) => {
            Ok(Either::Left(Either::Left(connect_tcp(host, *port).await?)))
        }
        (ServerAddress::Tcp { host, port }, Some(tls)) => {
            let stream = connect_tcp(host, *port).await?;
            connect_tls(host, stream, tls).await.map(Either::Right)
        }
    }
}

/// The handshake of TLS with `host`, whose certificate must be valid for that name.
async fn connect_tls(
    host: &str,
    stream: TcpStream,
    tls: &TlsConnector,
) -> io::Result<Box<TlsStream<TcpStream>>> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let stream = tls.connect(name, stream).await.map_err(explain_name)?;
    Ok(Box::new(stream))
}

/// Adds to the error about a certificate of another name what makes sentinels report names.
fn explain_name(error: io::Error) -> io::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    let Some(rustls::Error::InvalidCertificate(
        rustls::CertificateError::NotValidForName
        | rustls::CertificateError::NotValidForNameContext { .. },
    )) = inner
    else {
        return error;
    };
    io::Error::other(format!(
        "{error}; sentinels report names instead of addresses with `sentinel resolve-hostnames \
         yes` and `sentinel announce-hostnames yes`, and nodes of a cluster with \
         `cluster-announce-hostname`"
    ))
}

/// Connects to the address of `host` that accepts first.
async fn connect_tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = lookup_host((host, port)).await?.collect();
    if addresses.is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let attempts = addresses
        .into_iter()
        .map(|address| TcpStream::connect(address).boxed());
    let (stream, _) = select_ok(attempts).await?;
    // Nagle's algorithm would delay small commands.
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A connection for commands. Its clones share it, and it is closed with the last of them.
#[derive(Clone)]
pub(super) struct CommandConnection {
    connection: MultiplexedConnection,
    /// The library's task would otherwise wait for the replies to all commands, however long that
    /// takes.
    _driver: Arc<DropGuard>,
}

impl ConnectionLike for CommandConnection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        self.connection.req_packed_command(command)
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        commands: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        self.connection.req_packed_commands(commands, offset, count)
    }

    fn get_db(&self) -> i64 {
        self.connection.get_db()
    }
}

impl std::fmt::Debug for CommandConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CommandConnection")
    }
}
