//! `sse-server`: reads the settings and serves until a signal.
//!
//! Exit codes: 0 stopped by a signal, 1 failed, 2 misused.

#[cfg(target_os = "linux")]
mod allocator;

use std::{io::IsTerminal as _, panic, process::ExitCode};

use anyhow::Context as _;
use sse_server::{broker::embedded::is_catching_panic, config::Config};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Threads that read history from the log.
const BLOCKING_THREADS: usize = 8;

fn main() -> ExitCode {
    install_panic_hook();
    let config = match Config::from_args(std::env::args_os()) {
        Ok(config) => config,
        Err(error) => {
            // The text is help or advice. If it cannot be printed, the exit code remains.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sse-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Installs a panic hook that prints nothing for a panic that the embedded log catches.
///
/// The log reports such a panic as an error; the message of the panic would look like a crash.
fn install_panic_hook() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if !is_catching_panic() {
            print(panic);
        }
    }));
}

fn serve(config: Config) -> anyhow::Result<()> {
    #[cfg(target_os = "linux")]
    allocator::configure()?;
    tracing_subscriber::fmt()
        // actix-server logs several lines per start and stop; --log actix_server=info shows them.
        // `server/protocol_errors` logs what the dispatcher would log without an address.
        .with_env_filter(EnvFilter::try_new(format!(
            "actix_server=warn,actix_http::h1::dispatcher=off,{}",
            config.log
        ))?)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
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
