//! The settings of the server.
//!
//! | file | contents |
//! |---|---|
//! | `cli` | the grammar: flags, their variables, defaults and help |
//! | `network_args`, `tls_args`, `publish_args`, `stream_args`, `limit_args`, `redis_args`, `backup_args`, `log_args` | the parts of the grammar about the network, TLS, publishing, streams, limits of one client, Redis, copies of the log and the logs |
//! | `invocation` | what the command line asks for |
//! | `environment`, `file` | how flags, variables and the file are read together; the file |
//! | `access`, `channel_classes` | the tables `[access]` and `[[channel]]` of the file |
//! | `commands`, `tls_pairs` | `backup`, `check`, `config`, `copy`, `health`, `key`, `restore` and `token`, which print and exit; certificates |
//! | `print`, `sources`, `unprinted` | `config print`, where a value comes from, and values that may contain secrets |
//! | `flags_after_command` | `check`, `config print`, `copy` and `restore` in front of the settings |
//! | `bind_hint`, `validate` | advice for `--host` and `--port`; rules that concern several settings |
//! | `broker_choice`, `values` | which broker is chosen; the forms of single values |
//!
//! A [`Config`] exists only if all settings are valid. It is made before anything is opened or bound.

mod access;
mod backup_args;
mod bind_hint;
mod broker_choice;
mod channel_classes;
mod cli;
mod commands;
mod environment;
mod file;
mod flags_after_command;
mod invocation;
mod limit_args;
mod log_args;
mod network_args;
mod print;
mod publish_args;
mod redis_args;
mod sources;
mod stream_args;
mod tls_args;
mod tls_pairs;
mod unprinted;
mod validate;
mod values;

use std::{
    collections::BTreeMap, ffi::OsString, num::NonZeroUsize, path::PathBuf, sync::Arc,
    time::Duration,
};

use bytesize::ByteSize;

pub use self::{
    broker_choice::{BrokerConfig, BrokerKind},
    environment::unknown_variables,
    file::FileAccess,
    invocation::Invocation,
    unprinted::Unprinted,
};
use self::{
    cli::Args,
    environment::{GivenSettings, misused},
};
use crate::{
    ListenAddress,
    access::AccessRules,
    access_log::{AccessLogTarget, LogFormat},
    broker::{Retention, backup::BackupSettings, idempotency::KeyLimits, lifecycle::ChannelClass},
    budget::largest_share,
    channel::TailLimits,
    fanout::{streams::StreamSettings, thread::FanoutSettings},
    http::{NamedOrigins, PrintedSettings, RequestLimits, TrustedProxy},
    quota::Limits,
    tls::CertificateFiles,
};

/// The values of the settings by their keys, as texts. They may have secrets.
pub type SettingValues = BTreeMap<String, Vec<String>>;

