//! The programs in `examples/`: each one runs as `examples/README.md` shows, and ends by itself.

use std::{net::TcpListener, path::Path, process::Command};

use tempfile::TempDir;

use crate::{
    browser::skipped,
    process::{Process, python, workspace},
};

/// Runs a program against the server at `url`, and returns its output.
fn run_example(mut command: Command, name: &str, url: &str) -> Vec<String> {
    command
        .arg(workspace().join("examples").join(name))
        .arg(url);
    let (status, lines) = Process::start(&command).finish();
    assert!(status.success(), "{name}: {lines:#?}");
    lines
}

#[test]
fn every_example_program_runs_and_ends_by_itself() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sse-server"));
    command.args(["--memory", "--bind", "127.0.0.1:0"]);
    let mut server = Process::start(&command);
    let url = server.line(|line| line.starts_with("http://"));

    let published = run_example(python(), "publish.py", &url);
    assert!(!published.is_empty());
    let received = run_example(python(), "receive.py", &url);
    // One of the five events has two lines of data.
    assert_eq!(received.len(), 6, "{received:#?}");
    run_example(python(), "resume.py", &url);
    let shown = run_example(Command::new("sh"), "curl.sh", &url);
    assert!(
        shown.iter().any(|line| line == r#"data: {"page":"/"}"#),
        "{shown:#?}"
    );
}

/// Returns the commands of a page: what its blocks of `sh` contain.
fn commands(page: &str) -> String {
    let blocks = page.split("```sh\n").skip(1);
    let blocks = blocks.filter_map(|rest| rest.split_once("```"));
    blocks.map(|(commands, _)| commands).collect()
}

/// Runs the commands of an example's page against the server at `url`, and returns their output.
fn run_page(folder: &str, url: &str) -> Vec<String> {
    let source = workspace().join("examples").join(folder);
    let work = TempDir::new().expect("a temporary directory");
    let copied = Command::new("cp")
        .arg("-r")
        .arg(source.join("."))
        .arg(work.path())
        .status();
    assert!(copied.expect("cp").success());
    let page = std::fs::read_to_string(source.join("README.md")).expect("the page");
    let interpreter = python();
    let folder_of_python = Path::new(interpreter.get_program())
        .parent()
        .expect("a folder");
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("sh");
    command
        .args(["-e", "-c", &commands(&page)])
        .current_dir(work.path())
        .env("PATH", format!("{}:{path}", folder_of_python.display()))
        .env("PORT", free_port().to_string())
        .env("HUB", url);
    let (status, lines) = Process::start(&command).finish();
    assert!(status.success(), "{folder}: {lines:#?}");
    lines
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("an address").port()
}

#[test]
fn the_commands_of_each_folder_do_what_its_page_states() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sse-server"));
    command.args(["--memory", "--bind", "127.0.0.1:0"]);
    let mut server = Process::start(&command);
    let url = server.line(|line| line.starts_with("http://"));
    let has_node = Command::new("node").arg("--version").output().is_ok();
    for folder in ["python", "node"] {
        if folder == "node" && !has_node {
            let reason = "Node is not installed, so examples/node is not run";
            skipped::report("examples::the_commands_of_each_folder", reason);
            continue;
        }
        // The second run continues after the first.
        let lines = run_page(folder, &url);
        let shown: Vec<_> = lines
            .iter()
            .filter(|line| line.starts_with("step: "))
            .collect();
        assert_eq!(shown, ["step: one", "step: two"], "{lines:#?}");
    }
    let lines = run_page("flask", &url);
    assert!(
        lines
            .iter()
            .any(|line| line.contains(r#""event":"placed""#)),
        "{lines:#?}"
    );
}

#[test]
fn every_example_is_listed_in_its_readme() {
    let examples = workspace().join("examples");
    let readme = std::fs::read_to_string(examples.join("README.md")).expect("the page exists");
    for entry in std::fs::read_dir(examples).expect("the folder exists") {
        let name = entry.expect("an entry of the folder").file_name();
        let name = name.to_string_lossy();
        assert!(
            name == "README.md" || readme.contains(&format!("[`{name}`]({name})")),
            "examples/README.md does not list {name}"
        );
    }
}
