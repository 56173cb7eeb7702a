//! Who acts when, and how: users in virtual time.
//!
//! The agenda is a heap of users by the virtual time of their next action. It starts at 0 and is
//! not related to any clock.
//!
//! Chances of the next action:
//!
//! | after | view | click | close |
//! |---|--:|--:|--:|
//! | a view | 0.35 | 0.45 | 0.20 |
//! | a click | 0.85 | | 0.15 |
//! | a close, and a pause | 1 | | |

use std::{cmp::Reverse, collections::BinaryHeap};

use rand::{Rng, RngExt as _, rngs::Xoshiro256PlusPlus};
use uuid::Uuid;

use crate::payload::rng::random_uuid;

/// Mean time between two actions of a session.
const THINK_MS: f64 = 8_000.0;
/// Mean time between two sessions of a user.
const PAUSE_MS: f64 = 300_000.0;
/// Shortest time between two actions of a user: a user does one thing at a time.
const ACTION_US_MIN: u64 = 1000;
/// Chance of a click after a view.
const CLICK: f64 = 0.45;
/// Chance of a close after a view. Otherwise the user views another page.
const CLOSE: f64 = 0.2;
/// Chance of a close after a click. Otherwise the user views another page.
const CLOSE_AFTER_CLICK: f64 = 0.15;

/// The pages, each with the chance that a user chooses it.
const PAGES: [(&str, f64); 8] = [
    ("/", 0.3),
    ("/products", 0.2),
    ("/products/1", 0.15),
    ("/products/2", 0.1),
    ("/search", 0.1),
    ("/cart", 0.07),
    ("/about", 0.05),
    ("/checkout", 0.03),
];

/// An action of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    View,
    Click,
    Close,
}

/// A user and the state of their session.
#[derive(Debug)]
pub(super) struct User {
    pub(super) id: Uuid,
    pub(super) session: Uuid,
    /// Last action; `Close` before the first session.
    pub(super) last: Action,
    /// Page of the last action.
    pub(super) page: &'static str,
}

/// All users of a run.
#[derive(Debug)]
pub(super) struct Simulation {
    users: Vec<User>,
    /// Virtual microseconds and index of the user; the next user to act is on top.
    agenda: BinaryHeap<Reverse<(u64, usize)>>,
    rng: Xoshiro256PlusPlus,
}

impl Simulation {
    /// Users that have not acted yet.
    pub(super) fn new(users: u32, mut rng: Xoshiro256PlusPlus) -> Self {
        let newcomer = |rng: &mut _| User {
            id: random_uuid(rng),
            session: Uuid::nil(),
            last: Action::Close,
            page: "/",
        };
        let users: Vec<User> = (0..users).map(|_| newcomer(&mut rng)).collect();
        let agenda = (0..users.len())
            .map(|index| Reverse((exponential_us(&mut rng, PAUSE_MS), index)))
            .collect();
        Self { users, agenda, rng }
    }

    /// Lets the next user act. Returns the virtual time in microseconds, and the user after the
    /// action.
    pub(super) fn next_action(&mut self) -> (u64, &User) {
        let Reverse((now_us, index)) = self
            .agenda
            .pop()
            .expect("there is at least one user, and each acts again");
        let (user, rng) = (&mut self.users[index], &mut self.rng);
        user.act(rng);
        let mean_ms = if user.last == Action::Close {
            PAUSE_MS
        } else {
            THINK_MS
        };
        let next_us = now_us + ACTION_US_MIN + exponential_us(rng, mean_ms);
        self.agenda.push(Reverse((next_us, index)));
        (now_us, user)
    }
}

impl User {
    fn act(&mut self, rng: &mut impl Rng) {
        let action = choose_action(self.last, rng);
        let begins = self.last == Action::Close;
        if action == Action::View {
            // A session begins on any page, and continues with another one.
            let left = (!begins).then_some(self.page);
            self.page = choose_page(rng, left);
        }
        if begins {
            self.session = random_uuid(rng);
        }
        self.last = action;
    }
}

fn choose_action(last: Action, rng: &mut impl Rng) -> Action {
    let chance: f64 = rng.random();
    match last {
        Action::View if chance < CLICK => Action::Click,
        Action::View if chance < CLICK + CLOSE => Action::Close,
        Action::Click if chance < CLOSE_AFTER_CLICK => Action::Close,
        _ => Action::View,
    }
}

/// Returns a page other than `left`.
fn choose_page(rng: &mut impl Rng, left: Option<&str>) -> &'static str {
    let others = || PAGES.into_iter().filter(|(page, _)| Some(*page) != left);
    let mut chance = rng.random::<f64>() * others().map(|(_, share)| share).sum::<f64>();
    let chosen = others().find(|(_, share)| {
        chance -= share;
        chance < 0.0
    });
    // Rounding may leave out the last page.
    chosen
        .or_else(|| others().next_back())
        .map_or(PAGES[0].0, |(page, _)| page)
}

/// Returns an exponentially distributed time in microseconds.
///
/// The milliseconds are whole, because the last bit of a logarithm differs between machines. Random
/// microseconds are added, so that users do not act in step.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "not negative, and below 2^40"
)]
fn exponential_us(rng: &mut impl Rng, mean_ms: f64) -> u64 {
    let whole_ms = (-(1.0 - rng.random::<f64>()).ln() * mean_ms) as u64;
    whole_ms * 1000 + rng.random_range(0..1000)
}
