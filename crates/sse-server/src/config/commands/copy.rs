//! `copy`.

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::Args;
use sse_proto::units::parse_positive_duration;

use super::connection_args::{TrustArgs, read_token};
use crate::{
    broker::redis::{check_target, copy_target::CopyTargetOptions},
    config::{
        Invocation,
        environment::{GivenSettings, misused},
    },
    diagnosis::{connect::Connection, target::HealthTarget},
    transfer::{CopyError, CopyOrder, ServerSource, Source, copy_log},
};

/// The copy has the channels with their ids, idempotency keys, gap records, ends, trim marks, settings
/// and tombstones, and the revoked credentials. A reader that resumes at the new servers misses and
/// repeats nothing.
///
/// --redis-prefix, --redis-user, --redis-ca and the other flags about Redis are those of the server.
/// With this prefix, Redis must have no channel of the same name, except from an earlier run of this
/// command, which is continued. Servers start on this Redis only when the copy is complete. The exit
/// code is 0 then, and 1 before.
#[derive(Clone, Args)]
pub(in crate::config) struct CopyCommand {
    /// The log: the data directory of a server that is stopped, or, with --follow, the URL of a running
    /// one (`http://…`, `https://…` or `unix:PATH`)
    #[arg(long, value_name = "DIR|URL", value_parser = str::parse::<CopySource>)]
    from: CopySource,
    /// The Redis, in the form of --redis-url; its password is better in `SSE_REDIS_PASSWORD`
    #[arg(long, value_name = "URL")]
    to: String,
    /// Copy from a running server, and catch up until the server stops or this command gets a signal
    #[arg(long)]
    follow: bool,
    /// When the running server has stopped, copy the rest from this data directory
    #[arg(long, value_name = "DIR", requires = "follow")]
    finish_from: Option<PathBuf>,
    /// Send the API key or token in this file, which needs the right to administrate, and to subscribe
    /// to all channels
    #[arg(long, value_name = "FILE", requires = "follow")]
    token_file: Option<PathBuf>,
    /// Time for each answer of the server
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "30s",
        value_parser = parse_positive_duration
    )]
    timeout: Duration,
    #[command(flatten)]
    trust: TrustArgs,
}

/// Where the log is.
#[derive(Debug, Clone)]
enum CopySource {
    Directory(PathBuf),
    Server(HealthTarget),
}

impl FromStr for CopySource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains("://") || text.starts_with("unix:") {
            return text.parse().map(Self::Server);
        }
        Ok(Self::Directory(text.into()))
    }
}

pub(super) fn run(command: CopyCommand, given: &GivenSettings) -> Result<Invocation, clap::Error> {
    let redis = &given.args.redis;
    let target = CopyTargetOptions {
        url: command.to.clone(),
        login: redis.login(),
        prefix: redis.prefix.clone(),
        timeout: redis.timeout,
    };
    check_target(&target.url, &target.login).map_err(|why| misused(format!("--to: {why}")))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| misused(format!("cannot start the runtime: {error}")))?;
    let (follows, data_dir) = (command.follow, command.finish_from.clone());
    let source = open_source(command).map_err(misused)?;
    let copied = runtime.block_on(async {
        let order = CopyOrder {
            source: source?,
            follows,
            data_dir,
            target,
        };
        copy_log(order).await
    });
    Ok(match copied {
        Ok(sentence) => Invocation::Print(format!("{sentence}\n")),
        Err(error) => Invocation::Fail(format!("the copy is not complete: {error}\n")),
    })
}

/// Opens the log. The outer error is what is wrong with the flags.
fn open_source(command: CopyCommand) -> Result<Result<Source, CopyError>, String> {
    let token = command.token_file.as_deref().map(read_token).transpose()?;
    match (command.from, command.follow) {
        (CopySource::Directory(directory), false) => Ok(Source::open(&directory)),
        (CopySource::Server(target), true) => {
            let connection = Connection {
                target,
                timeout: command.timeout,
                trust: command.trust.read()?,
            };
            Ok(ServerSource::new(connection, token).map(Source::of_server))
        }
        (CopySource::Directory(_), true) => {
            Err("--follow needs the URL of a running server in --from".to_owned())
        }
        (CopySource::Server(_), false) => Err(
            "a running server is copied with --follow; without it, --from is the data directory of \
             a server that is stopped"
                .to_owned(),
        ),
    }
}
