//! Quick runs of every benchmark scenario, with real programs in debug builds, so the figures mean
//! nothing. A run fails if an event was lost, duplicated or out of order.

use std::{path::Path, process::Command};

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Process, build_programs, workspace};

/// Runs scenarios and returns their measurements.
fn quick(arguments: &[&str], file: &str) -> Vec<Value> {
    let out = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    build_programs();
    let mut command = Command::new("scripts/bench");
    command
        .args(["--quick", "--debug", "--out"])
        .arg(out.path())
        .args(arguments)
        .current_dir(workspace());
    let (status, lines) = Process::start(&command).finish();
    assert!(status.success(), "{}", lines.join("\n"));
    assert!(out.path().join("table.md").exists());
    runs(&out.path().join(file))
}

fn runs(file: &Path) -> Vec<Value> {
    let results: Value =
        serde_json::from_slice(&std::fs::read(file).expect("a file of results")).expect("JSON");
    let runs = results["runs"]
        .as_array()
        .unwrap_or_else(|| panic!("no runs in {results:#}"))
        .clone();
    assert!(
        runs.iter()
            .all(|run| run["problems"] == Value::Array(Vec::new())),
        "{runs:#?}"
    );
    runs
}

/// Returns a figure of a server.
fn figure(runs: &[Value], subject: &str, name: &str) -> f64 {
    let run = runs
        .iter()
        .find(|run| run["subject"] == subject)
        .unwrap_or_else(|| panic!("no {subject} in {runs:#?}"));
    run["figures"][name]
        .as_f64()
        .unwrap_or_else(|| panic!("no {name} in {run:#}"))
}

#[test]
fn scenario_a_delivers_a_steady_rate_to_all_subscribers() {
    let runs = quick(&["--scenario", "A", "--only", "ours,floor"], "A.json");
    for subject in ["ours", "floor"] {
        assert!(figure(&runs, subject, "deliveries") > 20.0, "{runs:#?}");
    }
}

#[test]
fn scenario_b_delivers_all_events_through_a_filter_that_passes_all() {
    let runs = quick(&["--scenario", "B", "--only", "ours durable"], "B.json");
    assert!(
        figure(&runs, "ours durable", "deliveries") > 20.0,
        "{runs:#?}"
    );
}

#[test]
fn scenario_d_measures_the_memory_of_idle_streams() {
    let runs = quick(&["--scenario", "D", "--only", "ours,floor"], "D.json");
    assert!(figure(&runs, "ours", "subscribers") > 50.0, "{runs:#?}");
}

#[test]
fn scenario_e_tries_rates_until_one_is_too_high() {
    let runs = quick(&["--scenario", "E", "--only", "ours"], "E.json");
    // The highest rate depends on the machine, but the reported rate must be the best rate tried.
    let steps = runs[0]["reports"]["steps"].as_array().unwrap();
    let held = steps
        .iter()
        .filter(|step| step["held"] == true)
        .filter_map(|step| step["asked"].as_f64());
    let best = held.fold(0.0, f64::max) * figure(&runs, "ours", "subscribers");
    let reported = figure(&runs, "ours", "deliveries_per_s");
    assert!(
        steps.len() > 1 && (reported - best).abs() <= reported * 0.01,
        "reported {reported}, but the best rate is {best}: {steps:#?}"
    );
}

#[test]
fn scenario_f_reads_back_ingested_events_from_every_broker() {
    let subjects = ["ours memory", "ours durable", "ours redis", "floor"];
    let runs = quick(
        &["--scenario", "F", "--only", &subjects.join(",")],
        "F.json",
    );
    for subject in subjects {
        assert!(figure(&runs, subject, "batch_per_s") > 0.0, "{runs:#?}");
    }
}

#[test]
fn scenario_g_resumes_all_streams_after_a_storm() {
    let runs = quick(&["--scenario", "G", "--only", "ours,floor"], "G.json");
    assert!(
        figure(&runs, "ours", "resumed") >= figure(&runs, "ours", "subscribers"),
        "{runs:#?}"
    );
}

#[test]
fn scenario_h_replays_a_long_history_completely() {
    let runs = quick(&["--scenario", "H"], "H.json");
    assert!(
        figure(&runs, "ours durable", "events") > 1000.0,
        "{runs:#?}"
    );
}

#[test]
fn scenario_i_measures_healthy_subscribers_next_to_slow_ones() {
    let runs = quick(&["--scenario", "I", "--only", "ours"], "I.json");
    assert!(
        figure(&runs, "ours", "delivery_p99_ms_with") > 0.0,
        "{runs:#?}"
    );
}

#[test]
fn scenario_t_publishes_with_a_key_and_with_a_token() {
    let subjects = ["ours anonymous", "ours key", "ours token"];
    let runs = quick(
        &["--scenario", "T", "--only", &subjects.join(",")],
        "T.json",
    );
    for subject in subjects {
        assert!(figure(&runs, subject, "single_per_s") > 0.0, "{runs:#?}");
    }
}

#[test]
fn scenario_n_delivers_over_tls() {
    let runs = quick(&["--scenario", "N", "--only", "ours"], "N.json");
    assert!(figure(&runs, "ours", "deliveries") > 20.0, "{runs:#?}");
}

#[test]
fn scenario_r_delivers_over_http2() {
    let runs = quick(&["--scenario", "R", "--only", "ours"], "R.json");
    assert!(figure(&runs, "ours", "deliveries") > 20.0, "{runs:#?}");
}

#[test]
fn scenario_s_publishes_beside_handshakes_that_stall() {
    let runs = quick(&["--scenario", "S", "--only", "ours"], "S.json");
    assert!(
        figure(&runs, "ours", "publish_p99_ms_with") > 0.0,
        "{runs:#?}"
    );
}

#[test]
fn the_soak_compares_the_end_with_the_beginning() {
    let runs = quick(&["--soak", "3s"], "soak.json");
    assert!(
        figure(&runs, "ours", "cut") > 0.0 && figure(&runs, "ours", "files_after") > 0.0,
        "{runs:#?}"
    );
}

#[test]
fn the_unit_tests_of_the_benchmark_pass() {
    let mut command = Command::new("python3");
    command.args([
        "-m",
        "unittest",
        "discover",
        "-s",
        "scripts/benchmark",
        "-p",
        "test_*.py",
    ]);
    command
        .current_dir(workspace())
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let (status, lines) = Process::start(&command).finish();
    assert!(status.success(), "{}", lines.join("\n"));
}

#[test]
fn misuse_is_reported() {
    for (arguments, hint) in [
        (&["--scenario", "Z"][..], "there is no scenario Z"),
        (&["--runs", "0"], "at least 1"),
        (&["--soak", "soon"], "like 10m"),
    ] {
        let mut command = Command::new("python3");
        command
            .args(["scripts/benchmark", "--bin", "target/debug"])
            .args(arguments)
            .current_dir(workspace());
        let (status, lines) = Process::start(&command).finish();
        assert!(
            status.code() == Some(2) && lines.join("\n").contains(hint),
            "{lines:?}"
        );
    }
}
