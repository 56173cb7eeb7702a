//! A subscriber that reads the wire.

use memchr::memmem;
use reqwest::Response;
use tokio::time::timeout;

use super::{PATIENCE, within};

/// An event as a subscriber receives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TestEvent {
    pub(crate) id: String,
    pub(crate) event: String,
    pub(crate) data: String,
}

/// A connection to `/stream` that reads every block. Dropping it closes the connection.
pub(crate) struct Subscriber {
    response: Response,
    bytes: Vec<u8>,
    /// Length of the prefix that is known to contain no end of a block.
    searched: usize,
    /// The last `id:` of any block, as an `EventSource` stores it.
    pub(crate) last_event_id: String,
}

impl Subscriber {
    pub(crate) fn new(response: Response) -> Self {
        Self {
            response,
            bytes: Vec::new(),
            searched: 0,
            last_event_id: String::new(),
        }
    }

    /// The next block, without its blank line; `None` at the end of the stream. A heartbeat without
    /// a position is a block of its own, although no blank line follows.
    pub(crate) async fn try_next_block(&mut self) -> Option<String> {
        loop {
            if self.bytes.starts_with(b":\n") {
                self.searched = 0;
                self.bytes.drain(..2);
                return Some(":".to_owned());
            }
            let found = memmem::find(&self.bytes[self.searched..], b"\n\n");
            if let Some(end) = found.map(|end| self.searched + end) {
                self.searched = 0;
                let block: Vec<u8> = self.bytes.drain(..end + 2).take(end).collect();
                let block = String::from_utf8(block).expect("UTF-8");
                for line in block.lines() {
                    if let Some(id) = line.strip_prefix("id: ") {
                        id.clone_into(&mut self.last_event_id);
                    }
                }
                return Some(block);
            }
            self.searched = self.bytes.len().saturating_sub(1);
            match timeout(PATIENCE, self.response.chunk())
                .await
                .expect("a block on the stream in time")
            {
                Ok(Some(bytes)) => self.bytes.extend_from_slice(&bytes),
                Ok(None) => return None,
                Err(error) => {
                    eprintln!(
                        "the stream broke: {error:?}, after {:?}",
                        String::from_utf8_lossy(&self.bytes)
                    );
                    return None;
                }
            }
        }
    }

    /// Waits for the end of the stream.
    pub(crate) async fn ended(&mut self) {
        within("the stream ends", async {
            while self.try_next_block().await.is_some() {}
        })
        .await;
    }

    pub(crate) async fn next_block(&mut self) -> String {
        self.try_next_block().await.expect("the stream continues")
    }

    /// The next event. Skips comments and blocks without data, but only up to a limit.
    pub(crate) async fn next_event(&mut self) -> TestEvent {
        within("an event", async {
            loop {
                let block = self.next_block().await;
                let data: Vec<&str> = block
                    .lines()
                    .filter_map(|line| line.strip_prefix("data: "))
                    .collect();
                if !data.is_empty() {
                    let event = block
                        .lines()
                        .find_map(|line| line.strip_prefix("event: "))
                        .expect("a type");
                    return TestEvent {
                        id: self.last_event_id.clone(),
                        event: event.to_owned(),
                        data: data.join("\n"),
                    };
                }
            }
        })
        .await
    }

    /// The data of the next `count` events.
    pub(crate) async fn take_data(&mut self, count: usize) -> Vec<String> {
        let mut data = Vec::with_capacity(count);
        while data.len() < count {
            data.push(self.next_event().await.data);
        }
        data
    }
}
