//! Encoding: how the events of a channel look in one stream.
//!
//! Streams differ in two ways. The ids of a stream of several channels are composite cursors, and
//! the data may be wrapped in an envelope:
//!
//! ```text
//! channel b, no envelope        id: 7-0                   data: hello
//! channel b, JSON envelope      id: 7-0                   data: {"id":"7-0","channel":"b",…}
//! channels a,b,c, no envelope   id: a=5-0,b=7-0,c=@9-0    data: hello
//!                                   │       │  └── `IdAffixes::after` of channel b
//!                                   │       └── position in channel b
//!                                   └── `IdAffixes::before` of channel b
//! ```
//!
//! A stream of one channel sends the blocks that the tail shares. A composite cursor always lists
//! all channels, so its blocks are encoded per stream.

use std::fmt;

use bytes::{Bytes, BytesMut};
use sse_proto::{
    Channel, EventId, Position,
    api::{self, Gap},
    units::time_text,
    wire,
};

use super::frame::Frame;
use crate::broker::{
    GAP, Stored,
    lifecycle::{END, wire_kind},
};

/// The last data of a completed channel for `profile=data`.
const DONE: &str = "[DONE]";
/// The reason with which a channel ends that has everything.
const COMPLETED: &str = "completed";

/// How the data of events is wrapped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Envelope {
    /// The data is sent as it was published.
    #[default]
    None,
    /// Only the data is sent, without the type (`profile=data`). A gap ends the stream, and the end of
    /// a completed channel is `[DONE]`.
    Data,
    /// The data is wrapped as [`api::Envelope`]. A gap and the end of a channel are not wrapped.
    Json,
}

/// The parts of an id that are the positions of the stream's other channels.
///
/// Both are empty in a stream of one channel. In a composite cursor `before` ends with the name of
/// the channel that writes.
#[derive(Debug, Clone, Copy, Default)]
pub struct IdAffixes<'a> {
    /// The text before the channel's own position.
    pub before: &'a str,
    /// The text after the channel's own position.
    pub after: &'a str,
}

impl IdAffixes<'_> {
    /// The affixes of a stream of one channel.
    pub const NONE: Self = Self {
        before: "",
        after: "",
    };
}

/// Encodes the events of one channel for one stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct EventEncoder<'a> {
    channel: &'a Channel,
    envelope: Envelope,
    affixes: IdAffixes<'a>,
}

impl<'a> EventEncoder<'a> {
    pub(super) const fn new(
        channel: &'a Channel,
        envelope: Envelope,
        affixes: IdAffixes<'a>,
    ) -> Self {
        Self {
            channel,
            envelope,
            affixes,
        }
    }

    /// Encodes an event of a page.
    pub(super) fn encode_event(&self, out: &mut BytesMut, event: &Stored) {
        let cursor = self.cursor(Position::After(event.id));
        if self.envelope == Envelope::Data {
            self.encode_data(out, event.id, &event.kind, &event.data);
        } else if self.envelope == Envelope::Json && event.is_event() {
            let data = self.wrap_data(event.id, &event.kind, &event.data);
            wire::event(out, cursor, &event.kind, &data);
        } else {
            wire::event(out, cursor, wire_kind(&event.kind), &event.data);
        }
    }

    /// Encodes a gap after which the subscriber is at `position`.
    pub(super) fn encode_gap(&self, out: &mut BytesMut, position: Position, gap: &Gap) {
        if self.envelope == Envelope::Data {
            return;
        }
        let data = serde_json::to_string(gap).expect("a gap has only strings");
        wire::event(out, self.cursor(position), GAP, &data);
    }

    /// Encodes a frame with the id of this stream: the id line, and the rest of the shared block.
    pub(super) fn encode_frame(&self, out: &mut BytesMut, frame: &Frame) {
        if self.envelope == Envelope::Data {
            return self.encode_data(out, frame.id, &frame.kind, &frame.data());
        }
        let block = self.shared_block(frame);
        wire::id(out, self.cursor(Position::After(frame.id)));
        let rest = memchr::memchr(b'\n', block).map_or(block.len(), |end| end + 1);
        out.extend_from_slice(&block[rest..]);
    }

