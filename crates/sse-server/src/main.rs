//! `sse-server`: reads the settings and serves until a signal.
//!
//! Exit codes: 0 stopped by a signal, 1 failed, 2 misused.

#[cfg(target_os = "linux")]
mod allocator;
mod log_output;

use std::process::ExitCode;

use anyhow::Context as _;
use sse_server::config::Config;
use tokio::signal::unix::{SignalKind, signal};

use self::log_output::{install_panic_hook, print_error, start_log};

/// Threads that read history from the log.
const BLOCKING_THREADS: usize = 8;

fn main() -> ExitCode {
    let config = match Config::from_args(std::env::args_os()) {
        Ok(config) => config,
        Err(error) => {
            // The text is help or advice. If it cannot be printed, the exit code remains.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let format = config.log_format;
    install_panic_hook(format);
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&error, format);
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

fn serve(config: Config) -> anyhow::Result<()> {
    #[cfg(target_os = "linux")]
    allocator::configure()?;
    start_log(&config.log, config.log_format)?;
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
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
        let mut hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
                _ = hangup.recv(), if !ignores_hangup => "SIGHUP",
            }
        };
        sse_server::run(config, stop).await
    })
}
