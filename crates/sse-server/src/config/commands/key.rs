//! `key new` and `key signing`.

use std::{
    fmt::Write as _,
    io::Write as _,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use sse_cli::private_file::{self, PRIVATE};

use crate::{
    access::{Pattern, create_api_key, digest, ticket::create_signing_key, to_hex},
    config::{Invocation, access::check_name, environment::misused},
};

/// Permissions of the file of a public key.
const PUBLIC: u32 = 0o644;

#[derive(Clone, Subcommand)]
pub(in crate::config) enum KeyCommand {
    /// Create an API key: print it once, and what to add to the configuration file
    New(NewKey),
    /// Create a key that signs tickets: FILE, which only its owner may read, and FILE.pub
    Signing {
        /// The file to create
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

/// The name and the rights of an API key.
#[derive(Clone, Args)]
pub(in crate::config) struct NewKey {
    /// The name of the key in logs, lists and revocations
    #[arg(long)]
    name: String,
    /// Let the key publish to these channels; * matches one or more characters (repeatable)
    #[arg(long, value_name = "PATTERN")]
    publish: Vec<Pattern>,
    /// Let the key subscribe to these channels (repeatable)
    #[arg(long, value_name = "PATTERN")]
    subscribe: Vec<Pattern>,
    /// Let the key create, configure, close and delete these channels (repeatable)
    #[arg(long, value_name = "PATTERN")]
    manage: Vec<Pattern>,
    /// Let the key read metrics, lists and settings
    #[arg(long)]
    observe: bool,
    /// Let the key observe, and close streams
    #[arg(long)]
    admin: bool,
}

pub(super) fn run(command: &KeyCommand) -> Result<Invocation, clap::Error> {
    let text = match command {
        KeyCommand::New(key) => create_key(key),
        KeyCommand::Signing { out } => create_signing_files(out),
    };
    text.map(Invocation::Print).map_err(misused)
}

fn create_key(new: &NewKey) -> Result<String, String> {
    check_name(&new.name)?;
    let key = create_api_key()?;
    Ok(format!(
        "The key is printed only once. Its text is the secret:\n\n{}\n\n\
         Add this to the configuration file:\n\n\
         [[access.key]]\nname = {}\nsha256 = \"{}\"\n{}",
        key.expose(),
        serde_json::Value::from(new.name.as_str()),
        to_hex(&digest(key.expose())),
        format_rights(new),
    ))
}

/// Returns the rights of a key in TOML.
fn format_rights(new: &NewKey) -> String {
    let mut text = String::new();
    let channels = [
        ("publish", &new.publish),
        ("subscribe", &new.subscribe),
        ("manage", &new.manage),
    ];
    for (right, patterns) in channels {
        if !patterns.is_empty() {
            let patterns: Vec<_> = patterns.iter().map(|one| format!("\"{one}\"")).collect();
            // Writing to a string never fails.
            let _ = writeln!(text, "{right} = [{}]", patterns.join(", "));
        }
    }
    for (right, is_granted) in [("observe", new.observe), ("admin", new.admin)] {
        if is_granted {
            let _ = writeln!(text, "{right} = true");
        }
    }
    text
}

fn create_signing_files(out: &Path) -> Result<String, String> {
    let (private, public) = create_signing_key()?;
    let public_path = PathBuf::from(format!("{}.pub", out.display()));
    create_file(out, PRIVATE, private.expose())?;
    create_file(&public_path, PUBLIC, &public)?;
    Ok(format!(
        "Created {} and {}. Add this to the configuration file:\n\n\
         [access.signing]\nkey_file = {}\n\n\
         To replace a key, add the new {} to verify_files on all nodes first.\n",
        out.display(),
        public_path.display(),
        serde_json::Value::from(out.display().to_string()),
        public_path.display(),
    ))
}

/// Creates a file. One that exists stays, because it may be a key that is in use.
fn create_file(path: &Path, mode: u32, text: &str) -> Result<(), String> {
    let mut options = private_file::options(mode);
    let file = options
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(private_file::explain);
    let written = file.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|error| format!("cannot create {}: {error}", path.display()))
}
