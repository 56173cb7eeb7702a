//! The certificates of the server: those of the flags, and those of the configuration file.
//!
//! ```text
//! [[tls]]                                  chosen if the client requests a name of the certificate
//! cert = "/etc/sse/example.org.pem"
//! key = "/etc/sse/example.org.key"
//! ```
//!
//! The pair of the flags comes first. A client that requests no name gets the first pair.

use std::{fmt::Write as _, path::PathBuf};

use toml::{Spanned, de::DeValue};

use super::tls_args::TlsArgs;
use crate::{ListenAddress, tls::CertificateFiles};

/// Key of the tables in the configuration file.
pub(super) const KEY: &str = "tls";
/// Certificates that a server can have. Each one is compared with the name that a client requests.
const PAIRS_MAX: usize = 64;
const EXPECTED: &str =
    "write a table [[tls]] with the keys cert and key, which name one PEM file each";

/// Parses the tables of the configuration file.
///
/// # Errors
///
/// What is wrong, and where it is in the text.
pub(super) fn parse(
    tables: &Spanned<DeValue<'_>>,
) -> Result<Vec<CertificateFiles>, (usize, String)> {
    let error = |offset| (offset, EXPECTED.to_owned());
    let DeValue::Array(tables) = tables.get_ref() else {
        return Err(error(tables.span().start));
    };
    tables
        .iter()
        .map(|table| parse_pair(table).ok_or_else(|| error(table.span().start)))
        .collect()
}

/// Parses one table; returns `None` if it has other keys, or other values than file names.
fn parse_pair(table: &Spanned<DeValue<'_>>) -> Option<CertificateFiles> {
    let DeValue::Table(table) = table.get_ref() else {
        return None;
    };
    let file = |key: &str| match table.get(key)?.get_ref() {
        DeValue::String(path) if !path.is_empty() => Some(PathBuf::from(&**path)),
        _ => None,
    };
    let pair = CertificateFiles {
        certificate: file("cert")?,
        key: file("key")?,
    };
    (table.len() == 2).then_some(pair)
}

/// Returns the pairs of the flags and of the file, in this order.
pub(super) fn all(args: &TlsArgs, of_file: &[CertificateFiles]) -> Vec<CertificateFiles> {
    let of_flags = args.tls_cert.clone().zip(args.tls_key.clone());
    let of_flags = of_flags.map(|(certificate, key)| CertificateFiles { certificate, key });
    of_flags
        .into_iter()
        .chain(of_file.iter().cloned())
        .collect()
}

/// Checks that https addresses have a certificate, and that a certificate has an https address.
///
/// # Errors
///
/// What is missing, and what to write.
pub(super) fn check(
    args: &TlsArgs,
    of_file: &[CertificateFiles],
    addresses: &[ListenAddress],
) -> Result<(), String> {
    match (&args.tls_cert, &args.tls_key) {
        (Some(_), None) => return Err("--tls-cert needs --tls-key FILE".to_owned()),
        (None, Some(_)) => return Err("--tls-key needs --tls-cert FILE".to_owned()),
        _ => {}
    }
    let pairs = all(args, of_file);
    if pairs.len() > PAIRS_MAX {
        return Err(format!(
            "{} certificates are more than {PAIRS_MAX}",
            pairs.len()
        ));
    }
    let with_tls = addresses.iter().find(|address| address.uses_tls());
    match (with_tls, pairs.is_empty()) {
        (Some(address), true) => Err(format!(
            "{} {address} needs a certificate: add --tls-cert FILE and --tls-key FILE",
            address.flag()
        )),
        (None, false) => Err(
            "no address uses the certificate: add --bind https://ADDRESS:PORT, for example \
             --bind https://0.0.0.0:8443"
                .to_owned(),
        ),
        _ => Ok(()),
    }
}

/// Returns the tables as they are written in a configuration file.
pub(super) fn print(of_file: &[CertificateFiles]) -> String {
    let mut text = String::new();
    for files in of_file {
        let [certificate, key] = [&files.certificate, &files.key]
            .map(|path| serde_json::Value::from(path.to_string_lossy()).to_string());
        // Writing to a string never fails.
        let _ = write!(text, "\n[[{KEY}]]\ncert = {certificate}\nkey = {key}\n");
    }
    text
}

/// An example for a configuration file, as a comment.
pub(super) const EXAMPLE: &str = "
# A further certificate, for clients that request a name of it. Can be repeated.
# [[tls]]
# cert = \"<FILE>\"
# key = \"<FILE>\"
";
