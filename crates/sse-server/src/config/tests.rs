//! Tests of the command line, the environment and their validation.

use clap::CommandFactory as _;
use tempfile::TempDir;

use super::*;

fn config(args: &[&str]) -> Result<Config, String> {
    match Invocation::from_args([&["sse-server"], args].concat()) {
        Ok(Invocation::Serve(config)) => Ok(*config),
        Ok(Invocation::Print(text) | Invocation::Fail(text)) => Err(text),
        Ok(Invocation::Check { .. }) => panic!("a check"),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn the_command_line_is_consistent() {
    Args::command().debug_assert();
}

#[test]
fn the_short_help_names_flags() {
    assert_eq!(
        sse_cli::short_help::missing_flags(&Args::command(), &environment::SHORT_HELP),
        Vec::<&str>::new()
    );
}

#[test]
fn the_page_of_settings_lists_every_flag_with_its_variable() {
    let page = include_str!("../../../../docs/operations/settings.md");
    for arg in Args::command().get_arguments() {
        let flag = arg.get_long().expect("every setting is a flag");
        let variable = arg.get_env().expect("every flag has a variable");
        let row = format!("| `--{flag}` | `{}` |", variable.display());
        assert!(
            page.contains(&row),
            "docs/operations/settings.md does not contain {row}"
        );
    }
}

#[test]
fn an_address_that_other_machines_can_reach_needs_consent() {
    assert!(config(&["--bind", "127.0.0.1:0"]).is_ok());
    assert!(config(&["--bind", "localhost:5000"]).is_ok());
    assert!(config(&["--bind", "[::ffff:127.0.0.1]:0"]).is_ok());
    assert!(
        config(&["--bind", "0.0.0.0:5000"])
            .unwrap_err()
            .contains("--allow-anonymous")
    );
    assert!(config(&["--bind", "0.0.0.0:5000", "--allow-anonymous"]).is_ok());
    assert!(
        config(&["--bind", "5000"])
            .unwrap_err()
            .contains("127.0.0.1:5000")
    );
}

#[test]
fn two_brokers_on_one_command_line_contradict_each_other() {
    assert!(
        config(&["--memory", "--redis-url", "redis://localhost"])
            .unwrap_err()
            .contains("give one")
    );
    assert!(
        config(&["--memory", "--data-dir", "x"])
            .unwrap_err()
            .contains("give one")
    );
    assert_eq!(config(&["--memory"]).unwrap().broker.chosen_by, "--memory");
    assert!(
        config(&["--redis-url", "http://localhost"])
            .unwrap_err()
            .contains("redis://")
    );
}

#[test]
fn settings_of_redis_that_have_no_effect_are_rejected() {
    let url = |url| ["--redis-url", url];
    for (bad, expected) in [
        (url("redis+sentinel://a,b"), "/primary"),
        (url("redis+cluster://a/3"), "without a database"),
        (["--redis-url=redis://a", "--redis-ca=x"], "rediss://"),
        (["--redis-url=rediss://a", "--redis-ca=/absent"], "/absent"),
        (
            ["--redis-url=redis://a", "--redis-sentinel-user=x"],
            "sentinels",
        ),
        (
            ["--redis-url=redis://a", "--redis-user=x"],
            "--redis-password",
        ),
        (
            ["--redis-url=redis://:p@a", "--redis-password=x"],
            "remove one",
        ),
    ] {
        let error = config(&bad).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn settings_that_cannot_work_are_rejected() {
    for bad in [
        ["--heartbeat", "15"],
        ["--heartbeat", "0s"],
        ["--coalesce", "101ms"],
        ["--coalesce", "5"],
        ["--fanout-threads", "-1"],
        ["--fanout-threads", "1000"],
        ["--write-timeout", "0s"],
        ["--streams-max", "0"],
        ["--history-events", "0"],
        ["--event-bytes-max", "17MiB"],
        ["--publish-memory", "1MiB"],
        ["--log", "loud"],
        ["--log", "info,sse_server=loud"],
        ["--log-format", "yaml"],
        ["--access-log", "true"],
        ["--access-log", ""],
        ["--history-bytes", "0"],
        ["--idempotency-keys", "0"],
        ["--idempotency-window", "0s"],
        ["--idempotency-bytes", "2MiB"],
        ["--idempotency-window", "366d"],
        ["--cors-origin", "https://app.example/"],
        ["--cors-origin", "app.example"],
        ["--redis-prefix", "{app}:"],
    ] {
        assert!(config(&bad).is_err(), "{bad:?}");
    }
}

#[test]
fn an_access_log_without_a_file_goes_to_stdout() {
    let file = |path: &str| Some(AccessLogTarget::File(path.into()));
    for (flags, target) in [
        (&["--memory"][..], None),
        (&["--access-log", "--memory"], Some(AccessLogTarget::Stdout)),
        (&["--access-log", "-"], Some(AccessLogTarget::Stdout)),
        (&["--access-log", "access.log"], file("access.log")),
        (&["--access-log=/tmp/1", "--memory"], file("/tmp/1")),
    ] {
        assert_eq!(config(flags).unwrap().access_log, target, "{flags:?}");
    }
}

fn file_with(text: &str) -> (TempDir, String) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("sse.toml");
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (directory, path)
}

/// Returns what `config print` prints.
fn printed(args: &[&str]) -> String {
    match Invocation::from_args([&["sse-server"], args, &["config", "print"]].concat()) {
        Ok(Invocation::Print(text)) => text,
        Ok(other) => panic!("expected the settings instead of {other:?}"),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_flag_overrides_the_file_and_the_file_the_default() {
    let (_directory, file) = file_with(
        "bind = [\"127.0.0.1:0\", \"127.0.0.2:0\"]\nhistory_age = \"7d\"\nchannels_max = 50_000\n\
         allow_anonymous = true\n",
    );
    let config = config(&["--config", &file, "--history-age", "1h"]).unwrap();
    assert_eq!(config.addresses.len(), 2);
    assert_eq!(config.retention.age_max.as_secs(), 3600);
    assert_eq!(config.retention.channels_max, 50_000);
    let text = printed(&["--config", &file, "--history-age", "1h"]);
    for (setting, source) in [
        ("bind = [\"127.0.0.1:0\", \"127.0.0.2:0\"]", "file, line 1"),
        ("history_age = \"1h\"", "flag"),
        ("channels_max = 50000", "file, line 3"),
        ("allow_anonymous = true", "file, line 4"),
        ("# retry = \"3s\"", "default"),
    ] {
        let line = text.lines().find(|line| line.starts_with(setting));
        assert!(
            line.is_some_and(|line| line.ends_with(source)),
            "{setting} in {text}"
        );
    }
}

#[test]
fn what_is_printed_is_a_file_with_the_same_settings() {
    let text = printed(&[
        "--memory",
        "--cors-origin",
        "https://a.example",
        "--tail-events",
        "7",
    ]);
    let (_directory, file) = file_with(&text);
    let settings = |text: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.split("  #").next());
        lines.map(|line| line.trim().to_owned()).collect()
    };
    assert_eq!(settings(&printed(&["--config", &file])), settings(&text));
}

#[test]
fn a_password_is_not_printed() {
    let in_url = ["--redis-url", "redis+sentinel://user:geheim@a,b/primary"];
    let in_flags = ["--redis-url", "redis+sentinel://a,b/primary"];
    let passwords = [
        "--redis-password=geheim",
        "--redis-sentinel-password=geheim",
    ];
    for flags in [in_url.to_vec(), [&in_flags[..], &passwords].concat()] {
        let text = printed(&flags);
        assert!(
            text.contains("redis_url") && !text.contains("geheim"),
            "{text}"
        );
    }
    let config = config(&[&in_flags[..], &passwords].concat()).unwrap();
    assert_eq!(config.warnings.len(), 2);
    assert!(!format!("{config:?}").contains("geheim"));
}

#[test]
fn every_flag_has_a_key_in_the_example_whose_defaults_are_valid() {
    let example = Invocation::from_args(["sse-server", "config", "print", "--example"]).unwrap();
    let Invocation::Print(example) = example else {
        panic!("the server would have started");
    };
    let (example, tables) = example.split_once("# [access]\n").unwrap();
    assert!(tables.contains("# [[access.key]]\n"));
    let (flags, _) = example.split_once("# [[tls]]").unwrap();
    let keys = flags.lines().filter_map(|line| line.strip_prefix("# "));
    let keys: Vec<_> = keys.filter(|line| line.contains(" = ")).collect();
    let command = Args::command();
    assert_eq!(keys.len(), file::flags(&command).count());
    let with_default: Vec<_> = keys
        .into_iter()
        .filter(|key| !key.ends_with(">\""))
        .collect();
    let (_directory, file) = file_with(&with_default.join("\n"));
    config(&["--config", &file]).unwrap();
}

#[test]
fn certificates_are_tables_that_are_printed_as_they_were_read() {
    let tables = "[[tls]]\ncert = \"a.pem\"\nkey = \"a.key\"\n\n\
                  [[tls]]\ncert = \"b.pem\"\nkey = \"b.key\"\n";
    let (_directory, file) = file_with(&format!("bind = \"https://[::1]:1\"\n{tables}"));
    let text = printed(&["--config", &file]);
    assert!(text.ends_with(tables), "{text}");
    let flags = [
        "--config",
        &file,
        "--tls-cert",
        "c.pem",
        "--tls-key",
        "c.key",
    ];
    let certificates = config(&flags).unwrap().certificates;
    let files = certificates.iter().map(|files| files.certificate.as_path());
    let expected = ["c.pem", "a.pem", "b.pem"].map(std::path::Path::new);
    assert_eq!(files.collect::<Vec<_>>(), expected);
    for wrong in [
        "cert = \"a\"",
        "cert = \"a\"\nkey = 1",
        "cert = \"a\"\nkey = \"b\"\nx = 1",
    ] {
        let (_directory, file) = file_with(&format!("[[tls]]\n{wrong}"));
        let error = config(&["--config", &file]).unwrap_err();
        assert!(error.contains(":1: write a table [[tls]]"), "{error}");
    }
}

#[test]
fn an_error_in_a_file_names_the_line_and_what_to_write() {
    for (line, hint) in [
        ("histroy_age = \"1h\"", "did you mean history_age?"),
        ("history-age = \"1h\"", "did you mean history_age?"),
        ("config = \"other.toml\"", "there is no setting config"),
        ("history_age = \"1x\"", "15s, 10m, 24h"),
        ("memory = \"yes\"", "memory must be true or false"),
        ("bind = [5000]", "bind must be a list of strings"),
        (
            "channels_max = [1]",
            "channels_max must be a string or a whole number",
        ),
        ("channels_max = 0", "whole number from 1"),
        ("retry = ", "this is not TOML"),
        ("retry = \"1s\"\nretry = \"2s\"", "duplicate"),
    ] {
        let (_directory, file) = file_with(&format!("# a comment\n\n{line}\n"));
        for args in [["--config", &file].as_slice(), &["config", "check", &file]] {
            let error = config(args).unwrap_err();
            assert!(error.contains(hint), "{line}: {error}");
            assert!(error.contains(&format!("{file}:")), "{line}: {error}");
        }
    }
}

#[test]
fn a_checked_file_is_valid_as_a_whole_whatever_the_flags() {
    let (_directory, file) = file_with("memory = true\ndata_dir = \"events\"\n");
    let error = config(&["config", "check", &file]).unwrap_err();
    assert!(
        error.contains("give one of them") && error.contains(&file),
        "{error}"
    );
    assert!(config(&["--config", &file, "--memory"]).is_ok());
    let (_directory, file) = file_with("memory = true\n");
    let text = config(&["config", "check", &file]).unwrap_err();
    assert_eq!(text, format!("{file} is valid\n"));
}
