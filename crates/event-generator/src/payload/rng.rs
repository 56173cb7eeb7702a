//! The random numbers of a payload.

use rand::{Rng, RngExt as _, SeedableRng as _, rngs::Xoshiro256PlusPlus};
use uuid::Uuid;

/// Returns the random number generator of a payload.
///
/// The algorithm is named, unlike `StdRng`: its numbers stay the same with the next release of
/// `rand`.
pub(super) fn seeded_rng(seed: Option<u64>) -> Xoshiro256PlusPlus {
    seed.map_or_else(rand::make_rng, Xoshiro256PlusPlus::seed_from_u64)
}

/// Returns a random UUID, version 4.
pub(super) fn random_uuid(rng: &mut impl Rng) -> Uuid {
    uuid::Builder::from_random_bytes(rng.random()).into_uuid()
}
