//! How events look to a subscriber: under the ids of its stream, and in the envelope that it asked for.
//!
//! A stream of one channel has that channel's ids; a stream of several has composite cursors, which always list all its
//! channels, so that whoever comes back with the last one goes on exactly in each. Only the plain look is shared: every
//! other one is encoded for its subscriber.

use std::fmt;

use bytes::{Bytes, BytesMut};
use sse_proto::{
    Channel, EventId, Position,
    api::{self, Gap},
    units::time_text,
    wire,
};

use super::{
    Subscription,
    subscription::{CHUNK_BYTES_MAX, Chunk},
    tail::Frame,
};
use crate::broker::GAP;

/// How the data of events is wrapped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Envelope {
    /// Not at all.
    #[default]
    None,
    /// As [`api::Envelope`]. A gap stays as it is.
    Json,
}

/// The other channels of a stream, in its order: those before and those after the one in question.
#[derive(Debug, Clone, Copy)]
pub struct Neighbours<'a> {
    pub(super) left: &'a [Subscription],
    pub(super) right: &'a [Subscription],
}

impl Neighbours<'_> {
    /// Of a stream of one channel.
    pub const NONE: Self = Self {
        left: &[],
        right: &[],
    };

    const fn are_none(self) -> bool {
        self.left.is_empty() && self.right.is_empty()
    }
}

/// Writes the events of one channel of a stream.
pub(super) struct Dress<'a> {
    channel: &'a Channel,
    envelope: Envelope,
    /// What comes before and after this channel's position in an id. The other channels do not move meanwhile.
    before: String,
    after: String,
}

impl<'a> Dress<'a> {
    pub(super) fn new(
        channel: &'a Channel,
        envelope: Envelope,
        neighbours: Neighbours<'_>,
    ) -> Self {
        use std::fmt::Write as _;
        let (mut before, mut after) = (String::new(), String::new());
        if !neighbours.are_none() {
            // Writing into memory that grows cannot fail.
            for other in neighbours.left {
                let _ = write!(before, "{}={},", other.channel(), other.position());
            }
            let _ = write!(before, "{channel}=");
            for other in neighbours.right {
                let _ = write!(after, ",{}={}", other.channel(), other.position());
            }
        }
        Self {
            channel,
            envelope,
            before,
            after,
        }
    }

    /// An event as the log has it.
    pub(super) fn event(&self, out: &mut BytesMut, id: EventId, kind: &str, data: &str) {
        let cursor = self.cursor(Position::After(id));
        match self.envelope {
            Envelope::Json if kind != GAP => {
                wire::event(out, cursor, kind, &self.enveloped(id, kind, data))
            }
            Envelope::None | Envelope::Json => wire::event(out, cursor, kind, data),
        }
    }

    /// A gap, after which the subscriber stands at `position`.
    pub(super) fn gap(&self, out: &mut BytesMut, position: Position, gap: &Gap) {
        let data = serde_json::to_string(gap).expect("a gap has only strings");
        wire::event(out, self.cursor(position), GAP, &data);
    }

    /// The block of a frame, under the ids of its own channel.
    fn block<'f>(&self, frame: &'f Frame) -> &'f Bytes {
        match self.envelope {
            Envelope::Json if !frame.is_gap() => frame.enveloped(|data| {
                let mut out = BytesMut::new();
                wire::event(
                    &mut out,
                    frame.id,
                    &frame.kind,
                    &self.enveloped(frame.id, &frame.kind, data),
                );
                out.freeze()
            }),
            Envelope::None | Envelope::Json => &frame.bytes,
        }
    }

    /// The block of a frame, under the ids of this stream.
    fn frame(&self, out: &mut BytesMut, frame: &Frame) {
        let block = self.block(frame);
        wire::id(out, self.cursor(Position::After(frame.id)));
        // What follows the line of its own id.
        let rest = memchr::memchr(b'\n', block).map_or(block.len(), |end| end + 1);
        out.extend_from_slice(&block[rest..]);
    }

    fn cursor(&self, position: Position) -> impl fmt::Display {
        fmt::from_fn(move |f| write!(f, "{}{position}{}", self.before, self.after))
    }

    fn enveloped(&self, id: EventId, kind: &str, data: &str) -> String {
        let envelope = api::Envelope {
            id,
            channel: self.channel.as_str().into(),
            event: kind.into(),
            data: data.into(),
            time: time_text(id.ms).into(),
        };
        serde_json::to_string(&envelope).expect("an envelope has only strings")
    }
}

/// Frames that become one chunk: shared as they are, unless the ids are those of several channels.
pub(super) enum Joined<'a> {
    Shared {
        dress: Dress<'a>,
        blocks: Vec<&'a Bytes>,
        bytes: usize,
    },
    Own {
        dress: Dress<'a>,
        out: BytesMut,
        events: usize,
    },
}

impl<'a> Joined<'a> {
    pub(super) fn new(
        channel: &'a Channel,
        envelope: Envelope,
        neighbours: Neighbours<'_>,
    ) -> Self {
        let dress = Dress::new(channel, envelope, neighbours);
        if neighbours.are_none() {
            Self::Shared {
                dress,
                blocks: Vec::new(),
                bytes: 0,
            }
        } else {
            Self::Own {
                dress,
                out: BytesMut::new(),
                events: 0,
            }
        }
    }

    /// Adds a frame, unless the chunk is full.
    pub(super) fn add(&mut self, frame: &'a Frame) -> bool {
        match self {
            Self::Shared {
                dress,
                blocks,
                bytes,
            } => {
                let block = dress.block(frame);
                let fits = blocks.is_empty() || *bytes + block.len() <= CHUNK_BYTES_MAX;
                if fits {
                    *bytes += block.len();
                    blocks.push(block);
                }
                fits
            }
            Self::Own { dress, out, events } => {
                let before = out.len();
                dress.frame(out, frame);
                let fits = *events == 0 || out.len() <= CHUNK_BYTES_MAX;
                if fits {
                    *events += 1;
                } else {
                    out.truncate(before);
                }
                fits
            }
        }
    }

    /// The chunk; none without a frame.
    pub(super) fn chunk(self) -> Option<Chunk> {
        let (bytes, events) = match self {
            Self::Shared { blocks, bytes, .. } => match blocks.as_slice() {
                [] => return None,
                [one] => (Bytes::clone(one), 1),
                many => {
                    let mut joined = BytesMut::with_capacity(bytes);
                    for block in many {
                        joined.extend_from_slice(block);
                    }
                    (joined.freeze(), many.len())
                }
            },
            Self::Own { events: 0, .. } => return None,
            Self::Own { out, events, .. } => (out.freeze(), events),
        };
        Some(Chunk {
            bytes,
            events,
            gap: None,
        })
    }
}
