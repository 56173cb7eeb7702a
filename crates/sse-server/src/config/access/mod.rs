//! The table `[access]` of the configuration file.
//!
//! | file | contents |
//! |---|---|
//! | `table` | reads a table whose keys are known |
//! | `callers` | `[access.anonymous]`, `[[access.key]]` and limits |
//! | `issuers` | `[[access.issuer]]` |
//! | `signing` | `[access.signing]` |
//! | `named_files` | the files that the tables name |
//! | `print` | the tables as `config print` shows them |
//!
//! The files that the tables name are read together with them, so rules exist only if every key can
//! be used.

mod callers;
mod issuers;
mod named_files;
mod print;
mod signing;
mod table;
#[cfg(test)]
mod tests;

use std::{path::Path, sync::Arc, time::Duration};

use sse_proto::units::parse_duration;
use toml::{Spanned, de::DeValue};

pub(super) use self::{
    callers::check_name,
    print::{EXAMPLE, print_section, print_tables},
    table::TableReader,
};
use self::{
    callers::{ANONYMOUS_KEYS, KEY_KEYS, read_caller, read_key},
    issuers::{ISSUER_KEYS, read_issuer},
    named_files::NamedFiles,
    signing::{SIGNING_KEYS, read_signing},
};
use super::file::ErrorAt;
use crate::access::{
    AccessRules,
    rules::{CallerRules, IssuerRules, KeyRules, Restrictions},
    ticket::SigningKeys,
};

const ACCESS_KEYS: [&str; 9] = [
    "claim",
    "cookie",
    "cookie_cross_site",
    "revocation",
    "query_token_life",
    "anonymous",
    "key",
    "issuer",
    "signing",
];
const DEFAULT_CLAIM: &str = "sse";
const DEFAULT_COOKIE: &str = "__Host-sse";
const DEFAULT_QUERY_TOKEN_LIFE: Duration = Duration::from_hours(1);

/// What is not wrong, but probably not meant.
#[derive(Debug, Default)]
pub(super) struct Notes(pub(super) Vec<ErrorAt>);

impl Notes {
    fn warn(&mut self, offset: usize, message: String) {
        self.0.push((offset, message));
    }
}

/// Reads the table `[access]` of the file `path`. `public_url` is the first one of the server.
pub(super) fn read_access(
    value: &Spanned<DeValue<'_>>,
    path: &Path,
    public_url: Option<&str>,
    notes: &mut Notes,
) -> Result<AccessRules, ErrorAt> {
    let table = TableReader::new("[access]", value, &ACCESS_KEYS)?;
    let files = NamedFiles::of(path);
    let restrictions = Restrictions {
        claim: read_claim(&table)?,
        cookie: read_cookie(&table)?,
        cookie_cross_site: table.read_switch("cookie_cross_site")?,
        revocation_strict: table
            .parse_text("revocation", parse_revocation)?
            .unwrap_or_default(),
        query_token_life: table
            .parse_text("query_token_life", parse_duration)?
            .unwrap_or(DEFAULT_QUERY_TOKEN_LIFE),
        anonymous: read_anonymous(&table)?,
        keys: read_key_list(&table, notes)?,
        issuers: read_issuer_list(&table, &files, notes)?,
        signing: read_signing_keys(&table, public_url, &files, notes)?,
    };
    check_callers(&table, &restrictions)?;
    check_ticket_issuer(&table, &restrictions)?;
    Ok(AccessRules {
        restrictions: Some(restrictions),
    })
}

fn read_claim(table: &TableReader<'_>) -> Result<String, ErrorAt> {
    let claim = table.parse_text("claim", |text| match text {
        "" => Err("write the name of the claim that contains rights"),
        name => Ok(name.to_owned()),
    });
    Ok(claim?.unwrap_or_else(|| DEFAULT_CLAIM.to_owned()))
}

fn read_cookie(table: &TableReader<'_>) -> Result<String, ErrorAt> {
    // A token of RFC 9110 §5.6.2.
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let cookie = table.parse_text("cookie", |name| {
        if name.is_empty() || !name.bytes().all(is_allowed) {
            return Err("write the name of a cookie, such as __Host-sse");
        }
        Ok(name.to_owned())
    });
    Ok(cookie?.unwrap_or_else(|| DEFAULT_COOKIE.to_owned()))
}

fn parse_revocation(text: &str) -> Result<bool, &'static str> {
    match text {
        "lenient" => Ok(false),
        "strict" => Ok(true),
        _ => Err("write lenient or strict"),
    }
}

fn read_anonymous(table: &TableReader<'_>) -> Result<CallerRules, ErrorAt> {
    let Some(value) = table.find_value("anonymous") else {
        return Ok(CallerRules::default());
    };
    read_caller(&TableReader::new(
        "[access.anonymous]",
        value,
        &ANONYMOUS_KEYS,
    )?)
}

fn read_key_list(table: &TableReader<'_>, notes: &mut Notes) -> Result<Vec<KeyRules>, ErrorAt> {
    let mut keys = Vec::new();
    for key in table.read_tables("key", "access.key", &KEY_KEYS)? {
        keys.push(read_key(&key, &keys, notes)?);
    }
    Ok(keys)
}

fn read_issuer_list(
    table: &TableReader<'_>,
    files: &NamedFiles,
    notes: &mut Notes,
) -> Result<Vec<IssuerRules>, ErrorAt> {
    let mut issuers = Vec::new();
    for issuer in table.read_tables("issuer", "access.issuer", &ISSUER_KEYS)? {
        issuers.push(read_issuer(&issuer, &issuers, files, notes)?);
    }
    Ok(issuers)
}

fn read_signing_keys(
    table: &TableReader<'_>,
    public_url: Option<&str>,
    files: &NamedFiles,
    notes: &mut Notes,
) -> Result<Option<Arc<SigningKeys>>, ErrorAt> {
    let Some(value) = table.find_value("signing") else {
        return Ok(None);
    };
    let table = TableReader::new("[access.signing]", value, &SIGNING_KEYS)?;
    let keys = read_signing(&table, public_url, files, notes)?;
    Ok(Some(Arc::new(keys)))
}

/// A file without callers is a mistake, for example a file that was cut off.
fn check_callers(table: &TableReader<'_>, rules: &Restrictions) -> Result<(), ErrorAt> {
    let has_anonymous = !rules.anonymous.rights.is_empty();
    if has_anonymous || !rules.keys.is_empty() || !rules.issuers.is_empty() {
        return Ok(());
    }
    let message = "[access] has no caller: add [access.anonymous], [[access.key]] or \
                   [[access.issuer]]";
    Err((table.offset(), message.to_owned()))
}

/// The `iss` of a token decides which keys verify it.
fn check_ticket_issuer(table: &TableReader<'_>, rules: &Restrictions) -> Result<(), ErrorAt> {
    let Some(signing) = &rules.signing else {
        return Ok(());
    };
    if rules
        .issuers
        .iter()
        .all(|issuer| issuer.issuer != signing.issuer)
    {
        return Ok(());
    }
    let message = format!(
        "{} is the issuer of tickets and cannot be one of [[access.issuer]]: set another issuer in \
         [access.signing]",
        signing.issuer
    );
    Err((table.offset(), message))
}
