//! The smallest events with which loss and latency can be measured: a [`sse_proto::record::Stamp`],
//! padded to a size.

use rand::rngs::Xoshiro256PlusPlus;

use super::{
    actions::Actions,
    event::{DataFormat, EventSlot, NextEvent},
    rng::seeded_rng,
    stamper::Stamper,
};

/// Bytes of the key that holds the padding.
const PAD: &str = r#","pad":""}"#;

/// Numbered events with random actions.
#[derive(Debug)]
pub(crate) struct Sequenced {
    actions: Actions,
    rng: Xoshiro256PlusPlus,
    stamper: Stamper,
    bytes: Option<usize>,
}

impl Sequenced {
    /// Events of at least `bytes` bytes of data, and of exactly that size if the padding allows.
    pub(crate) fn new(
        actions: Actions,
        seed: Option<u64>,
        stamper: Stamper,
        bytes: Option<usize>,
    ) -> Self {
        Self {
            actions,
            rng: seeded_rng(seed),
            stamper,
            bytes,
        }
    }

    /// Writes the data of the next event to `data`.
    pub(super) fn next_event(&mut self, slot: EventSlot, data: &mut String) -> NextEvent {
        data.push('{');
        self.stamper.write(slot, data);
        match self.bytes {
            Some(bytes) if bytes > data.len() + 1 => append_padding(bytes, data),
            _ => data.push('}'),
        }
        let action = self.actions.choose(&mut self.rng);
        NextEvent {
            event_type: self.actions.names()[action].clone(),
            format: DataFormat::Json,
        }
    }
}

/// Ends the object in `data` with padding, so that it has `bytes` bytes if the padding allows.
fn append_padding(bytes: usize, data: &mut String) {
    let pad = bytes.saturating_sub(data.len() + PAD.len());
    data.push_str(&PAD[..PAD.len() - 2]);
    data.extend(std::iter::repeat_n('x', pad));
    data.push_str("\"}");
}

#[cfg(test)]
mod tests {
    use sse_proto::record::Stamp;

    use super::*;
    use crate::payload::lane::Lane;

    fn data(bytes: Option<usize>, sequence: u64) -> String {
        let mut data = String::new();
        let mut sequenced = Sequenced::new("a".parse().unwrap(), None, Stamper::new(), bytes);
        sequenced.next_event(
            EventSlot {
                lane: Lane {
                    number: 0,
                    next: sequence,
                },
                due_us: 1_795_523_086_339_397,
            },
            &mut data,
        );
        data
    }

    #[test]
    fn the_data_is_exactly_a_stamp() {
        let text = data(None, 12);
        let stamp: Stamp = serde_json::from_str(&text).unwrap();
        assert_eq!((stamp.sequence, stamp.sent_us), (12, 1_795_523_086_339_397));
        assert_eq!(serde_json::to_string(&stamp).unwrap(), text);
    }

    #[test]
    fn padded_data_has_its_size_and_is_still_a_stamp() {
        let bare = data(None, 0).len();
        for (bytes, expected) in [
            (0, bare),
            (bare, bare),
            (bare + 1, bare + 9),
            (bare + 9, bare + 9),
            (500, 500),
        ] {
            let text = data(Some(bytes), 0);
            assert_eq!(text.len(), expected, "{bytes}");
            assert!(serde_json::from_str::<Stamp>(&text).is_ok(), "{text}");
        }
    }
}
