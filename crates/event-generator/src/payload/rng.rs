//! The random numbers of a payload.

use rand::{SeedableRng as _, rngs::Xoshiro256PlusPlus};

/// The generator of a payload. Named, unlike `StdRng`: its numbers stay the same with the next release of `rand`.
pub(super) fn seeded_rng(seed: Option<u64>) -> Xoshiro256PlusPlus {
    seed.map_or_else(rand::make_rng, Xoshiro256PlusPlus::seed_from_u64)
}
