//! Distribution of events under the curve of the rate: evenly, or as independent users send them.
//!
//! Arrivals are positions in the number of events, not times: the [`Curve`](super::Curve) turns
//! each position into a time.

use clap::ValueEnum;
use rand::{RngExt as _, SeedableRng as _, rngs::Xoshiro256PlusPlus};

/// Separates the random numbers of arrivals from those of the payload, which has the same seed.
const SEED_MARK: u64 = 0x9e37_79b9_7f4a_7c15;

/// Values of `--arrivals`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Spread {
    /// Every event at the same distance from the one before
    #[default]
    Constant,
    /// Independent events, like those of many users (a Poisson process): bursts and pauses around
    /// the rate
    Poisson,
}

/// Positions of the events of a run, one after the other.
#[derive(Debug)]
pub(crate) enum Arrivals {
    /// Event n has position n.
    Constant {
        /// Position of the next event.
        next: u64,
    },
    /// The steps between positions are exponential with mean 1.
    Poisson {
        /// Position of the next event.
        next: f64,
        /// Source of the steps.
        rng: Box<Xoshiro256PlusPlus>,
    },
}

impl Arrivals {
    /// Starts before the first event.
    pub(crate) fn new(spread: Spread, seed: Option<u64>) -> Self {
        match spread {
            Spread::Constant => Self::Constant { next: 0 },
            Spread::Poisson => {
                let seeded = |seed: u64| Xoshiro256PlusPlus::seed_from_u64(seed ^ SEED_MARK);
                let mut rng = Box::new(seed.map_or_else(rand::make_rng, seeded));
                Self::Poisson {
                    next: exponential_step(&mut rng),
                    rng,
                }
            }
        }
    }

    /// The position of the next event.
    #[expect(
        clippy::cast_precision_loss,
        reason = "exact up to 2^53 events: 285 years at the highest rate"
    )]
    pub(crate) fn position(&self) -> f64 {
        match self {
            Self::Constant { next } => *next as f64,
            Self::Poisson { next, .. } => *next,
        }
    }

    /// Moves to the next event.
    pub(crate) fn advance(&mut self) {
        match self {
            Self::Constant { next } => *next += 1,
            Self::Poisson { next, rng } => *next += exponential_step(rng),
        }
    }
}

/// Returns an exponentially distributed number with mean 1, by inversion. The logarithm never sees
/// 0.
fn exponential_step(rng: &mut Xoshiro256PlusPlus) -> f64 {
    -(1.0 - rng.random::<f64>()).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positions(spread: Spread, seed: Option<u64>, count: usize) -> Vec<f64> {
        let mut arrivals = Arrivals::new(spread, seed);
        let mut positions = Vec::new();
        for _ in 0..count {
            positions.push(arrivals.position());
            arrivals.advance();
        }
        positions
    }

    #[test]
    fn constant_arrivals_are_numbered() {
        assert_eq!(positions(Spread::Constant, None, 4), [0.0, 1.0, 2.0, 3.0]);
    }

    #[test]
    fn poisson_arrivals_repeat_with_a_seed_and_only_then() {
        assert_eq!(
            positions(Spread::Poisson, Some(7), 50),
            positions(Spread::Poisson, Some(7), 50)
        );
        assert_ne!(
            positions(Spread::Poisson, Some(7), 50),
            positions(Spread::Poisson, Some(8), 50)
        );
        assert_ne!(
            positions(Spread::Poisson, None, 50),
            positions(Spread::Poisson, None, 50)
        );
    }

    #[test]
    fn poisson_steps_have_the_mean_and_the_spread_of_independent_events() {
        let positions = positions(Spread::Poisson, Some(1), 100_001);
        let steps: Vec<f64> = positions.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = steps.iter().sum::<f64>() / 100_000.0;
        let variance = steps.iter().map(|step| (step - mean).powi(2)).sum::<f64>() / 100_000.0;
        assert!(
            (mean - 1.0).abs() < 0.02 && (variance - 1.0).abs() < 0.05,
            "{mean} {variance}"
        );
        assert!(steps.iter().all(|step| *step >= 0.0 && step.is_finite()));
    }
}
