//! Tests of the command line, the environment and their validation.

use super::*;

fn config(args: &[&str]) -> Result<Config, String> {
    Config::from_args([&["sse-server"], args].concat()).map_err(|error| error.to_string())
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
