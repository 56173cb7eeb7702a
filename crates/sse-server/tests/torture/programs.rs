//! The programs of the other crates, which `cargo test` of this crate does not build.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, bail};

/// Returns the path of a program in the directory of the server.
fn beside_the_server(name: &str) -> PathBuf {
    let server = PathBuf::from(env!("CARGO_BIN_EXE_sse-server"));
    server.with_file_name(name)
}

pub(crate) fn generator() -> PathBuf {
    beside_the_server("event-generator")
}

pub(crate) fn listener() -> PathBuf {
    beside_the_server("listener")
}

/// Builds the programs from the current source, with the server's profile and into its directory.
pub(crate) fn build() -> anyhow::Result<()> {
    let server = PathBuf::from(env!("CARGO_BIN_EXE_sse-server"));
    let directory = server.parent().context("the server lies in a directory")?;
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args([
        "build",
        "--locked",
        "--quiet",
        "--workspace",
        "--bins",
    ]);
    if directory.file_name().is_some_and(|name| name == "release") {
        command.arg("--release");
    }
    command.env(
        "CARGO_TARGET_DIR",
        directory
            .parent()
            .context("profiles lie in the target directory")?,
    );
    // With the variables that cargo sets for a test, the inner cargo would rebuild everything.
    for (name, _) in std::env::vars_os() {
        let of_a_test = [
            "CARGO_PKG_",
            "CARGO_MANIFEST_",
            "CARGO_BIN_EXE_",
            "CARGO_CRATE_",
            "CARGO_PRIMARY_",
        ];
        if name
            .to_str()
            .is_some_and(|name| of_a_test.iter().any(|prefix| name.starts_with(prefix)))
        {
            command.env_remove(name);
        }
    }
    if !command.status().context("cannot run cargo")?.success() {
        bail!("the programs cannot be built");
    }
    Ok(())
}
