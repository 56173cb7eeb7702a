//! Tests of the commands that create keys and tickets, and check tokens.

use tempfile::TempDir;

use crate::config::Invocation;

fn run(args: &[&str]) -> Result<(String, bool), String> {
    match Invocation::from_args([&["sse-server"], args].concat()) {
        Ok(Invocation::Print(text)) => Ok((text, true)),
        Ok(Invocation::Fail(text)) => Ok((text, false)),
        Ok(Invocation::Serve(_) | Invocation::Check { .. }) => {
            panic!("the server would have started")
        }
        Err(error) => Err(error.to_string()),
    }
}

fn printed(args: &[&str]) -> String {
    let (text, succeeded) = run(args).unwrap();
    assert!(succeeded, "{text}");
    text
}

/// Returns the lines from the first that begins with `start`.
fn from_line<'t>(text: &'t str, start: &str) -> &'t str {
    &text[text.find(start).unwrap()..]
}

#[test]
fn a_new_key_works_with_the_printed_fragment() {
    let rights = [
        "--publish",
        "orders.*",
        "--subscribe",
        "a",
        "--manage",
        "m.*",
        "--observe",
    ];
    let text = printed(&[&["key", "new", "--name", "billing"][..], &rights].concat());
    let key = from_line(&text, "sse_").lines().next().unwrap();
    let fragment = from_line(&text, "[[access.key]]");
    assert!(!fragment.contains(key));
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("sse.toml");
    std::fs::write(&file, fragment).unwrap();
    let file = file.to_str().unwrap();
    for args in [
        ["--config", file, "token", "check", key],
        ["token", "check", "--config", file, key],
    ] {
        let report = printed(&args);
        for line in [
            "The caller is key billing.",
            "publish: orders.*",
            "subscribe: a",
            "observe: yes",
        ] {
            assert!(report.contains(line), "{line}\n{report}");
        }
        assert!(!report.contains("admin"), "{report}");
    }
    let (report, succeeded) =
        run(&["--config", file, "token", "check", &format!("{key}0")]).unwrap();
    assert!(
        !succeeded && report.contains("unknown_key") && !report.contains(key),
        "{report}"
    );
    let other = printed(&["key", "new", "--name", "billing"]);
    assert!(!other.contains(key));
}

#[test]
fn a_signing_key_signs_tickets() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (pem, file) = (path("signing.pem"), path("sse.toml"));
    let text = printed(&["key", "signing", "--out", &pem]);
    let fragment = from_line(&text, "[access.signing]")
        .split("\n\n")
        .next()
        .unwrap();
    std::fs::write(
        &file,
        format!("[access.anonymous]\nsubscribe = [\"a\"]\n{fragment}\n"),
    )
    .unwrap();
    let ticket = printed(&[
        "--config",
        &file,
        "token",
        "--subscribe",
        "users.42",
        "--sub",
        "x",
    ]);
    let report = printed(&["--config", &file, "token", "check", ticket.trim()]);
    for line in [
        "ticket for x by the operator",
        "subscribe: users.42",
        "expires: 20",
    ] {
        assert!(report.contains(line), "{line}\n{report}");
    }
    let changed = ticket.trim().replace("..", ".").replacen("ey", "eY", 1);
    let (report, succeeded) = run(&["--config", &file, "token", "check", &changed]).unwrap();
    assert!(!succeeded && report.contains("malformed"), "{report}");
    // A key that exists is never overwritten.
    let error = run(&["key", "signing", "--out", &pem]).unwrap_err();
    assert!(error.contains("cannot create"), "{error}");
}

#[cfg(unix)]
#[test]
fn only_its_owner_may_read_a_signing_key() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = TempDir::new().unwrap();
    let pem = directory.path().join("signing.pem");
    printed(&["key", "signing", "--out", pem.to_str().unwrap()]);
    let mode = std::fs::metadata(&pem).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let public = std::fs::read_to_string(directory.path().join("signing.pem.pub")).unwrap();
    assert!(public.contains("PUBLIC KEY") && !public.contains("PRIVATE"));
}

#[test]
fn a_command_that_lacks_something_states_what() {
    for (args, hint) in [
        (&["key", "new"][..], "--name"),
        (
            &["key", "new", "--name", "a", "--publish", "a b"],
            "a pattern is 1 to 64",
        ),
        (&["key", "signing"], "--out"),
        (&["token"], "--subscribe"),
        (
            &["token", "--subscribe", "a"],
            "name the file with --config",
        ),
        (
            &["token", "--subscribe", "a", "--ttl", "0s"],
            "more than zero",
        ),
        (&["token", "check", "x"], "name the file with --config"),
        (&["token", "check"], "<TOKEN>"),
    ] {
        let error = run(args).unwrap_err();
        assert!(error.contains(hint), "{args:?}: {error}");
    }
}
