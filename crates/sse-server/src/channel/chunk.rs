//! Chunk: blocks that are sent to a subscriber in one piece.

use bytes::{Bytes, BytesMut};
use sse_proto::{
    Notice, Position,
    api::{Gap, GapReason},
    wire,
};

use super::{encode::EventEncoder, frame::Frame};
use crate::broker::{GAP, Stored, lifecycle::is_control};

/// A chunk of frames has at most this many bytes, or one event.
pub(super) const CHUNK_BYTES_MAX: usize = 64 << 10;

/// Bytes to send in one piece: whole blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The blocks, at least one.
    pub bytes: Bytes,
    /// Number of events in the blocks. A gap and the end of a channel are no events.
    pub events: usize,
    /// The reason of the gap, if the chunk reports one.
    pub gap: Option<GapReason>,
}

impl Chunk {
    /// A chunk of one notice.
    pub(crate) fn notice(notice: &Notice) -> Self {
        let mut bytes = BytesMut::new();
        wire::notice(&mut bytes, notice);
        Self {
            bytes: bytes.freeze(),
            events: 0,
            gap: None,
        }
    }
}

/// Collects blocks into one chunk.
pub(super) struct ChunkBuilder<'a> {
    encoder: EventEncoder<'a>,
    blocks: Blocks<'a>,
    events: usize,
    gap: Option<GapReason>,
}

enum Blocks<'a> {
    /// Blocks of frames, which all streams of one channel share, and their bytes.
    Shared(Vec<&'a Bytes>, usize),
    /// Blocks that were encoded for this stream.
    Encoded(BytesMut),
}

impl<'a> ChunkBuilder<'a> {
    /// A chunk of frames. Only a stream of several channels copies them.
    pub(super) fn for_frames(encoder: EventEncoder<'a>) -> Self {
        let blocks = if encoder.shares_blocks() {
            Blocks::Shared(Vec::new(), 0)
        } else {
            Blocks::Encoded(BytesMut::new())
        };
        Self::new(encoder, blocks)
    }

    /// A chunk of events that come from a page of history.
    pub(super) fn for_page(encoder: EventEncoder<'a>) -> Self {
        Self::new(encoder, Blocks::Encoded(BytesMut::new()))
    }

    const fn new(encoder: EventEncoder<'a>, blocks: Blocks<'a>) -> Self {
        Self {
            encoder,
            blocks,
            events: 0,
            gap: None,
        }
    }

    /// Adds a frame. Returns `false` if the frame belongs into the next chunk.
    ///
    /// A gap record always begins a chunk, so that a chunk never reports two gaps.
    pub(super) fn add_frame(&mut self, frame: &'a Frame) -> bool {
        let is_first = self.events == 0 && self.gap.is_none();
        if frame.is_gap() && !is_first {
            return false;
        }
        let is_added = match &mut self.blocks {
            Blocks::Shared(blocks, bytes) => {
                let block = self.encoder.shared_block(frame);
                let fits = is_first || *bytes + block.len() <= CHUNK_BYTES_MAX;
                if fits {
                    *bytes += block.len();
                    blocks.push(block);
                }
                fits
            }
            Blocks::Encoded(out) => {
                let length = out.len();
                self.encoder.encode_frame(out, frame);
                let fits = is_first || out.len() <= CHUNK_BYTES_MAX;
                if !fits {
                    out.truncate(length);
                }
                fits
            }
        };
        if is_added {
            self.count_entry(&frame.kind);
        }
        is_added
    }

    /// Adds an event of a page, however long the chunk is already.
    pub(super) fn add_event(&mut self, event: &Stored) {
        if let Blocks::Encoded(out) = &mut self.blocks {
            self.encoder.encode_event(out, event);
            self.count_entry(&event.kind);
        }
    }

    /// Adds a gap after which the subscriber is at `position`.
    pub(super) fn add_gap(&mut self, position: Position, gap: &Gap) {
        if let Blocks::Encoded(out) = &mut self.blocks {
            self.encoder.encode_gap(out, position, gap);
            self.gap.get_or_insert(gap.reason);
        }
    }

    fn count_entry(&mut self, kind: &str) {
        if kind == GAP {
            self.gap.get_or_insert(GapReason::LostTail);
        } else if !is_control(kind) {
            self.events += 1;
        }
    }

    /// Returns the chunk, or `None` if it has no block. One shared block is not copied.
    pub(super) fn finish(self) -> Option<Chunk> {
        let bytes = match self.blocks {
            Blocks::Shared(blocks, bytes) => join_blocks(&blocks, bytes),
            Blocks::Encoded(out) => out.freeze(),
        };
        (!bytes.is_empty()).then_some(Chunk {
            bytes,
            events: self.events,
            gap: self.gap,
        })
    }
}

fn join_blocks(blocks: &[&Bytes], bytes: usize) -> Bytes {
    if let [block] = blocks {
        return Bytes::clone(block);
    }
    let mut joined = BytesMut::with_capacity(bytes);
    for block in blocks {
        joined.extend_from_slice(block);
    }
    joined.freeze()
}

#[cfg(test)]
mod tests {
    use sse_proto::EventId;

    use super::*;
    use crate::channel::encode::{Envelope, IdAffixes};

    fn frame(ms: u64, kind: &'static str, data: &'static str) -> Frame {
        let event = Stored {
            id: EventId::new(ms, 0),
            kind: kind.into(),
            data: data.into(),
        };
        Frame::encode(event, &mut BytesMut::new())
    }

    const AFFIXES: IdAffixes<'_> = IdAffixes {
        before: "a=5-0,b=",
        after: ",c=@9-0",
    };

    #[test]
    fn a_single_frame_is_shared_and_not_copied() {
        let channel = "b".parse().unwrap();
        let encoder = EventEncoder::new(&channel, Envelope::None, IdAffixes::NONE);
        let frame = frame(7, "click", "hello");
        let mut builder = ChunkBuilder::for_frames(encoder);
        assert!(builder.add_frame(&frame));
        let chunk = builder.finish().unwrap();
        assert_eq!(chunk.bytes.as_ptr(), frame.bytes.as_ptr());
    }

    #[test]
    fn a_gap_record_begins_a_chunk_and_is_not_counted() {
        let channel = "b".parse().unwrap();
        let frames = [frame(1, "click", "x"), frame(2, GAP, "{}")];
        for affixes in [IdAffixes::NONE, AFFIXES] {
            let encoder = EventEncoder::new(&channel, Envelope::None, affixes);
            let mut builder = ChunkBuilder::for_frames(encoder);
            assert!(builder.add_frame(&frames[0]));
            assert!(!builder.add_frame(&frames[1]));
            let chunk = builder.finish().unwrap();
            assert_eq!((chunk.events, chunk.gap), (1, None));
            let mut builder = ChunkBuilder::for_frames(encoder);
            assert!(builder.add_frame(&frames[1]) && builder.add_frame(&frames[0]));
            let chunk = builder.finish().unwrap();
            assert_eq!((chunk.events, chunk.gap), (1, Some(GapReason::LostTail)));
        }
    }

    #[test]
    fn a_builder_without_a_block_makes_no_chunk() {
        let channel = "b".parse().unwrap();
        for affixes in [IdAffixes::NONE, AFFIXES] {
            let encoder = EventEncoder::new(&channel, Envelope::None, affixes);
            assert_eq!(ChunkBuilder::for_frames(encoder).finish(), None);
        }
    }
}
