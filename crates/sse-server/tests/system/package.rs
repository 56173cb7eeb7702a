//! The packages: the units of systemd are valid and hardened, and what `scripts/package` builds can
//! be unpacked and run.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

use crate::process::{build_programs, workspace};

/// The exposure of a unit, times ten, that must not be exceeded. A unit without any of these
/// settings has 96.
const EXPOSURE_MAX: &str = "20";

fn contrib(path: &str) -> PathBuf {
    workspace().join("contrib").join(path)
}

fn output(command: &mut Command) -> Output {
    command.output().expect("the program starts")
}

#[track_caller]
fn succeeds(command: &mut Command) -> String {
    let output = output(command);
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{command:?}: {text}");
    text
}

/// Returns whether a program is installed; reports the test as skipped otherwise.
fn is_installed(program: &str, package: &str) -> bool {
    let is_installed = Command::new(program).arg("--version").output().is_ok();
    if !is_installed {
        crate::browser::skipped::report(
            "system::package",
            &format!("{program} is not installed (it is in Debian's package {package})"),
        );
    }
    is_installed
}

/// Copies a unit, with a program that exists here in place of the installed one.
fn runnable_unit(name: &str, directory: &Path) -> PathBuf {
    let unit = fs::read_to_string(contrib("systemd").join(name)).expect("the unit");
    let unit = unit.replace("/usr/bin/sse-server", env!("CARGO_BIN_EXE_sse-server"));
    // The page is not installed.
    let unit = unit.replace("Documentation=man:sse-server(1)\n", "");
    let path = directory.join(name);
    fs::write(&path, unit).expect("a copy of the unit");
    path
}

#[test]
fn the_units_are_valid_and_hardened() {
    if !is_installed("systemd-analyze", "systemd") {
        return;
    }
    let directory = TempDir::new().expect("a temporary directory");
    let service = runnable_unit("sse-server.service", directory.path());
    let socket = runnable_unit("sse-server.socket", directory.path());
    let mut verify = Command::new("systemd-analyze");
    let warnings = succeeds(verify.arg("verify").arg(&service).arg(&socket));
    assert_eq!(warnings, "", "systemd-analyze verify");
    let mut security = Command::new("systemd-analyze");
    security.args(["security", "--offline=true", "--no-pager"]);
    succeeds(security.args(["--threshold", EXPOSURE_MAX]).arg(&service));
}

/// Returns the value of a key in a unit or in a TOML file, without quotes.
fn value<'t>(text: &'t str, key: &str) -> &'t str {
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix('='));
    line.unwrap_or_else(|| panic!("no {key}"))
        .trim()
        .trim_matches('"')
}

#[test]
fn the_settings_of_the_package_are_valid_and_its_unit_waits_for_the_drain() {
    let settings = contrib("debian/sse-server.toml");
    let mut check = Command::new(env!("CARGO_BIN_EXE_sse-server"));
    succeeds(check.args(["config", "check"]).arg(&settings));
    let settings = fs::read_to_string(settings).expect("the settings");
    let unit = fs::read_to_string(contrib("systemd/sse-server.service")).expect("the unit");
    let seconds = |text: &str| text.trim_end_matches('s').parse::<u64>().expect("seconds");
    let stop = seconds(value(&unit, "TimeoutStopSec"));
    assert!(stop >= seconds(value(&settings, "drain")) + 10);
}

/// Returns the first block of `language` on the page about deployment, without its indentation.
fn block_of_page(language: &str) -> String {
    let page = include_str!("../../../../docs/operations/deployment.md");
    let start = format!("   ```{language}\n");
    let (_, rest) = page.split_once(&start).expect("a block");
    let (block, _) = rest.split_once("   ```").expect("its end");
    let lines: Vec<_> = block.lines().map(str::trim_start).collect();
    lines.join("\n") + "\n"
}

