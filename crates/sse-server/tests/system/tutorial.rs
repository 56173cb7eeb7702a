//! The tutorial's own clients: `requests` publishes, `urllib3` and `sseclient-py` listen, and they
//! must see what the tutorial shows.

use std::process::Command;

use chrono::NaiveDateTime;
use uuid::Uuid;

use crate::process::{Process, python, workspace};

fn script(script: &str, url: &str, count: usize) -> Process {
    let scripts = workspace().join("crates/sse-server/tests/system/tutorial");
    let mut command = python();
    command
        .arg(scripts.join(script))
        .arg(url)
        .arg(count.to_string());
    Process::start(&command)
}

#[test]
fn the_tutorials_clients_see_what_the_tutorial_shows() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sse-server"));
    command.args(["--memory", "--bind", "127.0.0.1:0"]);
    let mut server = Process::start(&command);
    let url = server.line(|line| line.starts_with("http://"));

    let mut listener = script("listen.py", &url, 6);
    listener.line(|line| line == "subscribed");
    let (status, statuses) = script("publish.py", &url, 6).finish();
    assert!(status.success() && statuses == ["200"; 6], "{statuses:?}");
    let (status, lines) = listener.finish();
    assert!(status.success(), "{lines:?}");
    for event in lines[1..].chunks(2) {
        let [kind, data] = event else {
            panic!("{lines:?}")
        };
        assert!(
            ["event: view ", "event: click ", "event: close "].contains(&kind.as_str()),
            "{kind:?}"
        );
        assert!(is_the_tutorials(data), "{data:?}");
    }
    assert_eq!(lines.len(), 13);
}

/// `data: "user_id: <uuid4>, timestamp: 08-Mar-2022 (12:30:56.760261)"`
fn is_the_tutorials(line: &str) -> bool {
    let parts = line
        .strip_prefix("data: \"user_id: ")
        .and_then(|rest| rest.strip_suffix('"')?.split_once(", timestamp: "));
    let Some((user, time)) = parts else {
        return false;
    };
    let format = "%d-%b-%Y (%H:%M:%S%.6f)";
    let same_user = |parsed: Uuid| parsed.get_version_num() == 4 && parsed.to_string() == user;
    let same_time = |parsed: NaiveDateTime| parsed.format(format).to_string() == time;
    Uuid::parse_str(user).is_ok_and(same_user)
        && NaiveDateTime::parse_from_str(time, format).is_ok_and(same_time)
}
