//! Filter of event types.

use std::sync::Arc;

use sse_proto::EventType;

use crate::broker::lifecycle::is_control;

/// Which event types a reader wants. The default passes every type.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Filter(Option<Arc<[EventType]>>);

impl Filter {
    /// A filter for `kinds`; without any type, all events pass.
    #[must_use]
    pub fn new(mut kinds: Vec<EventType>) -> Self {
        // Equal sets make equal filters, so that subscribers with the same filter share their work.
        kinds.sort_unstable();
        kinds.dedup();
        Self((!kinds.is_empty()).then(|| kinds.into()))
    }

    /// Whether every event passes.
    #[must_use]
    pub const fn is_all(&self) -> bool {
        self.0.is_none()
    }

    /// Whether events of type `kind` pass. A gap record and the end of a channel pass every filter.
    #[must_use]
    pub fn passes(&self, kind: &str) -> bool {
        let Some(kinds) = &self.0 else {
            return true;
        };
        is_control(kind) || kinds.iter().any(|wanted| wanted.as_str() == kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::{GAP, lifecycle::END};

    fn filter(kinds: &[&str]) -> Filter {
        Filter::new(kinds.iter().map(|kind| kind.parse().unwrap()).collect())
    }

    #[test]
    fn a_filter_passes_its_types_and_every_gap() {
        let clicks = filter(&["click", "key"]);
        assert!(clicks.passes("click") && clicks.passes("key") && clicks.passes(GAP));
        assert!(clicks.passes(END) && !clicks.passes("end"));
        assert!(!clicks.passes("view") && !clicks.is_all());
        assert!(filter(&[]).is_all() && filter(&[]).passes("view"));
    }

    #[test]
    fn the_order_and_number_of_mentions_make_no_difference() {
        assert_eq!(filter(&["a", "b", "a"]), filter(&["b", "a"]));
    }
}
