//! How to log in at Redis and at its sentinels, and which certificates TLS uses.

use std::{
    fmt,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use redis::RedisConnectionInfo;
use zeroize::{Zeroize as _, Zeroizing};

/// A larger file with a password is rejected.
const PASSWORD_BYTES_MAX: u64 = 64 << 10;

/// How to log in, beside what the URL contains.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RedisLogin {
    /// The account at Redis.
    pub redis: Account,
    /// The account at the sentinels.
    pub sentinels: Account,
    /// The certificates that TLS uses.
    pub tls: TlsFiles,
}

/// A user of Redis or of the sentinels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// Its name; the default user if there is none.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<Password>,
    /// A file whose first line is the password.
    pub password_file: Option<PathBuf>,
}

/// PEM files for TLS to Redis and to the sentinels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of authorities that are trusted instead of those of the system.
    pub ca: Option<PathBuf>,
    /// The certificate of this server as a client.
    pub certificate: Option<PathBuf>,
    /// The private key of that certificate.
    pub key: Option<PathBuf>,
}

/// A password, which no output shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// A password as it was given.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Account {
    /// Adds the account to what the URL contains. `role` is the part of the flags' names that
    /// differs, for messages.
    ///
    /// # Errors
    ///
    /// The same part is given twice, or the file cannot be used.
    pub(super) fn apply(
        &self,
        mut login: RedisConnectionInfo,
        role: &str,
    ) -> Result<RedisConnectionInfo, String> {
        if let Some(user) = &self.user {
            if login.username().is_some() {
                return Err(given_twice(&format!("--{role}-user")));
            }
            login = login.set_username(user);
        }
        let Some(password) = self.read_password(role)? else {
            let has_user_only = login.username().is_some() && login.password().is_none();
            return if has_user_only {
                Err(format!(
                    "there is a user without a password: give --{role}-password-file, or the \
                     variable SSE_{}_PASSWORD",
                    role.to_uppercase().replace('-', "_")
                ))
            } else {
                Ok(login)
            };
        };
        if login.password().is_some() {
            return Err(given_twice(&format!("--{role}-password")));
        }
        Ok(login.set_password(password.as_str()))
    }

    fn read_password(&self, role: &str) -> Result<Option<Zeroizing<String>>, String> {
        match (&self.password, &self.password_file) {
            (Some(_), Some(_)) => Err(format!(
                "--{role}-password and --{role}-password-file are given: remove one of them"
            )),
            (Some(Password(password)), None) => Ok(Some(password.clone())),
            (None, Some(path)) => read_password_file(path).map(Some),
            (None, None) => Ok(None),
        }
    }
}

fn given_twice(flag: &str) -> String {
    format!("--redis-url and {flag} both name an account: remove one of them")
}

/// Reads the first line of a file.
fn read_password_file(path: &Path) -> Result<Zeroizing<String>, String> {
    let shown = path.display();
    let failed = |error| format!("cannot read the password in {shown}: {error}");
    let mut text = Zeroizing::new(String::new());
    let file = File::open(path).map_err(failed)?;
    let length = file.take(PASSWORD_BYTES_MAX).read_to_string(&mut text);
    if length.map_err(failed)? as u64 == PASSWORD_BYTES_MAX {
        return Err(format!("{shown} is too large for a password"));
    }
    let line = text.lines().next().unwrap_or_default().to_owned();
    text.zeroize();
    if line.is_empty() {
        return Err(format!("{shown} has no password in its first line"));
    }
    Ok(Zeroizing::new(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(user: Option<&str>, password: Option<&str>) -> Account {
        Account {
            user: user.map(ToOwned::to_owned),
            password: password.map(|password| Password::new(password.to_owned())),
            password_file: None,
        }
    }

    fn apply(account: &Account, url: RedisConnectionInfo) -> Result<String, String> {
        let login = account.apply(url, "redis")?;
        let (user, password) = (login.username(), login.password());
        Ok(format!(
            "{} {}",
            user.unwrap_or("-"),
            password.unwrap_or("-")
        ))
    }

    #[test]
    fn an_account_is_in_the_url_or_in_settings_and_never_in_both() {
        let url = || {
            RedisConnectionInfo::default()
                .set_username("u")
                .set_password("p")
        };
        let none = RedisConnectionInfo::default;
        assert_eq!(apply(&account(None, None), url()), Ok("u p".to_owned()));
        assert_eq!(apply(&account(None, None), none()), Ok("- -".to_owned()));
        let mine = account(Some("me"), Some("secret"));
        assert_eq!(apply(&mine, none()), Ok("me secret".to_owned()));
        assert!(!format!("{mine:?}").contains("secret"));
        for (account, url) in [
            (mine, url()),
            (account(None, Some("secret")), url()),
            (account(Some("me"), None), none()),
        ] {
            let error = apply(&account, url).unwrap_err();
            assert!(
                error.contains("--redis-") && !error.contains("secret"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_password_is_the_first_line_of_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        let mut account = account(Some("me"), None);
        account.password_file = Some(path.clone());
        assert!(apply(&account, RedisConnectionInfo::default()).is_err());
        std::fs::write(&path, "\nsecret").unwrap();
        assert!(apply(&account, RedisConnectionInfo::default()).is_err());
        std::fs::write(&path, "secret\nmore\n").unwrap();
        assert_eq!(
            apply(&account, RedisConnectionInfo::default()),
            Ok("me secret".to_owned())
        );
        account.password = Some(Password::new("x".to_owned()));
        assert!(apply(&account, RedisConnectionInfo::default()).is_err());
    }
}
