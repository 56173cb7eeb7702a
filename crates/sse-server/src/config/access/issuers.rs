//! `[[access.issuer]]`: whose tokens are accepted, and what they grant.

use std::sync::Arc;

use jsonwebtoken::{Algorithm, AlgorithmFamily};
use sse_cli::loopback::is_loopback_url;
use url::Url;

use super::{Notes, callers::read_limits, named_files::NamedFiles, table::TableReader};
use crate::{
    access::{
        Template,
        keys::{
            KeySource,
            jwk::{SetOrigin, parse_key_set},
            pem::{parse_public_key, parse_secret, single_key_set},
        },
        rules::{Grants, IssuerRules},
    },
    config::file::ErrorAt,
};

pub(super) const ISSUER_KEYS: [&str; 9] = [
    "issuer",
    "audience",
    "jwks_url",
    "jwks_file",
    "public_key_file",
    "secret_file",
    "algorithm",
    "grants",
    "limits",
];
const GRANT_KEYS: [&str; 5] = ["publish", "subscribe", "manage", "observe", "admin"];
const SOURCES: [&str; 4] = ["jwks_url", "jwks_file", "public_key_file", "secret_file"];

/// Reads an issuer. `earlier` are those before it in the file.
pub(super) fn read_issuer(
    table: &TableReader<'_>,
    earlier: &[IssuerRules],
    files: &NamedFiles,
    notes: &mut Notes,
) -> Result<IssuerRules, ErrorAt> {
    let (issuer_at, issuer) = table.read_required_text("issuer")?;
    if issuer.is_empty() || earlier.iter().any(|other| *other.issuer == *issuer) {
        return Err((
            issuer_at,
            "issuer is the iss of tokens, different for each".to_owned(),
        ));
    }
    let audience: Vec<_> = table
        .read_texts("audience")?
        .into_iter()
        .map(|(_, text)| text.to_owned())
        .collect();
    if audience.is_empty() {
        return Err(table.missing("audience, which the aud of its tokens must contain"));
    }
    Ok(IssuerRules {
        issuer: issuer.into(),
        audience,
        keys: read_keys(table, files)?,
        grants: read_grants(table, notes)?,
        limits: read_limits(table)?,
    })
}

fn read_keys(table: &TableReader<'_>, files: &NamedFiles) -> Result<KeySource, ErrorAt> {
    let source = find_source(table)?;
    let algorithm = table.parse_text("algorithm", parse_algorithm)?;
    let set = match source {
        "secret_file" => files.parse(table, source, |secret| {
            parse_secret(secret, algorithm).map(single_key_set)
        })?,
        "public_key_file" => files.parse(table, source, |pem| {
            parse_public_key(pem, algorithm).map(single_key_set)
        })?,
        _ => return read_key_set(table, source, files),
    };
    Ok(KeySource::Fixed(Arc::new(set)))
}

/// Returns the one key that states where the keys of an issuer are.
fn find_source(table: &TableReader<'_>) -> Result<&'static str, ErrorAt> {
    let mut given = SOURCES
        .into_iter()
        .filter(|source| table.find_value(source).is_some());
    match (given.next(), given.next()) {
        (Some(source), None) => Ok(source),
        _ => Err(table.missing(&format!("one of {}", SOURCES.join(", ")))),
    }
}

/// Reads a set of keys, in which `algorithm` is that of RSA keys whose entries name none.
fn read_key_set(
    table: &TableReader<'_>,
    source: &'static str,
    files: &NamedFiles,
) -> Result<KeySource, ErrorAt> {
    let algorithm = table.parse_text("algorithm", parse_rsa_algorithm)?;
    let rsa_algorithm = algorithm.unwrap_or(Algorithm::RS256);
    if source == "jwks_url" {
        let url = table.parse_text(source, parse_url)?;
        let url = url.ok_or_else(|| table.missing(source))?;
        return Ok(KeySource::Url { url, rsa_algorithm });
    }
    let set = files.parse(table, source, |json| {
        let set = parse_key_set(json, SetOrigin::File, rsa_algorithm)?;
        if set.len() == 0 {
            return Err("the set has no key that verifies tokens".to_owned());
        }
        Ok(set)
    })?;
    Ok(KeySource::Fixed(Arc::new(set)))
}

fn parse_rsa_algorithm(text: &str) -> Result<Algorithm, &'static str> {
    let algorithm = parse_algorithm(text)?;
    if algorithm.family() == AlgorithmFamily::Rsa {
        return Ok(algorithm);
    }
    Err("in a key set it is for RSA keys without alg: write RS256 to RS512 or PS256 to PS512")
}

fn parse_algorithm(text: &str) -> Result<Algorithm, &'static str> {
    text.parse().map_err(|_| {
        "write HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 or EdDSA"
    })
}

fn parse_url(text: &str) -> Result<Url, &'static str> {
    const WRONG: &str = "write an https URL; http is only for this machine";
    let url = Url::parse(text).map_err(|_| WRONG)?;
    let is_safe = url.scheme() == "https" || url.scheme() == "http" && is_loopback_url(&url);
    if !is_safe || url.host().is_none() {
        return Err(WRONG);
    }
    // The URL is logged.
    if !url.username().is_empty() || url.password().is_some() {
        return Err("write the URL without a user name and a password");
    }
    Ok(url)
}

fn read_grants(table: &TableReader<'_>, notes: &mut Notes) -> Result<Grants, ErrorAt> {
    let Some(value) = table.find_value("grants") else {
        return Ok(Grants::default());
    };
    let grants = TableReader::new("grants", value, &GRANT_KEYS)?;
    let templates = |key| grants.parse_texts(key, str::parse::<Template>);
    let read = Grants {
        publish: templates("publish")?,
        subscribe: templates("subscribe")?,
        manage: templates("manage")?,
        observe: grants.read_switch("observe")?,
        admin: grants.read_switch("admin")?,
    };
    for template in read
        .all_templates()
        .filter(|template| template.is_ambiguous())
    {
        notes.warn(
            grants.offset(),
            format!(
                "{template} also matches channels of other values: write a dot between a claim and \
                 what follows, as in users.{{sub}}.*"
            ),
        );
    }
    Ok(read)
}
