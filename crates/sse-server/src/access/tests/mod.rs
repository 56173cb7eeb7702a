//! Tests of access control as a whole: tokens in, identities out.

mod client_shares;
mod fixture;
mod hostile_tokens;
mod identities;
mod jwks_server;
mod key_sets;
mod recheck;
mod remote_failures;
mod remote_keys;
mod tickets;
mod token_table;

use std::sync::Arc;

use super::{keys::remote::FetchTiming, *};
