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
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            }
        };
        sse_server::run(config, stop).await
    })
}
