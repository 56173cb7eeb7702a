//! The response of `GET /events`: JSON or NDJSON, and the link to the next part.

use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, http::header};
use serde::Serialize;
use sse_proto::{
    Position,
    api::{Gap, History, HistoryEvent, MultiHistory},
    units::time_text,
};

use crate::{
    channel::history_pager::gap_line,
    http::{
        request::{query::Params, start_params::START_PARAMETERS},
        response_headers::NO_STORE_NO_TRANSFORM,
    },
};

/// What was read: the history of one channel, or of several.
pub(super) enum HistoryResponse {
    /// The request names one channel.
    One(History),
    /// The request names several channels.
    Several(MultiHistory),
}

impl HistoryResponse {
    /// Returns the head of the response, and its body.
    pub(super) fn encode(
        &self,
        request: &HttpRequest,
        params: &Params,
    ) -> (HttpResponseBuilder, Vec<u8>) {
        let mut response = self.response_head(params);
        if wants_lines(request) {
            // A client may read line by line, so no proxy may hold back the end of a line.
            response.insert_header(NO_STORE_NO_TRANSFORM);
            response.content_type("application/x-ndjson");
            (response, self.to_lines())
        } else {
            response.content_type("application/json");
            (response, self.to_json())
        }
    }

    fn response_head(&self, params: &Params) -> HttpResponseBuilder {
        let mut response = HttpResponse::Ok();
        if let Some(next) = self.next_page() {
            response.insert_header((header::LINK, link_to_next(params, next)));
        }
        response
    }

    /// Returns the cursor of the next page, if there is more.
    fn next_page(&self) -> Option<&str> {
        match self {
            Self::One(history) => history.more.then_some(&history.next),
            Self::Several(history) => history.more.then_some(&history.next),
        }
    }

    fn to_json(&self) -> Vec<u8> {
        match self {
            Self::One(history) => to_json(history),
            Self::Several(history) => to_json(history),
        }
    }

    /// Returns one line per event, after the gaps.
    fn to_lines(&self) -> Vec<u8> {
        let mut lines = Vec::new();
        for event in self.first_lines().iter().chain(self.events()) {
            lines.extend(to_json(event));
            lines.push(b'\n');
        }
        lines
    }

    fn events(&self) -> &[HistoryEvent] {
        match self {
            Self::One(history) => &history.events,
            Self::Several(history) => &history.events,
        }
    }

    /// Returns the gaps as the first lines. A gap cannot be posted, so that a copy of the lines to
    /// another channel never hides the hole.
    fn first_lines(&self) -> Vec<HistoryEvent> {
        match self {
            Self::One(history) => {
                let gap = history.gap.as_ref();
                gap.map(|gap| line_before(gap, &history.next))
                    .into_iter()
                    .collect()
            }
            Self::Several(history) => {
                let gaps = history.gaps.iter();
                gaps.map(|gap| line_in_channel(gap, history)).collect()
            }
        }
    }
}

fn to_json(content: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(content).expect("history has only strings")
}

fn line_in_channel(gap: &Gap, history: &MultiHistory) -> HistoryEvent {
    HistoryEvent {
        channel: Some(gap.channel.clone()),
        ..line_before(gap, &history.next)
    }
}

/// Returns a gap as a line. Its id is the position after the gap.
fn line_before(gap: &Gap, next: &str) -> HistoryEvent {
    let id = gap.oldest.map_or_else(
        || next.to_owned(),
        |oldest| Position::At(oldest).to_string(),
    );
    let time = gap.oldest.map(|oldest| time_text(oldest.ms));
    gap_line(id, time.unwrap_or_default(), gap)
}

/// Returns the link to the next part (RFC 8288). Lines have no other field for it.
///
/// The link is only a query, which a client resolves against the URL that it requested: a proxy may
/// have removed a prefix of the path.
fn link_to_next(params: &Params, next: &str) -> String {
    let query = params.with_instead_of(&START_PARAMETERS, ("last_event_id", next));
    format!("<?{query}>; rel=\"next\"")
}

fn wants_lines(request: &HttpRequest) -> bool {
    accept_header(request)
        .is_some_and(|accept| accept.contains("ndjson") || accept.contains("jsonl"))
}

fn accept_header(request: &HttpRequest) -> Option<&str> {
    let accept = request.headers().get(header::ACCEPT)?;
    accept.to_str().ok()
}
