//! Threads that compute TLS handshakes, so that workers do not.
//!
//! The signature of a handshake takes about as long as twenty publishes. On a worker it would delay
//! every publish that arrives meanwhile. There is one thread per core, with a lower priority than the
//! workers (Linux), so handshakes use the CPU that requests leave.
//!
//! The queue has no limit of its own: each handshake has a
//! [`HandshakeTurn`](super::handshake_turns), which limits how many there are and lets clients take
//! turns.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use rustls::Error;
use tokio::sync::oneshot;

use crate::{supervised::supervised, tls::TlsSession};

/// Priority of the threads as for `nice`: about a third of the CPU if workers want all of it.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 5;

/// The threads of a server; clones share them. They end with the last clone.
#[derive(Debug, Clone)]
pub(super) struct HandshakeThreads(mpsc::Sender<Job>);

/// A session and what its client has sent.
pub(super) struct HandshakeStep {
    pub(super) session: Box<TlsSession>,
    pub(super) received: Vec<u8>,
    /// Data behind the last message of the handshake.
    pub(super) plaintext: Vec<u8>,
}

struct Job {
    step: HandshakeStep,
    done: oneshot::Sender<Computed>,
}

type Computed = (HandshakeStep, Result<(), Error>);

impl HandshakeThreads {
    /// Starts one thread per core.
    ///
    /// # Errors
    ///
    /// The operating system starts no thread.
    pub(super) fn start() -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel();
        let receiver = Arc::new(Mutex::new(receiver));
        let count = thread::available_parallelism().map_or(1, Into::into);
        for _ in 0..count {
            let receiver = Arc::clone(&receiver);
            thread::Builder::new()
                .name("tls-handshake".to_owned())
                .spawn(move || supervised("a thread for TLS handshakes", || run(&receiver)))?;
        }
        Ok(Self(sender))
    }

    /// Lets a session handle what was received. If this is dropped, the step is not computed, unless
    /// it has begun.
    ///
    /// Returns `None` only if the threads have ended.
    pub(super) async fn compute(&self, step: HandshakeStep) -> Option<Computed> {
        let (done, computed) = oneshot::channel();
        self.0.send(Job { step, done }).ok()?;
        computed.await.ok()
    }
}

fn run(jobs: &Mutex<mpsc::Receiver<Job>>) {
    lower_priority();
    loop {
        // One thread waits for a job, and the others wait for this lock.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { mut step, done }) = job else {
            return;
        };
        if done.is_closed() {
            continue;
        }
        let HandshakeStep {
            session,
            received,
            plaintext,
        } = &mut step;
        let result = session.receive(received, &mut |bytes| plaintext.extend_from_slice(bytes));
        // The connection may have been closed meanwhile.
        let _ = done.send((step, result));
    }
}

/// Lowers the priority of this thread. Elsewhere than on Linux that would be the one of the process.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "the threads for TLS handshakes have the usual priority");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{ServerConfig, crypto::ring, server::ResolvesServerCertUsingSni};

    use super::*;

    fn step(received: &[u8]) -> HandshakeStep {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new()));
        HandshakeStep {
            session: Box::new(TlsSession::new(Arc::new(config)).unwrap()),
            received: received.to_vec(),
            plaintext: Vec::new(),
        }
    }

    #[tokio::test]
    async fn steps_are_computed_with_their_results() {
        let threads = HandshakeThreads::start().unwrap();
        let (waiting, result) = threads.compute(step(b"\x16\x03")).await.unwrap();
        assert!(result.is_ok() && waiting.session.is_handshaking());
        let (failed, result) = threads.compute(step(b"GET / HTTP/1.1\r\n")).await.unwrap();
        assert!(result.is_err() && failed.session.wants_write());
    }
}
