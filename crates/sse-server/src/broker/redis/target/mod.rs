//! Which Redis to use: the URL, the accounts and TLS, read once at start.
//!
//! | file | contents |
//! |---|---|
//! | `url` | the parser of `--redis-url` |
//! | `redact` | a URL without its secrets |
//! | `address` | a host and a port, or a socket |
//! | `login` | accounts, and passwords in files |
//! | `tls` | certificates |

mod address;
mod login;
mod redact;
mod tls;
mod url;

use std::fmt;

use redis::RedisConnectionInfo;
use tokio_rustls::TlsConnector;

use self::url::RedisUrl;
pub(super) use self::{address::ServerAddress, url::Servers};
pub use self::{
    login::{Account, Password, RedisLogin, TlsFiles},
    redact::without_password,
};

/// Checks the URL, and reads the files that `login` names.
///
/// # Errors
///
/// What is wrong, and what to write instead, without secrets.
pub fn check_target(url: &str, login: &RedisLogin) -> Result<(), String> {
    Target::open(url, login).map(drop)
}

/// Which Redis to use, and how to log in there.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) servers: Servers,
    pub(super) login: RedisConnectionInfo,
    pub(super) sentinel_login: RedisConnectionInfo,
    /// `None` without TLS.
    pub(super) tls: Option<TlsConnector>,
}

impl Target {
    /// Parses the URL, and reads the files that the settings name.
    ///
    /// # Errors
    ///
    /// What is wrong, and what to write instead. No secret is shown.
    pub(super) fn open(url: &str, login: &RedisLogin) -> Result<Self, String> {
        let url = RedisUrl::parse(url)?;
        check_purpose(&url, login)?;
        let tls = url
            .has_tls
            .then(|| tls::connector(&login.tls))
            .transpose()?;
        let no_login = RedisConnectionInfo::default();
        Ok(Self {
            login: login.redis.apply(url.login, "redis")?,
            sentinel_login: login.sentinels.apply(no_login, "redis-sentinel")?,
            servers: url.servers,
            tls,
        })
    }
}

/// Rejects settings that have no effect with this URL.
fn check_purpose(url: &RedisUrl, login: &RedisLogin) -> Result<(), String> {
    if !url.has_tls && login.tls != TlsFiles::default() {
        return Err(
            "--redis-ca, --redis-cert and --redis-key have no effect without TLS: write rediss://, \
             rediss+sentinel:// or rediss+cluster:// in --redis-url"
                .to_owned(),
        );
    }
    if !matches!(url.servers, Servers::Sentinels { .. }) && login.sentinels != Account::default() {
        return Err(
            "the account of the sentinels has no effect without sentinels: write \
             redis+sentinel:// in --redis-url"
                .to_owned(),
        );
    }
    Ok(())
}

/// The servers without secrets, for messages.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |addresses: &[ServerAddress]| {
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            addresses.join(",")
        };
        match &self.servers {
            Servers::One(address) => address.fmt(f),
            Servers::Sentinels { addresses, primary } => {
                write!(f, "{primary} of the sentinels {}", list(addresses))
            }
            Servers::Cluster(addresses) => write!(f, "the cluster of {}", list(addresses)),
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
