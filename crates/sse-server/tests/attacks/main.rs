//! Attacks: a few bytes from one client must not take a service away from the others.
//!
//! Each case is one attack on a real server. The attacker connects from 127.0.0.2. The victims
//! publish, subscribe, read history and check the server's health from 127.0.0.1 during the whole
//! attack, and none of them may be rejected or miss an event. Bounds are asserted in bytes and
//! counts, never in seconds; `scripts/torture --attack` measures.
//!
//! | file | contents |
//! |---|---|
//! | `attacker` | connections and requests from another address |
//! | `waves` | one wave of each attack |
//! | `victims` | the honest clients, and what they must not see |
//! | `bodies` | bodies that declare much and send little |
//! | `connections` | connections that are opened, and do nothing |
//! | `browsers` | pages of foreign sites |
//! | `streams` | memory for streams that are not read, and for the newest events |
//! | `history` | responses that are not read, and searches that find nothing |
//! | `channels`, `keys` | names that are used up |
//! | `lists` | lists of channels and of streams |
//! | `redis` | thousands of lookups, and entries that no server wrote |
//! | `stderr` | a log that is not read |

#![expect(clippy::unwrap_used, reason = "a test that cannot continue has failed")]

mod attacker;
mod bodies;
mod browsers;
mod channels;
#[expect(
    dead_code,
    unused_imports,
    reason = "the harness of tests/server, most of which other programs use"
)]
#[path = "../server/common/mod.rs"]
mod common;
mod connections;
mod history;
mod keys;
mod lists;
mod redis;
mod stderr;
mod streams;
mod victims;
mod waves;

use self::{attacker::Attacker, common::TestServer};

/// An attacker of a test's server.
fn attacker_of(server: &TestServer) -> Attacker {
    let address = server.url.trim_start_matches("http://");
    Attacker::new(address.parse().unwrap())
}
