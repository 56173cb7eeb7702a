//! A real Redis that the test owns.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::time::interval;

use super::{
    PATIENCE, free_port,
    redis_acl::{PASSWORD, USER, redis_rules},
    within,
};

/// A `redis-server` process on a free port, with an append-only file that is written before each
/// response.
pub(crate) struct RedisServer {
    child: Child,
    port: u16,
    directory: TempDir,
    flags: Vec<String>,
}

impl RedisServer {
    pub(crate) async fn start() -> Self {
        Self::start_with(&["--appendonly", "yes", "--appendfsync", "always"]).await
    }

    /// One that may be a primary or a replica of the one at the port `primary`.
    pub(crate) async fn start_replicated(primary: Option<u16>) -> Self {
        let mut flags = vec!["--appendonly", "yes", "--repl-diskless-sync-delay", "0"];
        let primary = primary.map(|port| format!("127.0.0.1 {port}"));
        if let Some(primary) = &primary {
            flags.extend(["--replicaof", primary]);
        }
        Self::start_with(&flags).await
    }

    pub(crate) async fn start_with(flags: &[&str]) -> Self {
        let port = free_port();
        let directory = TempDir::new().expect("a temporary directory");
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let child = Self::launch(port, &directory, &flags);
        let mut redis = Self {
            child,
            port,
            directory,
            flags,
        };
        redis.wait_until_ready().await;
        redis
    }

    fn launch(port: u16, directory: &TempDir, flags: &[String]) -> Child {
        let program = std::env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
        let mut command = Command::new(&program);
        command.args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
        ]);
        command
            .arg(directory.path())
            .args(flags)
            .args(["--user", USER])
            .args(redis_rules())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.spawn().unwrap_or_else(|error| {
            panic!("{program} is needed (scripts/test installs it): {error}")
        })
    }

    async fn wait_until_ready(&mut self) {
        let mut tick = interval(Duration::from_millis(10));
        let answering = async {
            while self.command::<String>(redis::cmd("PING")).await.is_err() {
                if let Some(status) = self.child.try_wait().expect("its state") {
                    panic!(
                        "redis-server ended at once ({status}); is port {} in use?",
                        self.port
                    );
                }
                tick.tick().await;
            }
        };
        within("Redis answers", answering).await;
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The URL for a node, whose user has only the rights that the docs list.
    pub(crate) fn url(&self) -> String {
        format!("redis://{USER}:{PASSWORD}@127.0.0.1:{}", self.port)
    }

    /// The URL for a user with all rights.
    pub(crate) fn admin_url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The directory of its files.
    pub(crate) fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// Sends a command over a connection of its own.
    pub(crate) async fn command<T: redis::FromRedisValue>(
        &self,
        command: redis::Cmd,
    ) -> redis::RedisResult<T> {
        let client = redis::Client::open(self.admin_url())?;
        // The crate's default timeouts are one second and half a second, which is too short for a
        // SAVE on a busy machine.
        let patient = redis::AsyncConnectionConfig::new();
        let patient = patient
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let mut connection = client
            .get_multiplexed_async_connection_with_config(&patient)
            .await?;
        command.query_async(&mut connection).await
    }

    /// Sends a command that must succeed, with its words separated by spaces.
    pub(crate) async fn run(&self, words: &str) -> redis::Value {
        let mut words = words.split(' ');
        let mut command = redis::cmd(words.next().expect("a command"));
        for word in words {
            command.arg(word);
        }
        self.command(command).await.expect("the command succeeds")
    }

    /// Ends the leases of the nodes that maintain channels, as if their time were over.
    pub(crate) async fn end_leases(&self) {
        let mut command = redis::cmd("EVAL");
        let script = "for _, key in ipairs(redis.call('KEYS', 'sse:lease:*')) do \
                      redis.call('DEL', key) end";
        command.arg(script).arg(0);
        self.command::<()>(command).await.expect("no lease is left");
    }

    /// The number of members of all sorted sets whose names have this beginning.
    pub(crate) async fn count_members(&self, beginning: &str) -> u64 {
        let mut command = redis::cmd("EVAL");
        let script = "local count = 0 \
                      for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do \
                      count = count + redis.call('ZCARD', key) end return count";
        command.arg(script).arg(0).arg(beginning);
        self.command(command).await.expect("a number")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills the process as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("a running Redis");
        self.child.wait().expect("its end");
    }

    /// Starts Redis again on the same port and files.
    pub(crate) async fn restart(&mut self) {
        self.child = Self::launch(self.port, &self.directory, &self.flags);
        self.wait_until_ready().await;
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
