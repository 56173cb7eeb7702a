//! The URLs of a stream, which are used in turn.
//!
//! After a failure the next node is tried at once. When every node has failed, there is a wait;
//! when every node has rejected the request, the last rejection is final.

use crate::{follow::request::StreamRequest, settings::stream_url::StreamUrl};

/// One URL of the stream.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) url: StreamUrl,
    pub(super) request: StreamRequest,
}

/// At least one node, and the failures in a row.
#[derive(Debug)]
pub(super) struct Nodes<N = Node> {
    list: Vec<N>,
    current: usize,
    /// Nodes in a row that opened no stream.
    failed: usize,
    /// Nodes in a row that rejected the request.
    rejected: usize,
}

impl<N> Nodes<N> {
    /// Begins with the first node of a list that is not empty.
    pub(super) const fn new(list: Vec<N>) -> Self {
        Self {
            list,
            current: 0,
            failed: 0,
            rejected: 0,
        }
    }

    pub(super) fn current(&self) -> &N {
        &self.list[self.current]
    }

    pub(super) fn select_next(&mut self) {
        self.current = (self.current + 1) % self.list.len();
    }

    /// Records that the current node opened a stream.
    pub(super) const fn record_stream(&mut self) {
        (self.failed, self.rejected) = (0, 0);
    }

    /// Records a failure that can disappear.
    pub(super) const fn record_failure(&mut self) {
        self.failed += 1;
        self.rejected = 0;
    }

    /// Records that the current node rejected the request. Returns `true` if all nodes have done
    /// so.
    pub(super) const fn record_rejection(&mut self) -> bool {
        self.failed += 1;
        self.rejected += 1;
        self.rejected >= self.list.len()
    }

    /// Returns `true` if the next node can be tried without a wait. After the last one, a new round
    /// begins.
    pub(super) const fn has_untried(&mut self) -> bool {
        if self.failed > 0 && self.failed < self.list.len() {
            return true;
        }
        self.failed = 0;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_is_tried_once_before_a_wait() {
        let mut nodes = Nodes::new(vec!["a", "b", "c"]);
        let mut tried = Vec::new();
        for _ in 0..6 {
            tried.push(*nodes.current());
            nodes.record_failure();
            nodes.select_next();
            if !nodes.has_untried() {
                tried.push("wait");
            }
        }
        assert_eq!(tried, ["a", "b", "c", "wait", "a", "b", "c", "wait"]);
    }

    #[test]
    fn a_node_whose_stream_ends_is_followed_by_a_wait() {
        let mut nodes = Nodes::new(vec!["a", "b"]);
        nodes.record_stream();
        assert!(!nodes.has_untried());
    }

    #[test]
    fn a_rejection_is_final_if_all_nodes_reject_in_a_row() {
        let mut nodes = Nodes::new(vec!["a", "b"]);
        assert!(!nodes.record_rejection());
        nodes.record_failure();
        assert!(!nodes.record_rejection());
        assert!(nodes.record_rejection());
        assert!(Nodes::new(vec!["a"]).record_rejection());
    }
}