/// The validated settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// The command line.
    arguments: Unprinted<Arc<[OsString]>>,
    /// The values of all settings, to find those that change.
    pub settings: Unprinted<SettingValues>,
    /// The configuration file, if there is one.
    pub file: Option<PathBuf>,
    /// Addresses to listen on, at least one; port 0 takes a free port.
    pub addresses: Vec<ListenAddress>,
    /// Whether callers without a credential may do more than subscribe, at an address that other
    /// machines can reach.
    pub allow_anonymous: bool,
    /// The first URL at which clients reach this server through a proxy. It names the issuer of
    /// tickets.
    pub public_url: Option<String>,
    /// Certificates of the https addresses. The first one is for clients that request no name.
    pub certificates: Vec<CertificateFiles>,
    /// Permissions of the files of unix sockets.
    pub socket_mode: u32,
    /// Whether clients that connect over TLS may choose HTTP/2.
    pub http2: bool,
    /// Levels of the log on stderr, as a filter of `tracing_subscriber`.
    pub log: String,
    /// Form of the log and of the access log.
    pub log_format: LogFormat,
    /// Where the access log is written; `None` if it is off.
    pub access_log: Option<AccessLogTarget>,
    /// The file of the audit log; `None` if it is off.
    pub audit_log: Option<PathBuf>,
    /// Which callers exist and what they may do.
    pub access: AccessRules,
    /// The classes of channels, in their order.
    pub classes: Vec<ChannelClass>,
    /// All settings and where each comes from, for operators.
    pub printed: PrintedSettings,
    /// What in the settings is probably not meant, for the log.
    pub warnings: Vec<String>,
    /// Origins whose pages may read or publish.
    pub origins: NamedOrigins,
    /// Proxies whose reports about clients are believed.
    pub trusted_proxies: Vec<TrustedProxy>,
    /// How long browsers use only HTTPS for the host; `None` if responses do not state it.
    pub hsts: Option<Duration>,
    /// The broker and what chose it.
    pub broker: BrokerConfig,
    /// Where and how fast the log is copied.
    pub backups: BackupSettings,
    /// What the broker keeps.
    pub retention: Retention,
    /// What one caller may use.
    pub limits: Limits,
    /// What a request may contain.
    pub requests: RequestLimits,
    /// Bytes of the bodies of all publishes in progress.
    pub publish_memory_bytes: u64,
    /// What the tail of a channel keeps in memory.
    pub tail: TailLimits,
    /// Bytes of all tails together.
    pub tails_bytes_max: usize,
    /// Bytes of all streams whose connections are full.
    pub blocked_bytes_max: usize,
    /// Longest time that a stream is open; `None` if there is no limit.
    pub stream_life: Option<Duration>,
    /// What every stream shares.
    pub streams: StreamSettings,
    /// Open streams; `None` if the number of open files decides.
    pub streams_max: Option<NonZeroUsize>,
    /// Connections that one client may have; `None` if the number of open files decides.
    pub client_connections_max: Option<NonZeroUsize>,
    /// Time in which the streams end after SIGTERM.
    pub drain: Duration,
    /// How the fan-out threads write.
    pub fanout: FanoutSettings,
    /// Fan-out threads; `None` if the number of cores decides.
    pub fanout_threads: Option<usize>,
}

impl Config {
    fn from_given(mut given: GivenSettings) -> Result<Self, clap::Error> {
        let visible: Vec<String> = broker_choice::visible_passwords(&given).collect();
        given.access.warnings.extend(visible);
        let broker = choose_broker(&given).map_err(misused)?;
        let certificates = tls_pairs::all(&given.args.tls, given.file.tls_pairs());
        let printed = print::printed(&given);
        let settings = Unprinted(print::values(&given));
        let arguments = Unprinted(given.arguments.into());
        let classes = given.file.classes().to_vec();
        let config = Self::from_valid(given.args, given.access, broker, certificates);
        Ok(Self {
            arguments,
            settings,
            classes,
            printed,
            ..config
        })
    }

    /// Reads the command line, the environment and the file again.
    ///
    /// # Errors
    ///
    /// What is wrong, in which line.
    pub fn read_again(&self) -> Result<Self, String> {
        let invocation = Invocation::from_args(self.arguments.iter());
        match invocation.map_err(|error| error.to_string().trim().to_owned())? {
            Invocation::Serve(config) => Ok(*config),
            Invocation::Print(_) | Invocation::Fail(_) | Invocation::Check { .. } => {
                Err("the command line is not that of a server".to_owned())
            }
        }
    }

    /// Returns these settings with those values of `read` whose keys are `applied`.
    #[must_use]
    pub fn with_reloaded(mut self, read: &Self, applied: &[&str]) -> Self {
        for key in applied {
            match read.settings.get(*key) {
                Some(values) => self.settings.insert((*key).to_owned(), values.clone()),
                None => self.settings.remove(*key),
            };
        }
        self.printed.reload(&read.printed, applied);
        self
    }

    /// Reads the access rules of the file again, for the addresses of this server.
    ///
    /// # Errors
    ///
    /// What is wrong, in which line. The rules that were read before remain valid.
    pub fn read_access_again(&self) -> Result<FileAccess, String> {
        let Some(file) = &self.file else {
            return Ok(FileAccess::default());
        };
        let access = environment::read_access(file, self.public_url.as_deref())?;
        validate::check_exposure(&self.addresses, self.allow_anonymous, &access.rules)?;
        Ok(access)
    }