    /// Returns the block that all streams of one channel with this envelope share.
    pub(super) fn shared_block<'f>(&self, frame: &'f Frame) -> &'f Bytes {
        if self.envelope == Envelope::None || !frame.is_event() {
            return &frame.bytes;
        }
        frame.enveloped(|data| {
            let data = self.wrap_data(frame.id, &frame.kind, data);
            // JSON text has no line end, so this is enough for all of it.
            let mut out = BytesMut::with_capacity(data.len() + frame.kind.len() + 64);
            wire::event(&mut out, frame.id, &frame.kind, &data);
            out.freeze()
        })
    }

    /// Encodes an event, or the end of the channel, without its type.
    fn encode_data(&self, out: &mut BytesMut, id: EventId, kind: &str, data: &str) {
        let cursor = self.cursor(Position::After(id));
        if kind != END {
            wire::data(out, cursor, data);
        } else if is_completed(data) {
            wire::data(out, cursor, DONE);
        } else {
            // With this position, a client that reconnects gets a 204.
            wire::position(out, cursor);
        }
    }

    /// Whether the stream sends the blocks of the tail as they are.
    pub(super) fn shares_blocks(&self) -> bool {
        self.affixes.before.is_empty() && self.envelope != Envelope::Data
    }

    fn cursor(&self, position: Position) -> impl fmt::Display {
        let IdAffixes { before, after } = self.affixes;
        fmt::from_fn(move |f| write!(f, "{before}{position}{after}"))
    }

    fn wrap_data(&self, id: EventId, kind: &str, data: &str) -> String {
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

/// Whether the data of an end has the reason `completed`.
fn is_completed(data: &str) -> bool {
    serde_json::from_str(data).is_ok_and(|end: api::End| end.reason == COMPLETED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(kind: &'static str, data: &'static str) -> Stored {
        Stored {
            id: EventId::new(7, 0),
            kind: kind.into(),
            data: data.into(),
        }
    }

    /// Encodes the same event from a page and from a frame.
    fn encode_both(envelope: Envelope, affixes: IdAffixes<'_>, event: &Stored) -> [String; 2] {
        let channel = "b".parse().unwrap();
        let encoder = EventEncoder::new(&channel, envelope, affixes);
        let frame = Frame::encode(event.clone(), &mut BytesMut::new());
        let (mut from_page, mut from_frame) = (BytesMut::new(), BytesMut::new());
        encoder.encode_event(&mut from_page, event);
        encoder.encode_frame(&mut from_frame, &frame);
        [from_page, from_frame].map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[test]
    fn a_composite_id_has_the_positions_of_all_channels() {
        let affixes = IdAffixes {
            before: "a=5-0,b=",
            after: ",c=@9-0",
        };
        for text in encode_both(Envelope::None, affixes, &stored("click", "hello")) {
            assert_eq!(
                text,
                "id: a=5-0,b=7-0,c=@9-0\nevent: click\ndata: hello\n\n"
            );
        }
    }

    #[test]
    fn an_envelope_wraps_events_of_pages_and_frames_alike_but_no_gap() {
        for (kind, data) in [("click", "a\r\nb"), (GAP, "{}"), (END, "{}")] {
            let [from_page, from_frame] =
                encode_both(Envelope::Json, IdAffixes::NONE, &stored(kind, data));
            assert_eq!(from_page, from_frame);
            let is_wrapped = from_page.contains(r#""channel":"b""#);
            assert_eq!(is_wrapped, kind == "click", "{from_page}");
            assert!(from_page.contains("event: ") && !from_page.contains('\0'));
        }
    }

    #[test]
    fn without_types_the_end_is_done_only_if_the_channel_is_completed() {
        let end = |reason: &str| format!(r#"{{"channel":"b","reason":"{reason}","last":"6-0"}}"#);
        let (completed, failed) = (end("completed"), end("failed"));
        for (kind, data, block) in [
            ("click", "{}\nx", "id: 7-0\ndata: {}\ndata: x\n\n"),
            (END, &*completed, "id: 7-0\ndata: [DONE]\n\n"),
            (END, &*failed, "id: 7-0\n\n"),
        ] {
            let event = Stored {
                id: EventId::new(7, 0),
                kind: kind.into(),
                data: data.into(),
            };
            for text in encode_both(Envelope::Data, IdAffixes::NONE, &event) {
                assert_eq!(text, block);
            }
        }
    }
}
