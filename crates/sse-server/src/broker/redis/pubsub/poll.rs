//! A poll of all followed channels, in case a notification is lost.

use std::time::Duration;

use sse_proto::Channel;
use tokio::time::interval;

use super::delay_missed_ticks;
use crate::broker::notify::ChangeNotifier;

const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Rounds of [`POLL_INTERVAL`] in which every followed channel is polled once, unless
/// [`POLLS_PER_ROUND_MAX`] is too low for that.
const POLL_ROUNDS: usize = 50;
/// Polls per round. Each poll is a command to Redis.
const POLLS_PER_ROUND_MAX: usize = 20;

/// Notifies every followed channel in turn, whatever pub/sub does: each about every five seconds,
/// within a fixed number of polls per second.
pub(in crate::broker::redis) async fn poll_followed(notifier: ChangeNotifier) {
    let mut timer = delay_missed_ticks(interval(POLL_INTERVAL));
    let mut polls = Polls::default();
    loop {
        timer.tick().await;
        polls.run_round(&notifier);
    }
}

/// The polls of the followed channels, in rounds.
#[derive(Default)]
struct Polls {
    /// The followed channels that are not polled yet.
    waiting: Vec<Channel>,
    per_round: usize,
}

impl Polls {
    fn run_round(&mut self, notifier: &ChangeNotifier) {
        if self.waiting.is_empty() {
            self.restart(notifier.followed());
        }
        for channel in self.take_round() {
            notifier.notify(&channel);
        }
    }

    fn take_round(&mut self) -> impl Iterator<Item = Channel> {
        let left = self.waiting.len().saturating_sub(self.per_round);
        self.waiting.drain(left..)
    }

    fn restart(&mut self, followed: Vec<Channel>) {
        self.per_round = polls_per_round(followed.len());
        self.waiting = followed;
    }
}

fn polls_per_round(followed: usize) -> usize {
    followed.div_ceil(POLL_ROUNDS).min(POLLS_PER_ROUND_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_channel_is_polled_in_fifty_rounds_if_there_are_not_too_many() {
        let polls: Vec<usize> = [0, 1, 50, 51, 1000, 100_000].map(polls_per_round).to_vec();
        assert_eq!(polls, [0, 1, 1, 2, 20, 20]);
    }
}
