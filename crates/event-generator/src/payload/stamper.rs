//! Names the events of a run in their data: the keys of [`sse_proto::record::Stamp`].

use std::fmt::Write as _;

use uuid::Uuid;

use super::event::EventSlot;

/// The publisher's half of a stamp. Random whatever the seed: two runs must never be taken for one.
#[derive(Debug, Clone)]
pub(crate) struct Stamper(Uuid);

impl Stamper {
    /// A name for a run that no other has.
    pub(crate) fn new() -> Self {
        Self(Uuid::new_v4())
    }

    /// The name of a lane of the run.
    pub(crate) fn publisher(&self, lane: u32) -> String {
        format!("{}/{lane}", self.0)
    }

    /// Adds `"publisher":"…","sequence":…,"sent_us":…` to an object that is being written.
    pub(crate) fn write(&self, slot: EventSlot, out: &mut String) {
        let EventSlot { lane, due_us } = slot;
        write!(
            out,
            r#""publisher":"{}/{}","sequence":{},"sent_us":{due_us}"#,
            self.0, lane.number, lane.next
        )
        .expect("a String takes any text");
    }
}
