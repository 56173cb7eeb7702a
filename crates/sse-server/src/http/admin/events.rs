//! `GET /admin/events`: the feed of the dashboard, as `text/event-stream`.
//!
//! | event | data |
//! |---|---|
//! | `history` | the last 15 minutes, once |
//! | `incidents` | gaps and rejections: those that are kept, and then the new ones |
//! | `streams` | streams that opened and ended |
//! | `stats` | as `GET /admin/stats`, once per second |
//!
//! All feeds of a node share the blocks of `dashboard`, and a client that reads too slowly misses
//! some of them. A feed has no ids: a client that reconnects gets the history again. It ends within
//! a second after its caller has lost the right.

use std::convert::Infallible;

use actix_web::{HttpRequest, HttpResponse, body::BodyStream};
use actix_web_lab::extract::LocalData;
use bytes::Bytes;
use futures::stream;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio_util::sync::CancellationToken;

use super::{feed_places::FeedPlace, permission::check_permission};
use crate::{
    access::ServerRight,
    http::{
        access::caller::Caller, api::stream_response::event_stream, error::ApiResult,
        request::query::Params, state::AppState,
    },
};

/// One open feed.
struct Feed {
    opening: Option<Bytes>,
    blocks: Receiver<Bytes>,
    _place: FeedPlace,
    caller: Caller,
    stopping: CancellationToken,
}

/// Opens a feed.
pub(crate) async fn events(
    request: HttpRequest,
    state: LocalData<AppState>,
    caller: Caller,
) -> ApiResult<HttpResponse> {
    check_permission(&request, &state, &caller, ServerRight::Observe)?;
    Params::parse_any(request.query_string())?.check_known(&[])?;
    let place = state.dashboard.places().take(&request)?;
    let blocks = state.dashboard.blocks();
    state.dashboard.inspect(&state).await;
    let feed = Feed {
        opening: Some(state.dashboard.opening(&state)),
        blocks,
        _place: place,
        caller,
        stopping: state.streams.stopping.clone(),
    };
    let blocks = stream::unfold(feed, async |mut feed| {
        let block = feed.next_block().await?;
        Some((Ok::<_, Infallible>(block), feed))
    });
    Ok(event_stream(&request, BodyStream::new(Box::pin(blocks))))
}

impl Feed {
    /// Waits for the next block; returns `None` at the end of the feed.
    async fn next_block(&mut self) -> Option<Bytes> {
        if let Some(opening) = self.opening.take() {
            return Some(opening);
        }
        loop {
            let received = self
                .stopping
                .run_until_cancelled(self.blocks.recv())
                .await?;
            if !self.caller.still_has(ServerRight::Observe) {
                return None;
            }
            match received {
                Ok(block) => return Some(block),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    }
}
