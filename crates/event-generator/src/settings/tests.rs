//! Tests of the settings.

use super::*;

fn parsed(arguments: &[&str]) -> Result<Settings, clap::Error> {
    Settings::from_args(
        [&["event-generator"], arguments]
            .concat()
            .into_iter()
            .map(OsString::from),
    )
}

#[test]
fn the_command_is_well_formed_and_every_flag_has_a_variable() {
    let command = Settings::command();
    command.clone().debug_assert();
    let without_twin = ["help", "version", "completions", "man"];
    for flag in command
        .get_arguments()
        .filter(|flag| !without_twin.contains(&flag.get_id().as_str()))
    {
        let twin = format!("GENERATOR_{}", flag.get_id().as_str().to_uppercase());
        assert_eq!(
            flag.get_env().and_then(|env| env.to_str()),
            Some(twin.as_str())
        );
    }
}

#[test]
fn the_short_help_names_flags() {
    assert_eq!(
        sse_cli::short_help::missing_flags(&Settings::command(), &help::SHORT_HELP),
        Vec::<&str>::new()
    );
}

#[test]
fn the_docs_list_every_flag() {
    let docs = include_str!("../../../../docs/tools/event-generator.md");
    for flag in Settings::command()
        .get_arguments()
        .filter_map(|flag| flag.get_long())
    {
        assert!(
            docs.contains(&format!("`--{flag}`")),
            "docs/tools/event-generator.md does not list --{flag}"
        );
    }
}

#[test]
fn status_codes_are_printed_up_to_a_hundred_per_second_by_default() {
    for (arguments, printed) in [
        (&[][..], true),
        (&["--rate", "100"], true),
        (&["--rate", "100.5"], false),
        (&["--rate", "max"], false),
        (&["--ramp", "200..1/5s"], false),
        (&["--ramp", "1..100/5s"], true),
        (&["--rate", "5000", "--print-status"], true),
        (&["--print-status=0"], false),
    ] {
        assert_eq!(
            parsed(arguments).unwrap().prints_status(),
            printed,
            "{arguments:?}"
        );
    }
}

#[test]
fn invalid_command_lines_are_rejected() {
    for bad in [
        &["--rate", "0"][..],
        &["--rate", "-1"],
        &["--rate", "1000001"],
        &["--rate", "5", "--ramp", "1..2/3s"],
        &["--ramp", "0..2/3s"],
        &["--rate", "max", "--arrivals", "poisson"],
        &["--arrivals", "never"],
        &["--count", "0"],
        &["--count", "x"],
        &["--seed", "-1"],
        &["--duration", "10"],
        &["--duration", "0s"],
        &["--concurrency", "0"],
        &["--concurrency", "16385"],
        &["--batch", "0"],
        &["--batch", "2", "--path", "/x"],
        &["--batch", "2", "--body", "{data}"],
        &["--url", "ftp://127.0.0.1"],
        &["--retry", "0"],
        &["--retry", "101"],
        &["--retry", "2", "--path", "/x"],
        &["--retry", "2", "--header", "Idempotency-Key: a"],
        &["--channel", "a b"],
        &["--actions", "view=0"],
        &["--payload", "session", "--actions", "view"],
        &["--replay", "x", "--actions", "view"],
        &["--replay", "x", "--payload", "tutorial"],
        &["--replay", "x", "--record", "y"],
        &["--replay", "x", "--stamp"],
        &["--stamp=maybe"],
        &["--insecure=maybe"],
        &["--cacert", "/absent"],
        &["--body", "{seq}", "--stamp"],
        &["--replay", ""],
        &["--users", "5"],
        &["--payload", "session", "--users", "0"],
        &["--data-size", "5"],
        &["--payload", "sequenced", "--data-size", "17MiB"],
        &["--seed", "x"],
        &["--method", "CONNECT"],
        &["--method", "a b"],
        &["--path", "x"],
        &["--path", "/a b"],
        &["--path", "/a#b"],
        &["--path", "/é"],
        &["--body", "{seq}", "--record", "x"],
        &["--method", "get", "--record", "x"],
        &["--bearer", "a b"],
        &["--bearer", "a", "--header", "Authorization: b"],
        &["--bearer", "a", "--url", "http://me:secret@127.0.0.1"],
        &["--header", "x"],
        &["--print-status=maybe"],
        &["--progress", "loud"],
        &["--completions", "cmd"],
        &["events"],
    ] {
        let error = parsed(bad).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{bad:?}");
    }
}

#[test]
fn valid_combinations_are_accepted() {
    for good in [
        &[
            "--ramp",
            "1..2/3s",
            "--arrivals",
            "poisson",
            "--batch",
            "100",
        ][..],
        &["--payload", "session", "--users", "5", "--record", "x"],
        &["--payload", "session", "--stamp", "--record", "x"],
        &["--payload", "sequenced", "--stamp"],
        &[
            "--payload",
            "sequenced",
            "--data-size",
            "1KiB",
            "--actions",
            "a",
        ],
        &["--replay", "-", "--seed", "1", "--batch", "5"],
        &["--method", "get", "--path", "/x?d={data}", "--record", "x"],
        &[
            "--header", "A: {seq}", "--header", "B: c", "--batch", "2", "--bearer", "t", "--retry",
            "5",
        ],
    ] {
        assert!(parsed(good).is_ok(), "{good:?}");
    }
}

#[test]
fn no_message_contains_a_secret() {
    for bad in [
        &["--bearer", "two secret"][..],
        &["--url", "ftp://me:secret@127.0.0.1"],
        &["--url", "http://me:secret@127.0.0.1:x"],
        &["--url", "http://me:secret@127.0.0.1?a"],
        &["--url", "me:secret@127.0.0.1"],
        &["--url", "http://me:secret@127.0.0.1", "--bearer", "secret"],
        &["--header", "secret"],
        &["--header", "X: secret\n"],
        &["--header", "X:", "secret"],
        &["--header", "X-Api-Key: 1", "secret"],
        &["--bearer", "secret", "--header", "Authorization: secret"],
    ] {
        let error = parsed(bad).unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    let settings = parsed(&["--bearer", "secret", "--header", "X: secret"]).unwrap();
    assert!(!format!("{settings:?}").contains("secret"));
    let settings = parsed(&["--url", "http://me:secret@127.0.0.1"]).unwrap();
    assert!(!format!("{settings:?}").contains("secret"));
}
