//! Names the events of a run in their data: the keys of [`sse_proto::record::Stamp`].

use std::fmt::Write as _;

use uuid::Uuid;

use super::event::EventSlot;

/// The random part of the publisher ids of a run. `--seed` does not set it: two runs must never
/// look like one.
#[derive(Debug, Clone)]
pub(crate) struct Stamper(Uuid);

impl Stamper {
    /// Chooses a new random name.
    pub(crate) fn new() -> Self {
        Self(Uuid::new_v4())
    }

    /// Returns the publisher id of a lane.
    pub(crate) fn publisher(&self, lane: u32) -> String {
        format!("{}/{lane}", self.0)
    }

    /// Appends `"publisher":"…","sequence":…,"sent_us":…` to an unfinished JSON object.
    pub(crate) fn write(&self, slot: EventSlot, out: &mut String) {
        let EventSlot { lane, due_us } = slot;
        write!(
            out,
            r#""publisher":"{}/{}","sequence":{},"sent_us":{due_us}"#,
            self.0, lane.number, lane.next
        )
        .expect("a String accepts any text");
    }
}
