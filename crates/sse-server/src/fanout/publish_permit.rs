//! What counts an open streaming publish.

use std::sync::Arc;

use super::admission::Shared;
use crate::budget::Share;

/// Counts a streaming publish for the limit of streams and for its client, until it is dropped.
#[derive(Debug)]
pub(crate) struct PublishPermit {
    admission: Arc<Shared>,
    _of_client: Share,
}

impl PublishPermit {
    pub(super) fn new(admission: Arc<Shared>, of_client: Share) -> Self {
        admission.metrics().streaming_publishes().inc();
        Self {
            admission,
            _of_client: of_client,
        }
    }
}

impl Drop for PublishPermit {
    fn drop(&mut self) {
        self.admission.metrics().streaming_publishes().dec();
        self.admission.release();
    }
}
