//! A subscriber that sees the wire.

use reqwest::Response;
use tokio::time::timeout;

use super::PATIENCE;

/// An event as a subscriber gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TestEvent {
    pub(crate) id: String,
    pub(crate) event: String,
    pub(crate) data: String,
}

/// A connection to `/stream` that sees every block. Dropping it closes the connection.
pub(crate) struct Subscriber {
    response: Response,
    bytes: Vec<u8>,
    /// The last `id:` of any block, as an `EventSource` keeps it.
    pub(crate) last_event_id: String,
}

impl Subscriber {
    pub(crate) fn new(response: Response) -> Self {
        Self { response, bytes: Vec::new(), last_event_id: String::new() }
    }

    /// The next block, without its blank line; none at the end of the stream.
    pub(crate) async fn try_next_block(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.bytes.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.bytes.drain(..end + 2).take(end).collect();
                let block = String::from_utf8(block).expect("UTF-8");
                for line in block.lines() {
                    if let Some(id) = line.strip_prefix("id: ") {
                        id.clone_into(&mut self.last_event_id);
                    }
                }
                return Some(block);
            }
            match timeout(PATIENCE, self.response.chunk()).await.expect("something on the stream in time") {
                Ok(Some(bytes)) => self.bytes.extend_from_slice(&bytes),
                Ok(None) | Err(_) => return None,
            }
        }
    }

    pub(crate) async fn next_block(&mut self) -> String {
        self.try_next_block().await.expect("the stream goes on")
    }

    /// The next event; comments and blocks without data are passed over.
    pub(crate) async fn next_event(&mut self) -> TestEvent {
        loop {
            let block = self.next_block().await;
            let data: Vec<&str> = block.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
            if !data.is_empty() {
                let event = block.lines().find_map(|line| line.strip_prefix("event: ")).expect("a type");
                return TestEvent { id: self.last_event_id.clone(), event: event.to_owned(), data: data.join("\n") };
            }
        }
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
