//! The harness: a listener as a child process, and a server that is scripted by the test.

mod child;
mod server;

use std::{sync::mpsc, thread, time::Duration};

#[cfg(unix)]
pub(crate) use child::first_byte;
pub(crate) use child::{Ended, Listener, Reading};
pub(crate) use server::{Exchange, PortWithoutServer, Server};

/// No wait takes longer, even on a busy machine.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(30);

/// The result of a function that may block. The test fails if the function takes too long.
pub(crate) fn bounded<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (done, finished) = mpsc::channel();
    // After a timeout the receiver is gone.
    thread::spawn(move || done.send(work()).ok());
    finished
        .recv_timeout(WAIT_MAX)
        .unwrap_or_else(|error| panic!("{what}: {error}"))
}
