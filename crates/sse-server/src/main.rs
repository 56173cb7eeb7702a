//! `sse-server`: reads the settings and serves until a signal.
//!
//! Exit codes: 0 stopped by a signal, 1 failed, 2 misused.

#[cfg(target_os = "linux")]
mod allocator;
mod log_output;

use std::{
    io::{Write as _, stdout},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use sse_server::{
    PassedSockets, StopReason,
    config::{Config, Invocation},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use self::log_output::{install_panic_hook, print_error, start_log};

/// Threads that read history from the log.
const BLOCKING_THREADS: usize = 8;
/// Time for threads that still read history when everything else has ended.
const RUNTIME_SHUTDOWN_MAX: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let config = match Invocation::from_args(std::env::args_os()) {
        Ok(Invocation::Serve(config)) => *config,
        Ok(Invocation::Print(text)) => {
            return match stdout().write_all(text.as_bytes()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            };
        }
        Ok(Invocation::Fail(text)) => {
            // If the text cannot be printed, the exit code remains.
            let _ = stdout().write_all(text.as_bytes());
            return ExitCode::FAILURE;
        }
        Ok(Invocation::Check { config, json }) => return check(&config, json),
        Err(error) => {
            // The text is help or advice. If it cannot be printed, the exit code remains.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let format = config.log_format;
    let (failed, failures) = mpsc::channel(1);
    install_panic_hook(format, move |part| {
        // The first failure stops the server.
        let _ = failed.try_send(part);
    });
    match serve(config, failures) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&error, format);
            ExitCode::FAILURE
        }
    }
}

/// Prints what will cause trouble with these settings.
fn check(config: &Config, json: bool) -> ExitCode {
    match sse_server::check(config, json) {
        Ok((text, code)) => {
            // If the text cannot be printed, the exit code remains.
            let _ = stdout().write_all(text.as_bytes());
            ExitCode::from(code)
        }
        Err(error) => {
            print_error(&error, config.log_format);
            ExitCode::FAILURE
        }
    }
}

/// Whether the program was started so that it survives the end of its terminal, as by `nohup`.
///
/// Only Linux reports it, in a mask whose lowest bit is signal 1, SIGHUP.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 == 1)
}

fn serve(config: Config, mut failures: mpsc::Receiver<&'static str>) -> anyhow::Result<()> {
    let passed = PassedSockets::take_from_environment()?;
    #[cfg(target_os = "linux")]
    allocator::configure()?;
    start_log(&config.log, config.log_format)?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(
            std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2)),
        )
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("broker")
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let ignores_hangup = ignores_hangup();
    let result = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
        let mut hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
        let (reload, reloads) = mpsc::channel(1);
        let has_file = config.file.is_some();
        let next_stop = async || {
            loop {
                tokio::select! {
                    _ = terminate.recv() => return StopReason::Signal("SIGTERM"),
                    _ = interrupt.recv() => return StopReason::Signal("SIGINT"),
                    _ = hangup.recv(), if has_file || !ignores_hangup => {
                        if !has_file {
                            return StopReason::Signal("SIGHUP");
                        }
                        // If a reload is under way, one more is enough for any number of signals.
                        let _ = reload.try_send(());
                    }
                    Some(part) = failures.recv() => return StopReason::Panic(part),
                }
            }
        };
        sse_server::run(config, passed, next_stop, reloads).await
    });
    runtime.shutdown_timeout(RUNTIME_SHUTDOWN_MAX);
    result
}
