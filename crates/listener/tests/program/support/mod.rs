//! The harness: a listener as a child process, and a server that a test scripts.

mod child;
mod server;

use std::{sync::mpsc, thread, time::Duration};

#[cfg(unix)]
pub(crate) use child::first_byte;
pub(crate) use child::{Ended, Listener, Reading};
pub(crate) use server::{Exchange, PortWithoutServer, Server};

/// No wait takes longer, even on a busy machine.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(30);

/// The result of what may block; fails if it takes too long.
pub(crate) fn bounded<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (done, finished) = mpsc::channel();
    // When it takes too long, nobody waits for the result any more.
    thread::spawn(move || done.send(work()).ok());
    finished
        .recv_timeout(WAIT_MAX)
        .unwrap_or_else(|error| panic!("{what}: {error}"))
}
