//! A body that is read line by line, for as long as its client sends lines.
//!
//! At most 64 KiB of the body, or its longest line, is held. While lines are being stored, nothing
//! is read, so the client waits. The memory of what is held is a part of `--publish-memory`.

use actix_web::error::PayloadError;
use bytes::Bytes;
use futures::{FutureExt as _, Stream, StreamExt as _};

use super::{
    body_memory::{BodyMemory, MemoryShare},
    line_buffer::LineBuffer,
};
use crate::{
    budget::ClientNet,
    http::{
        error::{ApiError, ApiResult},
        request_limits::Limit,
    },
};

/// Bytes of complete lines that are held.
const HELD_MAX: usize = 64 << 10;
/// With so much the body is not read any further. One read adds up to as much again.
const ENOUGH: usize = HELD_MAX / 2;

/// The body of a streaming publish.
pub(crate) struct LineBody<'a, S> {
    payload: S,
    buffer: LineBuffer,
    /// Lines that were taken, blank ones included.
    lines: usize,
    /// Bytes that have arrived.
    received: u64,
    end: Option<BodyEnd>,
    /// The limit of one line.
    limit: Limit,
    memory: &'a BodyMemory,
    client: Option<ClientNet>,
    share: MemoryShare<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyEnd {
    Complete,
    BrokenOff,
}

impl<'a, S> LineBody<'a, S>
where
    S: Stream<Item = Result<Bytes, PayloadError>> + Unpin,
{
    pub(in crate::http) fn new(
        payload: S,
        limit: Limit,
        memory: &'a BodyMemory,
        client: Option<ClientNet>,
    ) -> Self {
        Self {
            payload,
            buffer: LineBuffer::default(),
            lines: 0,
            received: 0,
            end: None,
            limit,
            memory,
            client,
            share: memory.share(client),
        }
    }

    /// Waits for more of the body, up to its end. It can be cancelled without a loss.
    ///
    /// # Errors
    ///
    /// - `IncompleteBody`: the body broke off.
    /// - `BodyMemoryFull`: other bodies use the memory.
    pub(crate) async fn read(&mut self) -> ApiResult<()> {
        match self.end {
            Some(BodyEnd::Complete) => return Ok(()),
            Some(BodyEnd::BrokenOff) => return Err(ApiError::IncompleteBody),
            None => {}
        }
        let chunk = self.payload.next().await;
        self.push(chunk);
        self.read_arrived();
        let length = self.buffer.len();
        let length_max = if length <= HELD_MAX {
            HELD_MAX
        } else {
            self.limit.max + HELD_MAX
        };
        self.share.grow_to(length, length_max).await
    }

    /// Reads what has arrived, unless enough is held.
    pub(crate) fn read_arrived(&mut self) {
        while self.end.is_none()
            && self.buffer.len() < ENOUGH
            && let Some(chunk) = self.payload.next().now_or_never()
        {
            self.push(chunk);
        }
    }

    fn push(&mut self, chunk: Option<Result<Bytes, PayloadError>>) {
        match chunk {
            Some(Ok(bytes)) => {
                self.received += bytes.len() as u64;
                self.buffer.push(&bytes);
            }
            Some(Err(_)) => self.end = Some(BodyEnd::BrokenOff),
            None => self.end = Some(BodyEnd::Complete),
        }
    }

    /// Takes the next line. The last line of a complete body needs no line feed.
    ///
    /// # Errors
    ///
    /// `TooLarge`: the line exceeds the limit, even if it is not complete.
    pub(crate) fn take_line(&mut self) -> ApiResult<Option<Bytes>> {
        let line = match self.buffer.take_line() {
            None if self.is_complete() => self.buffer.take_rest(),
            line => line,
        };
        let length = line.as_ref().map_or(self.buffer.len(), Bytes::len);
        let number = self.lines + 1;
        self.limit.check_part(length, || format!("line {number}"))?;
        self.lines += usize::from(line.is_some());
        Ok(line)
    }

    /// Returns the number of the line that was taken last.
    pub(crate) const fn line_number(&self) -> usize {
        self.lines
    }

    /// Returns the number of bytes that have arrived.
    pub(crate) const fn received(&self) -> u64 {
        self.received
    }

    /// Whether the body has ended as its client intended.
    pub(crate) fn is_complete(&self) -> bool {
        self.end == Some(BodyEnd::Complete)
    }

    /// Releases the memory of lines that are stored.
    pub(crate) fn release(&mut self) {
        if self.buffer.len() == 0 {
            self.share = self.memory.share(self.client);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;
    use crate::{http::request_limits::RequestLimits, metrics::Metrics};

    const LIMITS: RequestLimits = RequestLimits {
        event_bytes_max: 10,
        batch_bytes_max: 1000,
        batch_events_max: 3,
        keys_max: 2,
    };

    /// Reads a body that consists of `parts`, and returns its lines and its error.
    async fn lines(
        parts: Vec<Result<&'static str, PayloadError>>,
    ) -> (Vec<String>, Option<ApiError>) {
        let memory = BodyMemory::new(1 << 20, 1 << 20, Metrics::new());
        let parts = parts.into_iter().map(|part| part.map(Bytes::from));
        let limit = LIMITS.event_bytes();
        let mut body = LineBody::new(stream::iter(parts), limit, &memory, None);
        let mut lines = Vec::new();
        loop {
            loop {
                match body.take_line() {
                    Ok(Some(line)) => lines.push(String::from_utf8(line.to_vec()).unwrap()),
                    Ok(None) => break,
                    Err(error) => return (lines, Some(error)),
                }
            }
            body.release();
            if body.is_complete() {
                return (lines, None);
            }
            if let Err(error) = body.read().await {
                return (lines, Some(error));
            }
        }
    }

    #[tokio::test]
    async fn an_unfinished_last_line_counts_only_if_the_body_is_complete() {
        let (found, error) = lines(vec![Ok("a\nb"), Ok("c\n\nd")]).await;
        assert!(error.is_none());
        assert_eq!(found, ["a", "bc", "", "d"]);
        let broken = Err(PayloadError::Incomplete(None));
        let (found, error) = lines(vec![Ok("a\nb"), Ok("c\n\nd"), broken]).await;
        assert!(matches!(error, Some(ApiError::IncompleteBody)));
        assert_eq!(found, ["a", "bc", ""]);
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_rejected_before_its_end() {
        let (found, error) = lines(vec![Ok("1234567890\n12345678901"), Ok("never read")]).await;
        assert_eq!(found, ["1234567890"]);
        let message = error.unwrap().to_string();
        assert!(message.starts_with("line 2 "), "{message}");
    }

    #[tokio::test]
    async fn reading_pauses_while_enough_is_held() {
        let memory = BodyMemory::new(1 << 20, 1 << 20, Metrics::new());
        let parts = (0..64).map(|_| Ok(Bytes::from(vec![b'\n'; 4 << 10])));
        let limit = LIMITS.event_bytes();
        let mut body = LineBody::new(stream::iter(parts), limit, &memory, None);
        body.read().await.unwrap();
        assert_eq!(body.buffer.len(), ENOUGH);
        while body.take_line().unwrap().is_some() {}
        body.release();
        body.read().await.unwrap();
        assert_eq!(body.buffer.len(), ENOUGH);
    }
}