    fn from_valid(
        args: Args,
        access: FileAccess,
        broker: BrokerConfig,
        certificates: Vec<CertificateFiles>,
    ) -> Self {
        Self {
            arguments: Unprinted(Arc::new([])),
            settings: Unprinted::default(),
            access: access.rules,
            classes: Vec::new(),
            warnings: access.warnings,
            printed: PrintedSettings::default(),
            public_url: args.network.public_url(),
            allow_anonymous: args.network.allow_anonymous,
            file: args.config.clone(),
            origins: args.network.named_origins(),
            trusted_proxies: args.network.trusted_proxies.clone(),
            hsts: args.network.hsts,
            addresses: args.network.all_addresses(),
            certificates,
            socket_mode: args.network.socket_mode,
            http2: args.network.http2,
            broker,
            backups: args.backup.settings(args.data_mode, args.disk_reserve),
            retention: retention(&args),
            limits: args.limits.limits(),
            requests: request_limits(&args),
            publish_memory_bytes: args.publishing.publish_memory.0,
            tail: tail_limits(&args),
            tails_bytes_max: bytes(args.streams.tails_bytes),
            blocked_bytes_max: bytes(args.streams.blocked_bytes),
            stream_life: args.streams.stream_life,
            streams: stream_settings(&args),
            streams_max: args.streams.streams_max,
            client_connections_max: args.network.client_connections_max,
            drain: args.streams.drain,
            fanout: fanout_settings(&args),
            fanout_threads: args.streams.fanout_threads,
            log: args.logging.log,
            log_format: args.logging.log_format,
            access_log: args.logging.access_log,
            audit_log: args.logging.audit_log,
        }
    }
}

/// Chooses the broker, and checks the rules that concern several settings.
fn choose_broker(given: &GivenSettings) -> Result<BrokerConfig, String> {
    let broker = broker_choice::choose(given)?;
    validate::validate(&given.args, &given.access.rules, &broker.kind)?;
    validate::check_classes(given.file.classes(), &broker.kind)?;
    let addresses = given.args.network.all_addresses();
    tls_pairs::check(&given.args.tls, given.file.tls_pairs(), &addresses)?;
    Ok(broker)
}

fn retention(args: &Args) -> Retention {
    Retention {
        events_max: args.history_events,
        age_max: args.history_age,
        bytes_max: args.history_bytes.0,
        channels_max: args.channels_max.get(),
        keys: key_limits(args),
    }
}

const fn key_limits(args: &Args) -> KeyLimits {
    KeyLimits {
        window: args.publishing.idempotency_window,
        keys_max: args.publishing.idempotency_keys.get(),
        bytes_max: args.publishing.idempotency_bytes.0,
    }
}

fn request_limits(args: &Args) -> RequestLimits {
    RequestLimits {
        event_bytes_max: bytes(args.publishing.event_bytes_max),
        batch_bytes_max: bytes(args.publishing.batch_bytes_max),
        batch_events_max: args.publishing.batch_events_max.get(),
        keys_max: largest_share(args.publishing.idempotency_keys.get()),
    }
}

fn tail_limits(args: &Args) -> TailLimits {
    TailLimits {
        events_max: args.streams.tail_events,
        bytes_max: bytes(args.streams.tail_bytes),
    }
}

const fn stream_settings(args: &Args) -> StreamSettings {
    StreamSettings {
        heartbeat: args.streams.heartbeat,
        retry: args.streams.retry,
    }
}

const fn fanout_settings(args: &Args) -> FanoutSettings {
    FanoutSettings {
        coalesce: args.streams.coalesce,
        heartbeat: args.streams.heartbeat,
        retry: args.streams.retry,
        write_timeout: args.streams.write_timeout,
    }
}

fn bytes(size: ByteSize) -> usize {
    usize::try_from(size.0).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
