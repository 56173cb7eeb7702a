//! Three real sentinels with a primary and two replicas.

use std::{
    collections::HashMap,
    fs,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::common::{
    RedisServer, free_port,
    redis_acl::{PASSWORD, USER, sentinel_rules},
    until,
};

/// The name under which the sentinels know the primary.
const PRIMARY: &str = "mine";

/// A primary with two replicas, and three sentinels that watch them.
pub(crate) struct Sentinels {
    pub(crate) servers: Vec<RedisServer>,
    sentinels: Vec<Sentinel>,
}

struct Sentinel {
    child: Child,
    port: u16,
    _directory: TempDir,
}

impl Sentinel {
    fn start(primary: u16) -> Self {
        let (port, directory) = (free_port(), TempDir::new().expect("a directory"));
        let config = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\n\
             sentinel monitor {PRIMARY} 127.0.0.1 {primary} 2\n\
             sentinel down-after-milliseconds {PRIMARY} 1000\n\
             sentinel failover-timeout {PRIMARY} 5000\n\
             sentinel parallel-syncs {PRIMARY} 2\n\
             user {USER} {}\n",
            directory.path().display(),
            sentinel_rules().join(" "),
        );
        let path = directory.path().join("sentinel.conf");
        fs::write(&path, config).expect("a configuration");
        let program = std::env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
        let mut command = Command::new(program);
        command.arg(path).arg("--sentinel").stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Self {
            child: command.spawn().expect("a sentinel"),
            port,
            _directory: directory,
        }
    }

    async fn command<T: redis::FromRedisValue>(&self, words: &str) -> redis::RedisResult<T> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port))?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let mut words = words.split(' ');
        let mut command = redis::cmd(words.next().unwrap_or_default());
        words.for_each(|word| {
            command.arg(word);
        });
        command.query_async(&mut connection).await
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Sentinels {
    /// Starts everything, and waits until the sentinels know each other and both replicas.
    pub(crate) async fn start() -> Self {
        let primary = RedisServer::start_replicated(None).await;
        let port = primary.port();
        let servers = vec![
            RedisServer::start_replicated(Some(port)).await,
            RedisServer::start_replicated(Some(port)).await,
            primary,
        ];
        // A replica that is not online yet has received nothing, and would be promoted all the same.
        until("both replicas are online", async || {
            let mut info = redis::cmd("INFO");
            let info = info.arg("replication").clone();
            let info: String = servers[2].command(info).await.ok()?;
            (info.matches("state=online").count() == 2).then_some(())
        })
        .await;
        let sentinels = (0..3).map(|_| Sentinel::start(port)).collect();
        let all = Self { servers, sentinels };
        for sentinel in &all.sentinels {
            // The sentinels find each other, and notice a failover, sooner.
            until("a sentinel answers", async || {
                let faster = "SENTINEL DEBUG publish-period 200 info-period 1000";
                sentinel.command::<String>(faster).await.ok()
            })
            .await;
        }
        for sentinel in &all.sentinels {
            until("a sentinel knows everything", async || {
                let master = format!("SENTINEL MASTER {PRIMARY}");
                let fields: HashMap<String, String> = sentinel.command(&master).await.ok()?;
                let knows = |field: &str| fields.get(field).is_some_and(|count| count == "2");
                (knows("num-slaves") && knows("num-other-sentinels")).then_some(())
            })
            .await;
        }
        all
    }

    fn addresses(&self) -> String {
        let addresses = self.sentinels.iter();
        let addresses: Vec<_> = addresses
            .map(|sentinel| format!("127.0.0.1:{}", sentinel.port))
            .collect();
        addresses.join(",")
    }

    /// Flags of a node. The primary is the one that the sentinels know as `name`.
    pub(crate) fn flags_for(&self, name: &str) -> [String; 3] {
        [
            format!(
                "--redis-url=redis+sentinel://{USER}:{PASSWORD}@{}/{name}",
                self.addresses()
            ),
            format!("--redis-sentinel-user={USER}"),
            format!("--redis-sentinel-password={PASSWORD}"),
        ]
    }

    /// Flags of a node.
    pub(crate) fn flags(&self) -> [String; 3] {
        self.flags_for(PRIMARY)
    }

    /// Starts a planned failover.
    pub(crate) async fn fail_over(&self) {
        let command = format!("SENTINEL FAILOVER {PRIMARY}");
        until("a failover begins", async || {
            self.sentinels[0].command::<String>(&command).await.ok()
        })
        .await;
    }

    /// Waits until all sentinels name another primary than the one at `port`, and the failover has
    /// ended: a sentinel that carries it out takes part in no other one. Returns its port.
    pub(crate) async fn another_than(&self, port: u16) -> u16 {
        let command = format!("SENTINEL GET-MASTER-ADDR-BY-NAME {PRIMARY}");
        until("the sentinels name another primary", async || {
            let mut named = Vec::new();
            for sentinel in &self.sentinels {
                let (_, port): (String, u16) = sentinel.command(&command).await.ok()?;
                named.push(port);
            }
            if self.is_failing_over().await? {
                return None;
            }
            named.dedup();
            (named.len() == 1 && named[0] != port).then(|| named[0])
        })
        .await
    }

    /// Whether a sentinel carries out a failover; `None` if one does not answer.
    async fn is_failing_over(&self) -> Option<bool> {
        let command = format!("SENTINEL MASTER {PRIMARY}");
        for sentinel in &self.sentinels {
            let fields: HashMap<String, String> = sentinel.command(&command).await.ok()?;
            if fields.get("flags")?.contains("failover_in_progress") {
                return Some(true);
            }
        }
        Some(false)
    }

    /// The server at `port`.
    pub(crate) fn server(&mut self, port: u16) -> &mut RedisServer {
        let mut servers = self.servers.iter_mut();
        servers
            .find(|server| server.port() == port)
            .expect("a server")
    }

    /// Stops the sentinel with this number, as SIGSTOP does.
    pub(crate) fn signal_sentinel(&self, number: usize, signal: &str) {
        let pid = self.sentinels[number].child.id().to_string();
        let kill = Command::new("kill").args([signal, &pid]).status();
        assert!(kill.expect("kill").success());
    }
}
