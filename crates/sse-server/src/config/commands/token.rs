//! `token` and `token check`.

use std::{
    fmt::Write as _,
    io::Read as _,
    time::{Duration, SystemTime},
};

use clap::{Args, Subcommand};
use sse_proto::units::{parse_positive_duration, time_text};

use crate::{
    access::{
        Access, CredentialError, CredentialSource, Identity, Pattern, Right, ServerRight,
        TicketError, TicketRequest, ticket::issue_operator_ticket,
    },
    config::{
        Invocation,
        environment::{GivenSettings, misused},
    },
};

/// A longer text is no token.
const TOKEN_TEXT_MAX: u64 = 64 << 10;

#[derive(Clone, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(in crate::config) struct TokenCommand {
    #[command(subcommand)]
    command: Option<TokenSubcommand>,
    /// Let the holder subscribe to these channels; * matches one or more characters (repeatable)
    #[arg(long, value_name = "PATTERN", required = true)]
    subscribe: Vec<Pattern>,
    /// The life of the ticket
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "10m",
        value_parser = parse_positive_duration
    )]
    ttl: Duration,
    /// Who the ticket is for, as logs and lists name them
    #[arg(long)]
    sub: Option<String>,
}

#[derive(Clone, Subcommand)]
enum TokenSubcommand {
    /// Report what a token or an API key grants, or why it grants nothing; the exit code is then 1
    Check {
        /// The token; - reads it from stdin, where no other process sees it
        token: String,
    },
}

pub(super) fn run(command: TokenCommand, given: &GivenSettings) -> Result<Invocation, clap::Error> {
    match command.command {
        None => create_ticket(command, given)
            .map(Invocation::Print)
            .map_err(misused),
        Some(TokenSubcommand::Check { token }) => check_token(token, given).map_err(misused),
    }
}

fn create_ticket(command: TokenCommand, given: &GivenSettings) -> Result<String, String> {
    let restrictions = given.access.rules.restrictions.as_ref();
    let signing = restrictions.and_then(|rules| rules.signing.as_ref());
    let signing = signing
        .ok_or_else(|| format!("{}; name the file with --config", TicketError::NoSigningKey))?;
    let request = TicketRequest {
        subscribe: command.subscribe,
        ttl: command.ttl,
        sub: command.sub,
    };
    let ticket = issue_operator_ticket(signing, request, SystemTime::now());
    let ticket = ticket.map_err(|error| error.to_string())?;
    Ok(format!("{}\n", ticket.token.expose()))
}

fn check_token(token: String, given: &GivenSettings) -> Result<Invocation, String> {
    if !given.access.rules.is_restricted() {
        return Err("there are no access rules: name the file with --config".to_owned());
    }
    let token = if token == "-" { read_stdin()? } else { token };
    let identified = identify_token(token.trim(), given)?;
    Ok(match identified {
        Ok(identity) => Invocation::Print(describe_identity(&identity)),
        Err(CredentialError::Rejected(word)) => Invocation::Fail(format!(
            "The token grants nothing: {word} ({}).\n",
            word.meaning()
        )),
        Err(CredentialError::Unavailable) => {
            Invocation::Fail("The keys of the issuer cannot be fetched.\n".to_owned())
        }
    })
}

/// The keys of an issuer may have to be fetched.
fn identify_token(
    token: &str,
    given: &GivenSettings,
) -> Result<Result<std::sync::Arc<Identity>, CredentialError>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| format!("cannot start the runtime: {error}"))?;
    Ok(runtime.block_on(async {
        let access = Access::new(given.access.rules.clone());
        access.identify(token, CredentialSource::Header).await
    }))
}

fn read_stdin() -> Result<String, String> {
    let mut text = String::new();
    let read = std::io::stdin()
        .lock()
        .take(TOKEN_TEXT_MAX)
        .read_to_string(&mut text);
    read.map_err(|error| format!("cannot read the token from stdin: {error}"))?;
    Ok(text)
}

fn describe_identity(identity: &Identity) -> String {
    let mut text = format!("The caller is {}.\n", identity.principal());
    for right in Right::ALL {
        let patterns: Vec<_> = identity
            .rights()
            .patterns(right)
            .iter()
            .map(Pattern::as_str)
            .collect();
        if !patterns.is_empty() {
            // Writing to a string never fails.
            let _ = writeln!(text, "{right}: {}", patterns.join(" "));
        }
    }
    for right in [ServerRight::Observe, ServerRight::Admin] {
        if identity.rights().permits_server(right) {
            let _ = writeln!(text, "{right}: yes");
        }
    }
    if identity.rights().is_empty() {
        text.push_str("It may do nothing.\n");
    }
    if let Some(expires) = identity.expires() {
        let since_epoch = expires
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let ms = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
        let _ = writeln!(text, "expires: {}", time_text(ms));
    }
    text
}
