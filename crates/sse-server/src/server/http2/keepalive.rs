//! Pings that find dead peers.
//!
//! A peer that vanished from the network acknowledges nothing. The kernel closes its connection only
//! after some minutes, and never while nothing is written. So the server sends a ping now and then,
//! and closes a connection whose peer does not respond. The time for the response is long, because
//! the ping waits behind everything that a slow client has not read.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep};

/// Time from one response to the next ping.
const INTERVAL: Duration = Duration::from_secs(30);
/// Time for the response.
const TIMEOUT: Duration = Duration::from_mins(1);

/// The pings of one connection.
pub(super) struct Keepalive {
    pings: PingPong,
    timer: Pin<Box<Sleep>>,
    is_waiting: bool,
}

impl Keepalive {
    pub(super) fn new(pings: PingPong) -> Self {
        Self {
            pings,
            timer: Box::pin(sleep(INTERVAL)),
            is_waiting: false,
        }
    }

    /// Sends pings. Ready if the peer does not respond.
    pub(super) fn poll_timeout(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.is_waiting {
                match self.pings.poll_pong(cx) {
                    Poll::Ready(Ok(_)) => self.restart(false, INTERVAL),
                    // The connection is about to end.
                    Poll::Ready(Err(_)) => return Poll::Pending,
                    Poll::Pending => return self.timer.as_mut().poll(cx),
                }
            } else {
                ready!(self.timer.as_mut().poll(cx));
                if self.pings.send_ping(Ping::opaque()).is_err() {
                    return Poll::Pending;
                }
                self.restart(true, TIMEOUT);
            }
        }
    }

    fn restart(&mut self, is_waiting: bool, time: Duration) {
        self.is_waiting = is_waiting;
        self.timer.as_mut().reset(Instant::now() + time);
    }
}
