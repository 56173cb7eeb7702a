//! A client that writes frames by hand.

use std::collections::VecDeque;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf, split};

use super::server::TestServer;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const ACK: u8 = 1;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Debug, Clone)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) id: u32,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    /// The status of a response, which is always its first field.
    pub(super) fn status(&self) -> u16 {
        assert_eq!(self.kind, HEADERS, "{self:?}");
        match self.payload[0] {
            0x88 => 200,
            0x89 => 204,
            0x8c => 400,
            0x8d => 404,
            _ => literal_status(&self.payload),
        }
    }

    /// The error code of a reset or of a GOAWAY.
    pub(super) fn code(&self) -> u32 {
        let start = if self.kind == GOAWAY { 4 } else { 0 };
        let code = self.payload[start..start + 4].try_into().unwrap();
        u32::from_be_bytes(code)
    }

    pub(super) fn is_last(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }
}

/// Decodes a literal `:status`: an index of the table, or of an earlier response.
fn literal_status(block: &[u8]) -> u16 {
    let (value, is_huffman) = (
        &block[2..2 + usize::from(block[1] & 0x7f)],
        block[1] & 0x80 != 0,
    );
    if !is_huffman {
        return std::str::from_utf8(value).unwrap().parse().unwrap();
    }
    // In the code of Huffman, the digits 0 to 2 have 5 bits, and the others have 6.
    let bits: Vec<u8> = value
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1))
        .collect();
    let take = |at: usize, count: usize| {
        bits[at..at + count]
            .iter()
            .fold(0_u8, |code, bit| code << 1 | bit)
    };
    let (mut at, mut status) = (0, 0);
    for _ in 0..3 {
        let (digit, length) = match take(at, 5) {
            short @ 0..=2 => (short, 5),
            _ => (take(at, 6) - 0x19 + 3, 6),
        };
        (status, at) = (status * 10 + u16::from(digit), at + length);
    }
    status
}

pub(super) struct Frames {
    reader: ReadHalf<DuplexStream>,
    writer: WriteHalf<DuplexStream>,
    last_id: u32,
    /// Frames that were read while another one was wanted.
    skipped: VecDeque<Frame>,
}

impl Frames {
    /// Connects, and exchanges settings.
    pub(super) async fn connect(server: &TestServer) -> Self {
        Self::connect_with(server, &[]).await
    }

    /// Connects with these settings.
    pub(super) async fn connect_with(server: &TestServer, settings: &[(u16, u32)]) -> Self {
        let (reader, writer) = split(server.open());
        let mut frames = Self {
            reader,
            writer,
            last_id: 0,
            skipped: VecDeque::new(),
        };
        frames.writer.write_all(PREFACE).await.unwrap();
        frames
            .send(SETTINGS, 0, 0, &encode_settings(settings))
            .await;
        frames
    }

    pub(super) async fn send(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8]) {
        self.try_send(kind, flags, id, payload).await.unwrap();
    }

    /// Sends a frame, unless the server has closed the connection.
    pub(super) async fn try_send(
        &mut self,
        kind: u8,
        flags: u8,
        id: u32,
        payload: &[u8],
    ) -> std::io::Result<()> {
        let bytes = encode_frame(kind, flags, id, payload);
        self.writer.write_all(&bytes).await
    }

    pub(super) async fn send_data(&mut self, id: u32, bytes: &[u8], is_last: bool) {
        self.send(DATA, u8::from(is_last), id, bytes).await;
    }

    /// Sends the head of a request, and returns the id of its stream.
    pub(super) async fn send_request(&mut self, fields: &[(&str, &str)], is_last: bool) -> u32 {
        let id = self.next_id();
        let flags = END_HEADERS | u8::from(is_last);
        self.send(HEADERS, flags, id, &encode_fields(fields)).await;
        id
    }

    /// Sends a `GET`.
    pub(super) async fn get(&mut self, path: &str) -> u32 {
        self.send_request(&get_fields(path), true).await
    }

    pub(super) fn next_id(&mut self) -> u32 {
        self.last_id += if self.last_id == 0 { 1 } else { 2 };
        self.last_id
    }

    /// Reads a frame; returns `None` at the end of the connection.
    pub(super) async fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.reader.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.reader.read_exact(&mut payload).await.ok()?;
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let (kind, flags) = (head[3], head[4]);
        if kind == SETTINGS && flags & ACK == 0 {
            // The server may have closed its end already.
            let _ = self.try_send(SETTINGS, ACK, 0, b"").await;
        }
        Some(Frame {
            kind,
            flags,
            id,
            payload,
        })
    }

    /// Reads the next frame of a stream, or of the connection for id 0.
    pub(super) async fn next_of(&mut self, id: u32) -> Frame {
        if let Some(at) = self.skipped.iter().position(|frame| frame.id == id) {
            return self.skipped.remove(at).unwrap();
        }
        loop {
            let frame = self.read().await.expect("the connection is open");
            if frame.id == id {
                return frame;
            }
            self.skipped.push_back(frame);
        }
    }

    /// Reads up to the end of the connection; returns the code of the last GOAWAY.
    pub(super) async fn read_to_end(&mut self) -> Option<u32> {
        let mut code = None;
        while let Some(frame) = self.read().await {
            if frame.kind == GOAWAY {
                code = Some(frame.code());
            }
        }
        code
    }
}

pub(super) fn get_fields(path: &str) -> [(&str, &str); 4] {
    [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", path),
        (":authority", "localhost"),
    ]
}

pub(super) fn encode_frame(kind: u8, flags: u8, id: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&id.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

fn encode_settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let encode = |(id, value): &(u16, u32)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
    settings.iter().flat_map(encode).collect()
}

/// Encodes fields as literals, without a table and without Huffman codes.
pub(super) fn encode_fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            encode_length(&mut block, text.len());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

fn encode_length(block: &mut Vec<u8>, length: usize) {
    let Some(mut rest) = length.checked_sub(127) else {
        block.push(u8::try_from(length).unwrap());
        return;
    };
    block.push(127);
    while rest >= 128 {
        block.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    block.push(u8::try_from(rest).unwrap());
}
