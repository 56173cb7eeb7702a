//! Frame: one event, encoded once for all subscribers of its channel.
//!
//! A frame holds the block that goes over the wire. It keeps the published data only if the block
//! does not show it, and it encodes the block with an envelope when the first subscriber needs it.

use std::{borrow::Cow, sync::OnceLock};

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use sse_proto::{EventId, wire};

use crate::{
    broker::{
        GAP, Stored,
        lifecycle::{END, is_control, wire_kind},
        lost_of,
    },
    budget::allocated_bytes,
};

/// One event as it goes over the wire.
#[derive(Debug, Clone)]
pub struct Frame {
    /// The event's id.
    pub id: EventId,
    /// The event's type, for filters.
    pub kind: ByteString,
    /// The whole block, which begins with the line `id: …`.
    pub bytes: Bytes,
    /// The published data, if its lines do not all end with LF. The block has LF only.
    data: Option<Box<str>>,
    /// The block with its data in an envelope, once a subscriber has asked for it.
    enveloped: OnceLock<Box<Bytes>>,
    /// Memory that is free once this frame and all frames before it are dropped: that of the buffer,
    /// if the frame is the last one in its buffer.
    charge: usize,
}

/// Bytes of an allocation that the bytes of a buffer or of an envelope share.
const SHARED_OVERHEAD: usize = 96;

impl Frame {
    /// Encodes `events` into one buffer, which the frames share. `length` is that of their blocks
    /// together, and `last_kind` the type of the event before them.
    pub(super) fn encode_all(
        events: Vec<Stored>,
        length: usize,
        last_kind: Option<ByteString>,
    ) -> Vec<Self> {
        let mut buffer = BytesMut::with_capacity(length);
        let mut kind = last_kind.unwrap_or_default();
        let mut charge = allocated_bytes(length) + SHARED_OVERHEAD;
        let mut frames = Vec::with_capacity(events.len());
        for mut event in events {
            if event.kind != kind {
                // The type may be a small part of a large allocation, which the copy does not keep.
                kind = ByteString::from(&*event.kind);
                charge += allocated_bytes(kind.len()) + SHARED_OVERHEAD;
            }
            event.kind.clone_from(&kind);
            let frame = Self::encode(event, &mut buffer);
            charge += frame
                .data
                .as_ref()
                .map_or(0, |data| allocated_bytes(data.len()));
            frames.push(frame);
        }
        if let Some(last) = frames.last_mut() {
            last.charge = charge;
        }
        frames
    }

    /// Returns the length of the block of `event`.
    pub(super) fn block_len(event: &Stored) -> usize {
        let digits = |number: u64| number.checked_ilog10().unwrap_or(0) as usize + 1;
        let id_length = digits(event.id.ms) + 1 + digits(event.id.seq);
        wire::event_len(id_length, wire_kind(&event.kind), &event.data)
    }

    /// Encodes `event` into `buffer`.
    pub(super) fn encode(event: Stored, buffer: &mut BytesMut) -> Self {
        wire::event(buffer, event.id, wire_kind(&event.kind), &event.data);
        let data = event.data.contains('\r').then(|| Box::from(&*event.data));
        Self {
            id: event.id,
            kind: event.kind,
            bytes: buffer.split().freeze(),
            data,
            enveloped: OnceLock::new(),
            charge: 0,
        }
    }

    /// Whether this is an event, and neither a gap record nor the end of the channel, which every
    /// filter passes and no envelope wraps.
    #[must_use]
    pub fn is_event(&self) -> bool {
        !is_control(&self.kind)
    }

    /// Whether this is the end of the channel, after which nothing follows.
    #[must_use]
    pub fn is_end(&self) -> bool {
        self.kind == END
    }

    /// Whether this is a gap record.
    #[must_use]
    pub fn is_gap(&self) -> bool {
        self.kind == GAP
    }

    /// Whether the event is sent to a reader that ends at `bound`; see [`Stored::is_within`].
    #[must_use]
    pub fn is_within(&self, bound: EventId) -> bool {
        self.id <= bound
            || self.is_gap()
                && lost_of(&self.kind, &self.data()).is_some_and(|lost| lost.after < bound)
    }

    /// Returns the memory that is free once this frame and all frames before it are dropped, without
    /// the frame itself and its envelope.
    pub(super) const fn charge(&self) -> usize {
        self.charge
    }

    /// Takes over the charge of the next frame, which is dropped before this one. If this frame has
    /// a charge, the next one is not in its buffer.
    pub(super) const fn inherit_charge(&mut self, next: usize) -> usize {
        if self.charge == 0 {
            self.charge = next;
            0
        } else {
            next
        }
    }

    /// Returns the memory of the block with an envelope.
    pub(super) fn envelope_bytes(&self) -> usize {
        let enveloped = self.enveloped.get();
        enveloped.map_or(0, |block| allocated_bytes(block.len()) + SHARED_OVERHEAD)
    }

    /// Returns the block with its data in an envelope; `encode` makes it on the first call.
    pub(super) fn enveloped(&self, encode: impl FnOnce(&str) -> Bytes) -> &Bytes {
        self.enveloped
            .get_or_init(|| Box::new(encode(&self.data())))
    }

    /// Returns the data as it was published.
    ///
    /// ```text
    /// id: 7-0                  skipped
    /// event: click             skipped
    /// data: first line     ->  first line
    /// data: second line    ->  second line
    /// ```
    pub(super) fn data(&self) -> Cow<'_, str> {
        if let Some(data) = &self.data {
            return Cow::Borrowed(data);
        }
        let start = memchr::memchr_iter(b'\n', &self.bytes)
            .nth(1)
            .map_or(self.bytes.len(), |end| end + 1);
        let block = std::str::from_utf8(&self.bytes[start..]).expect("written from text");
        let lines = block
            .strip_prefix("data: ")
            .and_then(|lines| lines.strip_suffix("\n\n"))
            .unwrap_or_default();
        if lines.contains('\n') {
            lines.replace("\ndata: ", "\n").into()
        } else {
            lines.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_returns_the_data_as_it_was_published() {
        for data in [
            "",
            "x",
            "\n",
            "a\nb",
            "a\r\nb\rc\n",
            "\r",
            "data: x\ndata: y",
            "\ndata: ",
            " é\u{2028} ",
        ] {
            let event = Stored {
                id: EventId::new(1, 0),
                kind: "click".into(),
                data: data.into(),
            };
            let frame = Frame::encode(event, &mut BytesMut::new());
            assert_eq!(frame.data(), data);
            assert_eq!(
                frame.enveloped(|data| Bytes::from(format!("<{data}>"))),
                format!("<{data}>").as_bytes()
            );
            assert!(
                !frame.enveloped(|_| Bytes::new()).is_empty(),
                "the envelope is encoded once"
            );
        }
    }
}
