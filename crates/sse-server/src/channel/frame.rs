//! Frame: one event, encoded once for all subscribers of its channel.
//!
//! A frame holds the block that goes over the wire. It keeps the published data only if the block
//! does not show it, and it encodes the block with an envelope when the first subscriber needs it.

use std::{borrow::Cow, sync::OnceLock};

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use sse_proto::{EventId, wire};

use crate::broker::{GAP, Stored, lost_of};

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
}

impl Frame {
    /// Encodes `event` into `buffer`, which the frames of one read share.
    pub(super) fn encode(event: Stored, buffer: &mut BytesMut) -> Self {
        wire::event(buffer, event.id, &event.kind, &event.data);
        let data = event.data.contains('\r').then(|| Box::from(&*event.data));
        Self {
            id: event.id,
            kind: event.kind,
            bytes: buffer.split().freeze(),
            data,
            enveloped: OnceLock::new(),
        }
    }

    /// Whether this is a gap record. Every filter passes it, and no envelope wraps it.
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

    /// Bytes that count towards the limit of the tail.
    pub(super) fn size(&self) -> usize {
        self.bytes.len() + self.data.as_ref().map_or(0, |data| data.len())
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
    fn data(&self) -> Cow<'_, str> {
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
