//! Opens connections to Redis whose replies have a [limit](super::reply_limit).
//!
//! The client library can open connections by itself, but not with a limit.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures::{FutureExt as _, future::select_ok};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, Pipeline, RedisFuture, RedisResult, Value,
    aio::{ConnectionLike, MultiplexedConnection, PubSub},
};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio_util::{
    either::Either,
    sync::{CancellationToken, DropGuard},
};

use super::reply_limit::{LimitedReplies, ReplyErrorLog};

/// A connection over TCP or a unix socket.
pub(super) type Stream = Either<TcpStream, UnixStream>;

/// Opens connections to one Redis; clones share the log of replies that are too large.
#[derive(Debug, Clone)]
pub(super) struct Dialer {
    client: Client,
    reply_cost_max: u64,
    errors: Arc<ReplyErrorLog>,
}

impl Dialer {
    /// Opens connections to the Redis of `client`, whose replies cost at most `reply_cost_max`.
    pub(super) fn new(client: Client, reply_cost_max: u64) -> Self {
        Self {
            errors: Arc::new(ReplyErrorLog::new(address(&client))),
            client,
            reply_cost_max,
        }
    }

    /// Returns the address of the Redis, for messages.
    pub(super) fn address(&self) -> String {
        address(&self.client)
    }

    /// Opens a connection for commands, each of which waits up to `limit` for its reply.
    pub(super) async fn open_commands(&self, limit: Duration) -> RedisResult<CommandConnection> {
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(limit));
        let settings = self.client.get_connection_info().redis_settings();
        let stream = self.open_stream().await?;
        let (connection, driver) =
            MultiplexedConnection::new_with_config(settings, stream, config).await?;
        let ended = CancellationToken::new();
        let guard = ended.clone().drop_guard();
        tokio::spawn(ended.run_until_cancelled_owned(driver));
        Ok(CommandConnection {
            connection,
            _driver: Arc::new(guard),
        })
    }

    /// Opens a connection for subscriptions.
    pub(super) async fn open_pubsub(&self) -> RedisResult<PubSub> {
        let settings = self.client.get_connection_info().redis_settings();
        PubSub::new(settings, self.open_stream().await?).await
    }

    /// Opens a connection for a caller that reads the replies itself, and must log in first.
    pub(super) async fn open_socket(&self) -> RedisResult<(Stream, Login)> {
        let info = self.client.get_connection_info();
        let settings = info.redis_settings();
        let login = Login {
            user: settings.username().map(ToOwned::to_owned),
            password: settings.password().map(ToOwned::to_owned),
        };
        Ok((connect(info.addr()).await?, login))
    }

    async fn open_stream(&self) -> io::Result<LimitedReplies<Stream>> {
        let stream = connect(self.client.get_connection_info().addr()).await?;
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

fn address(client: &Client) -> String {
    client.get_connection_info().addr().to_string()
}

async fn connect(address: &ConnectionAddr) -> io::Result<Stream> {
    match address {
        ConnectionAddr::Tcp(host, port) => connect_tcp(host, *port).await.map(Either::Left),
        ConnectionAddr::Unix(path) => UnixStream::connect(path).await.map(Either::Right),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
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
