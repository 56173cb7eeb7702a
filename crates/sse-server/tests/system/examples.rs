//! The programs in `examples/`: each one runs as `examples/README.md` shows, and ends by itself.

use std::process::Command;

use crate::process::{Process, python, workspace};

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
