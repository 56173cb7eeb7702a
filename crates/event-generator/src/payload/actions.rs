//! Actions of the users and their shares: the value of `--actions`, like `view=8,click=2`.

use std::str::FromStr;

use rand::{
    Rng,
    distr::{Distribution as _, weighted::WeightedIndex},
};
use sse_proto::{EventType, event::InvalidName};

use super::event_type::AnyEventType;

/// At least one action, each with its share of the events.
#[derive(Debug, Clone)]
pub(crate) struct Actions {
    names: Vec<AnyEventType>,
    shares: WeightedIndex<f64>,
}

impl Actions {
    /// Returns the actions in the order of the command line.
    pub(crate) fn names(&self) -> &[AnyEventType] {
        &self.names
    }

    /// Chooses an action by the weights, and returns its index in [`names`](Self::names).
    pub(crate) fn choose(&self, rng: &mut impl Rng) -> usize {
        self.shares.sample(rng)
    }
}

impl FromStr for Actions {
    type Err = InvalidActions;

    /// Parses `name` or `name=weight`, separated by commas. White space around them is ignored.
    fn from_str(text: &str) -> Result<Self, InvalidActions> {
        let parts: Vec<_> = text
            .split(',')
            .map(parse_action)
            .collect::<Result<_, _>>()?;
        let shares = WeightedIndex::new(parts.iter().map(|(_, weight)| *weight))
            .map_err(|_| InvalidActions::Sum)?;
        Ok(Self {
            names: parts.into_iter().map(|(name, _)| name).collect(),
            shares,
        })
    }
}

fn parse_action(part: &str) -> Result<(AnyEventType, f64), InvalidActions> {
    // Split from the right: a name may contain "=" if a weight follows.
    let (name, weight) = match part.rsplit_once('=') {
        Some((name, weight)) => (name.trim(), parse_weight(weight.trim())?),
        None => (part.trim(), 1.0),
    };
    let invalid = |reason| InvalidActions::Name {
        name: name.to_owned(),
        reason,
    };
    let event_type: EventType = name.parse().map_err(invalid)?;
    if matches!(name, "." | "..") {
        Err(InvalidActions::Dots)
    } else {
        Ok((event_type.into(), weight))
    }
}

fn parse_weight(text: &str) -> Result<f64, InvalidActions> {
    match text.parse::<f64>() {
        Ok(weight) if weight.is_finite() && weight >= 0.0 => Ok(weight),
        _ => Err(InvalidActions::Weight(text.to_owned())),
    }
}

/// Why a text is no list of actions.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidActions {
    #[error("\"{name}\" cannot be an action: {reason}")]
    Name { name: String, reason: InvalidName },
    #[error("\".\" and \"..\" cannot be actions: they have a meaning in the path of a URL")]
    Dots,
    #[error("\"{0}\" is not a weight: write a number that is not negative, like view=8,click=2")]
    Weight(String),
    #[error("the sum of the weights must be more than 0 and finite")]
    Sum,
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng as _, rngs::Xoshiro256PlusPlus};

    use super::*;

    fn chosen(actions: &str, events: usize) -> Vec<usize> {
        let actions: Actions = actions.parse().unwrap();
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut counts = vec![0; actions.names().len()];
        for _ in 0..events {
            counts[actions.choose(&mut rng)] += 1;
        }
        counts
    }

    #[test]
    fn without_weights_all_actions_are_equally_frequent() {
        for count in chosen("view,click,close", 30_000) {
            assert!((9_500..10_500).contains(&count), "{count}");
        }
    }

    #[test]
    fn weights_are_shares_and_zero_means_never() {
        let counts = chosen("view=8, click=2, close=0", 10_000);
        assert!((7_800..8_200).contains(&counts[0]), "{counts:?}");
        assert_eq!((counts[0] + counts[1], counts[2]), (10_000, 0));
    }

    #[test]
    fn a_name_may_contain_an_equals_sign_if_a_weight_follows() {
        let actions: Actions = "a=b=0.5".parse().unwrap();
        assert_eq!(actions.names()[0].as_str(), "a=b");
    }

    #[test]
    fn invalid_actions_are_rejected() {
        use InvalidActions::{Dots, Sum, Weight};
        for (bad, error) in [
            ("view=0,click=0", Sum),
            ("a=1e308,b=1e308", Sum),
            ("a=-1", Weight("-1".to_owned())),
            ("a=nan", Weight("nan".to_owned())),
            ("a=inf", Weight("inf".to_owned())),
            ("a=", Weight(String::new())),
            ("..", Dots),
            ("view,.=3", Dots),
        ] {
            assert_eq!(bad.parse::<Actions>().err(), Some(error), "{bad:?}");
        }
        for bad in ["", "view,", "a/b", "gap", "error=2", "a\nb", "=2"] {
            assert!(
                matches!(bad.parse::<Actions>(), Err(InvalidActions::Name { .. })),
                "{bad:?}"
            );
        }
    }
}
