//! `config check` and `config print`.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use clap::Subcommand;
use rustls::crypto::ring;

use crate::config::{
    Invocation, choose_broker,
    environment::{self, GivenSettings, misused, wrong_file},
    print, tls_pairs,
};
use crate::{
    metrics::Metrics,
    tls::{CertificateFiles, Certificates},
};

#[derive(Clone, Subcommand)]
pub(in crate::config) enum ConfigCommand {
    /// Check a configuration file; the exit code is 2 if it has an error
    Check {
        /// The file
        file: PathBuf,
    },
    /// Print every setting and where its value comes from, as a configuration file
    ///
    /// Passwords and digests of keys are hidden.
    Print {
        /// Print a file with every key, its default and its help instead
        #[arg(long)]
        example: bool,
    },
}

pub(super) fn run(
    command: ConfigCommand,
    given: &GivenSettings,
) -> Result<Invocation, clap::Error> {
    let text = match command {
        ConfigCommand::Check { file } => check_file(&file)?,
        ConfigCommand::Print { example: true } => print::example(&given.command),
        ConfigCommand::Print { example: false } => {
            choose_broker(given).map_err(misused)?;
            print::settings(given)
        }
    };
    Ok(Invocation::Print(text))
}

fn check_file(file: &Path) -> Result<String, clap::Error> {
    let path = file.display();
    let given = environment::parse_file(file)?;
    choose_broker(&given).map_err(|message| wrong_file(format_args!("{path}: {message}")))?;
    let mut warnings = given.access.warnings.clone();
    let pairs = tls_pairs::all(&given.args.tls, given.file.tls_pairs());
    let expiring = check_certificates(&pairs)
        .map_err(|error| wrong_file(format_args!("{path}: {error:#}")))?;
    warnings.extend(expiring);
    let mut text = String::new();
    for warning in &warnings {
        // Writing to a string never fails.
        let _ = writeln!(text, "warning: {warning}");
    }
    let _ = writeln!(text, "{path} is valid");
    Ok(text)
}

/// Reads certificates and their keys as the server does. Returns what is probably not meant.
fn check_certificates(pairs: &[CertificateFiles]) -> anyhow::Result<Vec<String>> {
    let provider = Arc::new(ring::default_provider());
    let certificates =
        Certificates::load(pairs, provider, Metrics::new()).context("cannot use a certificate")?;
    let warnings = certificates.expiry_warnings();
    Ok(warnings.map(|warning| warning.to_string()).collect())
}
