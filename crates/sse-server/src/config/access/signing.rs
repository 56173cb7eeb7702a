//! `[access.signing]`: the keys of tickets.

use std::sync::Arc;

use super::{Notes, named_files::NamedFiles, table::TableReader};
use crate::{
    access::{
        keys::{pem::parse_ticket_key, verifying_key::VerifyingKey},
        ticket::SigningKeys,
    },
    config::file::ErrorAt,
};

pub(super) const SIGNING_KEYS: [&str; 3] = ["key_file", "verify_files", "issuer"];
/// The issuer of tickets if neither the table nor a public URL names one.
const DEFAULT_ISSUER: &str = "urn:sse-server";

/// Reads the keys of tickets. `public_url` is the first one of the server.
pub(super) fn read_signing(
    table: &TableReader<'_>,
    public_url: Option<&str>,
    files: &NamedFiles,
    notes: &mut Notes,
) -> Result<SigningKeys, ErrorAt> {
    let issuer = match table.read_text("issuer")? {
        Some((offset, "")) => return Err((offset, "issuer must not be empty".to_owned())),
        Some((_, issuer)) => issuer,
        None => public_url.unwrap_or(DEFAULT_ISSUER),
    };
    let verify = read_verify_files(table, files)?;
    let has_verify_files = !verify.is_empty();
    let issuer: Arc<str> = issuer.into();
    let keys = files.parse(table, "key_file", |pem| {
        SigningKeys::new(issuer, pem, verify)
    })?;
    if has_verify_files && !keys.is_announced {
        notes.warn(
            table.offset(),
            "the key of key_file is not in verify_files: add its public key to the verify_files of \
             all nodes first, and sign with it afterwards"
                .to_owned(),
        );
    }
    Ok(keys)
}

fn read_verify_files(
    table: &TableReader<'_>,
    files: &NamedFiles,
) -> Result<Vec<VerifyingKey>, ErrorAt> {
    let names = table.read_texts("verify_files")?.into_iter();
    let keys = names.map(|(offset, name)| {
        let key = files.parse_named(name, parse_ticket_key);
        key.map_err(|message| (offset, format!("verify_files: {message}")))
    });
    keys.collect()
}
