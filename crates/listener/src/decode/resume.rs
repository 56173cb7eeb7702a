//! State that outlives a connection: the last event id and the reconnection time (WHATWG HTML
//! §9.2.6).

use std::time::Duration;

use sse_proto::blocks::Block;

/// The last event id and the reconnection time that the server set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResumeState {
    last_event_id: String,
    retry: Option<Duration>,
}

impl ResumeState {
    /// Starts after the event with this id. With an empty id, the stream starts with the next
    /// event.
    #[must_use]
    pub fn starting_after(last_event_id: impl Into<String>) -> Self {
        Self {
            last_event_id: last_event_id.into(),
            retry: None,
        }
    }

    /// Applies the id of a complete block. An empty id resets the id; without an id, it stays.
    pub fn apply_block(&mut self, block: &Block) {
        if let Some(id) = &block.id {
            self.last_event_id.clone_from(id);
        }
    }

    /// Applies a `retry` field, whose line has ended.
    pub fn apply_retry(&mut self, retry_ms: u64) {
        self.retry = Some(Duration::from_millis(retry_ms));
    }

    /// Removes the id.
    pub fn clear_last_event_id(&mut self) {
        self.last_event_id.clear();
    }

    /// The id to resume after; empty if there is none.
    #[must_use]
    pub fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// The reconnection time, if the server set one.
    #[must_use]
    pub const fn retry(&self) -> Option<Duration> {
        self.retry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_empty_id_resets_the_id() {
        let mut resume = ResumeState::starting_after("1-0");
        resume.apply_retry(7);
        resume.apply_block(&Block {
            has_data: true,
            ..Block::default()
        });
        assert_eq!(
            (resume.last_event_id(), resume.retry()),
            ("1-0", Some(Duration::from_millis(7)))
        );
        resume.apply_block(&Block {
            id: Some("2-0".to_owned()),
            ..Block::default()
        });
        assert_eq!(
            (resume.last_event_id(), resume.retry()),
            ("2-0", Some(Duration::from_millis(7)))
        );
        resume.apply_block(&Block {
            id: Some(String::new()),
            ..Block::default()
        });
        assert_eq!(resume.last_event_id(), "");
    }
}
