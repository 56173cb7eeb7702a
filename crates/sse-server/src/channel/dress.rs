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

/// How the data of events is wrapped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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
    pub const NONE: Self = Self { left: &[], right: &[] };

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
    pub(super) fn new(channel: &'a Channel, envelope: Envelope, neighbours: Neighbours<'_>) -> Self {
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
        Self { channel, envelope, before, after }
    }

    /// An event as the log has it.
    pub(super) fn event(&self, out: &mut BytesMut, id: EventId, kind: &str, data: &str) {
        let cursor = self.cursor(Position::After(id));
        match self.envelope {
            Envelope::None => wire::event(out, cursor, kind, data),
            Envelope::Json => wire::event(out, cursor, kind, &self.enveloped(id, kind, data)),
        }
    }

    /// A gap, after which the subscriber stands at `position`.
    pub(super) fn gap(&self, out: &mut BytesMut, position: Position, gap: &Gap) {
        let data = serde_json::to_string(gap).expect("a gap has only strings");
        wire::event(out, self.cursor(position), "gap", &data);
    }

    fn frame(&self, out: &mut BytesMut, frame: &Frame) {
        match self.envelope {
            Envelope::None => {
                wire::id(out, self.cursor(Position::After(frame.id)));
                out.extend_from_slice(frame.after_id());
            }
            Envelope::Json => self.event(out, frame.id, &frame.kind, &frame.data()),
        }
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

/// Frames that become one chunk: shared as they are if they can be.
pub(super) enum Joined<'a> {
    Shared { frames: Vec<&'a Frame>, bytes: usize },
    Dressed { dress: Box<Dress<'a>>, out: BytesMut, events: usize },
}

impl<'a> Joined<'a> {
    pub(super) fn new(channel: &'a Channel, envelope: Envelope, neighbours: Neighbours<'_>) -> Self {
        if neighbours.are_none() && envelope == Envelope::None {
            return Self::Shared { frames: Vec::new(), bytes: 0 };
        }
        let dress = Box::new(Dress::new(channel, envelope, neighbours));
        Self::Dressed { dress, out: BytesMut::new(), events: 0 }
    }

    /// Adds a frame, unless the chunk is full.
    pub(super) fn add(&mut self, frame: &'a Frame) -> bool {
        match self {
            Self::Shared { frames, bytes } => {
                let fits = frames.is_empty() || *bytes + frame.bytes.len() <= CHUNK_BYTES_MAX;
                if fits {
                    *bytes += frame.bytes.len();
                    frames.push(frame);
                }
                fits
            }
            Self::Dressed { dress, out, events } => {
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
        let (bytes, events): (Bytes, usize) = match self {
            Self::Shared { frames, bytes } => match frames.as_slice() {
                [] => return None,
                [one] => (one.bytes.clone(), 1),
                many => {
                    let mut joined = BytesMut::with_capacity(bytes);
                    for frame in many {
                        joined.extend_from_slice(&frame.bytes);
                    }
                    (joined.freeze(), many.len())
                }
            },
            Self::Dressed { events: 0, .. } => return None,
            Self::Dressed { out, events, .. } => (out.freeze(), events),
        };
        Some(Chunk { bytes, events, gap: None })
    }
}