#[test]
fn the_settings_on_the_page_about_deployment_are_valid() {
    let directory = TempDir::new().expect("a temporary directory");
    let file = directory.path().join("sse-server.toml");
    let mut settings = block_of_page("toml");
    for (placeholder, digit) in [
        ("<digest of the first key>", "1"),
        ("<digest of the second key>", "2"),
    ] {
        assert!(settings.contains(placeholder), "{settings}");
        settings = settings.replace(placeholder, &digit.repeat(64));
    }
    // The certificate of the page does not exist here.
    settings = settings.replace(", \"https://0.0.0.0:8443\"", "");
    let lines = settings.lines().filter(|line| !line.starts_with("tls_"));
    fs::write(&file, lines.collect::<Vec<_>>().join("\n")).expect("a file");
    let mut check = Command::new(env!("CARGO_BIN_EXE_sse-server"));
    succeeds(check.args(["config", "check"]).arg(&file));
    let commands = block_of_page("sh");
    assert!(commands.starts_with("scripts/package\n"), "{commands}");
}

/// Returns the variables of the server that a text names.
fn variables(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |char: char| char.is_ascii_uppercase() || char == '_' || char.is_ascii_digit();
    let words = text.split(move |char| !is_part(char));
    words.filter(|word| word.starts_with("SSE_"))
}

#[test]
fn the_files_for_containers_name_variables_of_the_server() {
    let mut help = Command::new(env!("CARGO_BIN_EXE_sse-server"));
    let help = succeeds(help.arg("--help"));
    let known: Vec<_> = variables(&help).collect();
    assert!(known.len() > 30, "{help}");
    for file in [
        "Dockerfile",
        "compose.yaml",
        "kubernetes/embedded.yaml",
        "kubernetes/redis.yaml",
        "systemd/sse-server.service",
        "debian/environment",
    ] {
        let text = fs::read_to_string(contrib(file)).expect("the file");
        let unknown: Vec<_> = variables(&text)
            .filter(|name| !known.contains(name))
            .collect();
        assert_eq!(unknown, [""; 0], "{file}");
    }
}

mod full {
    use super::*;

    /// Unpacks the package that `out` has of this name.
    fn unpack(out: &Path, name: &str) -> TempDir {
        let root = TempDir::new().expect("a temporary directory");
        let mut packages = fs::read_dir(out).expect("the packages");
        let package = packages.find_map(|entry| {
            let path = entry.expect("a package").path();
            let file = path.file_name()?.to_str()?;
            let (package, rest) = file.split_once('_')?;
            (package == name && rest.contains(".deb")).then_some(path)
        });
        let package = package.unwrap_or_else(|| panic!("no package {name}"));
        succeeds(
            Command::new("dpkg-deb")
                .arg("-x")
                .arg(package)
                .arg(root.path()),
        );
        root
    }

    #[test]
    fn the_packages_can_be_unpacked_and_run() {
        if !is_installed("dpkg-deb", "dpkg") {
            return;
        }
        build_programs();
        let out = TempDir::new().expect("a temporary directory");
        let binaries = Path::new(env!("CARGO_BIN_EXE_sse-server")).parent();
        let mut package = Command::new(workspace().join("scripts/package"));
        package.arg("--binaries").arg(binaries.expect("a folder"));
        succeeds(package.arg("--out").arg(out.path()));

        let server = unpack(out.path(), "sse-server");
        let path = |path: &str| server.path().join(path);
        for file in [
            "lib/systemd/system/sse-server.service",
            "lib/systemd/system/sse-server.socket",
            "etc/sse-server/secrets",
            "usr/share/man/man1/sse-server-health.1.gz",
            "usr/share/bash-completion/completions/sse-server",
            "usr/share/doc/sse-server/copyright",
        ] {
            assert!(path(file).exists(), "{file}");
        }
        let mut check = Command::new(path("usr/bin/sse-server"));
        succeeds(
            check
                .args(["config", "check"])
                .arg(path("etc/sse-server/sse-server.toml")),
        );
        let mut page = Command::new("gzip");
        let page = succeeds(
            page.arg("-dc")
                .arg(path("usr/share/man/man1/sse-server.1.gz")),
        );
        assert!(page.contains("history\\-age"), "{page}");

        let tools = unpack(out.path(), "sse-server-tools");
        for program in ["listener", "event-generator"] {
            let program = tools.path().join("usr/bin").join(program);
            succeeds(Command::new(program).arg("--version"));
        }
        assert!(
            tools
                .path()
                .join("usr/share/man/man1/listener-bench.1.gz")
                .exists()
        );
    }
}
