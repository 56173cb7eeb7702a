//! How events are spread under the curve of the rate: evenly, or as independent users would send them.
//!
//! Both walk along the number of events, not along time: the curve turns the position of each into its time.

use clap::ValueEnum;
use rand::{RngExt as _, SeedableRng as _, rngs::Xoshiro256PlusPlus};

/// Keeps the arrivals apart from the payload that the same seed gives.
const SEED_MARK: u64 = 0x9e37_79b9_7f4a_7c15;

/// What `--arrivals` takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Spread {
    /// The same distance from each event to the next
    #[default]
    Constant,
    /// Independent of one another, as many users are (a Poisson process): bursts and pauses around the same rate
    Poisson,
}

/// The positions of the events, one after the other.
#[derive(Debug)]
pub(crate) enum Arrivals {
    /// Event n has position n.
    Constant {
        /// The next one.
        next: u64,
    },
    /// The steps between positions are exponential with mean 1.
    Poisson {
        /// Where the next one is.
        next: f64,
        /// Draws the steps.
        rng: Box<Xoshiro256PlusPlus>,
    },
}

impl Arrivals {
    /// Before the first event.
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

    /// Goes on to the event after it.
    pub(crate) fn advance(&mut self) {
        match self {
            Self::Constant { next } => *next += 1,
            Self::Poisson { next, rng } => *next += exponential_step(rng),
        }
    }
}

/// Exponential with mean 1, by the inverse of its distribution; the argument of the logarithm is never 0.
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
