//! The lines of a streaming publish, in groups that are stored together.

use actix_web::error::PayloadError;
use bytes::Bytes;
use futures::Stream;
use tokio::time::Instant;

use crate::http::{
    api::{batch::own_key, publish_quota::PublishQuota},
    error::{ApiError, ApiResult},
    request::{
        batch_body::{BatchEvent, BatchPlace, parse_event},
        content_type,
        line_body::LineBody,
    },
    request_limits::RequestLimits,
};

/// Lines of one group, so that an append stays short.
const GROUP_LINES_MAX: usize = 256;

/// Parses the lines of a body.
pub(super) struct LineGroups<'a, S> {
    body: LineBody<'a, S>,
    quota: PublishQuota,
    limits: RequestLimits,
    /// The number of the caller's principal; `None` if it is anonymous.
    principal: Option<u64>,
    /// When the last line was taken.
    last_line: Instant,
}

/// Lines that are stored together.
pub(super) struct Group {
    pub(super) events: Vec<BatchEvent>,
    /// What is wrong with the line after them.
    pub(super) error: Option<ApiError>,
    /// More lines may be there.
    pub(super) is_full: bool,
}

impl<'a, S> LineGroups<'a, S>
where
    S: Stream<Item = Result<Bytes, PayloadError>> + Unpin,
{
    pub(super) fn new(
        body: LineBody<'a, S>,
        quota: PublishQuota,
        limits: RequestLimits,
        principal: Option<u64>,
    ) -> Self {
        Self {
            body,
            quota,
            limits,
            principal,
            last_line: Instant::now(),
        }
    }

    pub(super) const fn body(&mut self) -> &mut LineBody<'a, S> {
        &mut self.body
    }

    pub(super) const fn last_line(&self) -> Instant {
        self.last_line
    }

    /// Takes the complete lines that are held, up to a number or to one that is wrong.
    pub(super) fn take(&mut self) -> Group {
        let lines_max = self.lines_max();
        let mut group = Group {
            events: Vec::new(),
            error: None,
            is_full: false,
        };
        while !group.is_full {
            match self.next_event() {
                Ok(Some(event)) => group.events.push(event),
                Ok(None) => break,
                Err(error) => {
                    group.error = Some(error);
                    break;
                }
            }
            group.is_full = group.events.len() >= lines_max;
        }
        group
    }

    /// Returns the groups of all lines that have arrived, without waiting for more.
    pub(super) fn take_arrived(&mut self) -> Vec<Vec<BatchEvent>> {
        let mut groups = Vec::new();
        loop {
            self.body.read_arrived();
            let group = self.take();
            if group.events.is_empty() {
                return groups;
            }
            groups.push(group.events);
            if group.error.is_some() {
                return groups;
            }
        }
    }

    /// Each line may have a key, and the number of keys per batch is limited.
    fn lines_max(&self) -> usize {
        GROUP_LINES_MAX
            .min(self.limits.batch_events_max)
            .min(self.limits.keys_max)
            .max(1)
    }

    fn next_event(&mut self) -> ApiResult<Option<BatchEvent>> {
        while let Some(line) = self.body.take_line()? {
            self.last_line = Instant::now();
            if !line.trim_ascii().is_empty() {
                return self.parse(line).map(Some);
            }
        }
        Ok(None)
    }

    fn parse(&self, line: Bytes) -> ApiResult<BatchEvent> {
        let place = BatchPlace::Line(self.body.line_number());
        let length = line.len();
        let text = content_type::json_text(line)?;
        let event = parse_event(&text, &text, place, &self.limits).map_err(of_line)?;
        if event.channel.is_some() {
            return Err(ApiError::InvalidLine {
                place: place.to_string(),
                why: "channel: a streaming publish has one channel, which its URL names".to_owned(),
            });
        }
        self.quota.take_events(1)?;
        self.quota.take_body(length)?;
        Ok(own_key(event, self.principal))
    }
}

/// Lines before the wrong one are stored, other than in a batch.
fn of_line(error: ApiError) -> ApiError {
    match error {
        ApiError::InvalidBatch { place, why } => ApiError::InvalidLine { place, why },
        error => error,
    }
}
