//! The claims of a token: who it is about, for whom and when it is valid, and what it grants.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Map, Value};

use crate::access::{Pattern, RejectionWord, Rights};

/// How far the clocks of the issuer and of this server may differ.
pub(crate) const LEEWAY: Duration = Duration::from_secs(30);
/// The last second of the year 9999. A later date is a mistake, for example milliseconds.
const SECONDS_MAX: f64 = 253_402_300_799.0;
/// Patterns per right. Each request compares its channels with all of them.
const PATTERNS_MAX: usize = 256;

/// The claims of a token, whose forms are valid.
#[derive(Debug)]
pub(crate) struct Claims {
    pub(crate) issuer: Arc<str>,
    /// Empty if there is none.
    pub(crate) subject: Arc<str>,
    pub(crate) audience: Vec<String>,
    pub(crate) expires: SystemTime,
    pub(crate) not_before: Option<SystemTime>,
    pub(crate) issued_at: Option<SystemTime>,
    pub(crate) jti: Option<Arc<str>>,
    /// All claims, for rights and templates.
    pub(crate) all: Map<String, Value>,
}

impl Claims {
    /// Reads the claims.
    pub(crate) fn from_object(all: Map<String, Value>) -> Result<Self, RejectionWord> {
        Ok(Self {
            issuer: read_text(&all, "iss")?.ok_or(RejectionWord::Issuer)?.into(),
            subject: read_subject(&all)?,
            audience: read_audience(&all)?,
            expires: read_date(&all, "exp")?.ok_or(RejectionWord::Malformed)?,
            not_before: read_date(&all, "nbf")?,
            issued_at: read_date(&all, "iat")?,
            jti: read_text(&all, "jti")?.map(Into::into),
            all,
        })
    }

    /// Checks the time and the audience.
    pub(crate) fn check(&self, audience: &[String], now: SystemTime) -> Result<(), RejectionWord> {
        if now >= valid_until(self.expires) {
            return Err(RejectionWord::Expired);
        }
        let is_future = |time: &SystemTime| *time > now + LEEWAY;
        if self.not_before.iter().chain(&self.issued_at).any(is_future) {
            return Err(RejectionWord::NotYetValid);
        }
        check_audience(&self.audience, audience)
    }

    /// Reads the rights of the claim `name`. Without this claim there are none.
    pub(crate) fn read_rights(&self, name: &str) -> Result<Rights, RejectionWord> {
        match self.all.get(name) {
            None => Ok(Rights::default()),
            Some(Value::Object(claim)) => Ok(Rights {
                publish: read_patterns(claim, "publish")?,
                subscribe: read_patterns(claim, "subscribe")?,
                manage: read_patterns(claim, "manage")?,
                observe: read_switch(claim, "observe")?,
                admin: read_switch(claim, "admin")?,
                within: None,
            }),
            Some(_) => Err(RejectionWord::Malformed),
        }
    }
}

/// Returns the time at which a token that expires at `expires` is no longer accepted.
pub(crate) fn valid_until(expires: SystemTime) -> SystemTime {
    expires + LEEWAY
}

/// Checks that a token is meant for this server.
pub(crate) fn check_audience(
    found: &[impl AsRef<str>],
    expected: &[String],
) -> Result<(), RejectionWord> {
    let is_expected = |one: &str| expected.iter().any(|expected| expected == one);
    if found.iter().any(|one| is_expected(one.as_ref())) {
        Ok(())
    } else {
        Err(RejectionWord::Audience)
    }
}

fn read_text(claims: &Map<String, Value>, name: &str) -> Result<Option<String>, RejectionWord> {
    match claims.get(name) {
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(RejectionWord::Malformed),
        None => Ok(None),
    }
}

/// Some issuers write the subject as a number.
fn read_subject(claims: &Map<String, Value>) -> Result<Arc<str>, RejectionWord> {
    match claims.get("sub") {
        Some(Value::Number(number)) if !number.is_f64() => Ok(number.to_string().into()),
        _ => Ok(read_text(claims, "sub")?.unwrap_or_default().into()),
    }
}

fn read_audience(claims: &Map<String, Value>) -> Result<Vec<String>, RejectionWord> {
    let text = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        _ => Err(RejectionWord::Malformed),
    };
    match claims.get("aud") {
        None => Err(RejectionWord::Audience),
        Some(Value::Array(items)) => items.iter().map(text).collect(),
        Some(single) => Ok(vec![text(single)?]),
    }
}

/// Reads seconds since the Unix epoch, with or without a fraction (RFC 7519 §2).
fn read_date(claims: &Map<String, Value>, name: &str) -> Result<Option<SystemTime>, RejectionWord> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    let seconds = value
        .as_f64()
        .filter(|seconds| (0.0..=SECONDS_MAX).contains(seconds));
    let seconds = seconds.ok_or(RejectionWord::Malformed)?;
    Ok(Some(UNIX_EPOCH + Duration::from_secs_f64(seconds)))
}

/// Reads a list of patterns. A pattern that is invalid makes the token invalid, so that a mistake
/// of the issuer is noticed.
fn read_patterns(claim: &Map<String, Value>, name: &str) -> Result<Vec<Pattern>, RejectionWord> {
    let items = match claim.get(name) {
        None => return Ok(Vec::new()),
        Some(Value::Array(items)) if items.len() <= PATTERNS_MAX => items,
        Some(_) => return Err(RejectionWord::Malformed),
    };
    let pattern = |item: &Value| item.as_str()?.parse().ok();
    items
        .iter()
        .map(|item| pattern(item).ok_or(RejectionWord::Malformed))
        .collect()
}

fn read_switch(claim: &Map<String, Value>, name: &str) -> Result<bool, RejectionWord> {
    match claim.get(name) {
        None => Ok(false),
        Some(Value::Bool(is_on)) => Ok(*is_on),
        Some(_) => Err(RejectionWord::Malformed),
    }
}
