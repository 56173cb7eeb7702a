//! Which handshakes of a worker run, and which wait.
//!
//! [`HANDSHAKES_MAX`] run at a time, of which one client gets [`CLIENT_HANDSHAKES_MAX`]. The clients
//! whose handshakes wait take turns, so a client with many of them delays another one by a single
//! handshake.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::oneshot, time::timeout};

use crate::budget::{ClientNet, Turns};

/// Handshakes of one worker at a time.
const HANDSHAKES_MAX: usize = 64;
/// Those of one client. A client without an address has no limit of its own.
const CLIENT_HANDSHAKES_MAX: usize = 16;

/// The handshakes of one worker; clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct HandshakeTurns(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    running: usize,
    by_client: HashMap<Option<ClientNet>, usize>,
    waiting: Turns<oneshot::Sender<HandshakeTurn>>,
}

/// The turn of one handshake, until it is dropped.
#[derive(Debug)]
pub(super) struct HandshakeTurn {
    /// `None` if the turn is given back already.
    turns: Option<HandshakeTurns>,
    client: Option<ClientNet>,
}

impl HandshakeTurns {
    /// Waits up to `wait_max` for a turn.
    pub(super) async fn wait(
        &self,
        client: Option<ClientNet>,
        wait_max: Duration,
    ) -> Option<HandshakeTurn> {
        let (sender, receiver) = oneshot::channel();
        self.lock().waiting.push(client, sender);
        self.give_turns();
        let turn = timeout(wait_max, receiver).await;
        if turn.is_err() {
            let is_waiting = |sender: &oneshot::Sender<HandshakeTurn>| !sender.is_closed();
            let mut state = self.lock();
            state
                .waiting
                .change_each(|senders| senders.retain(is_waiting));
        }
        turn.ok()?.ok()
    }

    /// Whether a handshake waits for the end of one of any client.
    pub(super) fn is_full(&self) -> bool {
        let state = self.lock();
        state.running >= HANDSHAKES_MAX && state.waiting.has_of(|client| state.may_run(client))
    }

    /// Gives turns to handshakes that wait, as far as the limits allow.
    fn give_turns(&self) {
        while let Some((client, sender)) = self.start_next() {
            let turn = HandshakeTurn {
                turns: Some(self.clone()),
                client,
            };
            if let Err(mut turn) = sender.send(turn) {
                // It waits no more. The next one gets the turn in this loop.
                turn.turns = None;
                self.lock().end(client);
            }
        }
    }

    fn start_next(&self) -> Option<(Option<ClientNet>, oneshot::Sender<HandshakeTurn>)> {
        let mut state = self.lock();
        if state.running >= HANDSHAKES_MAX {
            return None;
        }
        let State {
            by_client, waiting, ..
        } = &mut *state;
        let (client, sender) = waiting.pop_of(|client| may_run(by_client, client))?;
        *by_client.entry(client).or_default() += 1;
        state.running += 1;
        Some((client, sender))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn may_run(&self, client: Option<ClientNet>) -> bool {
        may_run(&self.by_client, client)
    }

    fn end(&mut self, client: Option<ClientNet>) {
        self.running -= 1;
        if let Some(count) = self.by_client.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                self.by_client.remove(&client);
            }
        }
    }
}

/// Whether a further handshake of a client may run.
fn may_run(by_client: &HashMap<Option<ClientNet>, usize>, client: Option<ClientNet>) -> bool {
    let running = by_client.get(&client).copied().unwrap_or(0);
    client.is_none() || running < CLIENT_HANDSHAKES_MAX
}

impl Drop for HandshakeTurn {
    fn drop(&mut self) {
        if let Some(turns) = self.turns.take() {
            turns.lock().end(self.client);
            turns.give_turns();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use futures::FutureExt as _;

    use super::*;

    const NEVER: Duration = Duration::from_hours(1);

    fn client(last: u8) -> ClientNet {
        IpAddr::from([192, 0, 2, last]).into()
    }

    /// Returns a turn if there is one now.
    fn take(turns: &HandshakeTurns, client: impl Into<Option<ClientNet>>) -> Option<HandshakeTurn> {
        turns.wait(client.into(), NEVER).now_or_never().flatten()
    }

    fn take_all(
        turns: &HandshakeTurns,
        client: impl Into<Option<ClientNet>>,
    ) -> Vec<HandshakeTurn> {
        let client = client.into();
        std::iter::from_fn(|| take(turns, client)).collect()
    }

    #[tokio::test]
    async fn a_client_gets_its_part_and_all_clients_get_all() {
        let turns = HandshakeTurns::default();
        let of_one = take_all(&turns, client(1));
        assert_eq!(of_one.len(), CLIENT_HANDSHAKES_MAX);
        assert!(!turns.is_full(), "only the client itself waits");
        let others: Vec<_> = (2..10)
            .flat_map(|last| take_all(&turns, client(last)))
            .collect();
        assert_eq!(of_one.len() + others.len(), HANDSHAKES_MAX);
        assert!(take(&turns, None).is_none());
        drop((of_one, others));
        assert_eq!(take_all(&turns, None).len(), HANDSHAKES_MAX);
    }

    #[tokio::test]
    async fn clients_take_turns_whatever_they_have() {
        let turns = HandshakeTurns::default();
        let mut running = take_all(&turns, None);
        let mut of_hog: Vec<_> = (0..3)
            .map(|_| Box::pin(turns.wait(Some(client(1)), NEVER)))
            .collect();
        for waiting in &mut of_hog {
            assert!(waiting.now_or_never().is_none());
        }
        let mut of_other = Box::pin(turns.wait(Some(client(2)), NEVER));
        assert!((&mut of_other).now_or_never().is_none());
        assert!(turns.is_full());
        running.truncate(HANDSHAKES_MAX - 2);
        assert!((&mut of_hog[0]).now_or_never().is_some());
        assert!(of_other.now_or_never().is_some());
        assert!(
            (&mut of_hog[1]).now_or_never().is_some(),
            "the other one is over"
        );
        // One that waits no more takes no turn.
        let last = of_hog.pop();
        drop((last, running));
        assert_eq!(take_all(&turns, client(3)).len(), CLIENT_HANDSHAKES_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_that_has_waited_too_long_leaves_nothing() {
        let turns = HandshakeTurns::default();
        let running = take_all(&turns, None);
        let waited = turns.wait(Some(client(1)), Duration::from_secs(30)).await;
        assert!(waited.is_none() && turns.lock().waiting.is_empty());
        drop(running);
        let state = turns.lock();
        assert!(state.running == 0 && state.by_client.is_empty());
    }
}
