//! `GET /channels`: lists the channels that the caller may see.

use actix_web::{HttpRequest, HttpResponse};
use actix_web_lab::extract::LocalData;
use serde_json::{Value, json};
use sse_proto::Channel;

use super::{description_json, list_cursor, name_ranges::NameRange};
use crate::{
    access::Right,
    broker::{
        Broker, BrokerError,
        lifecycle::{ChannelDescription, LIST_PAGE_MAX, ListQuery},
    },
    budget::ClientNet,
    channel::Searcher,
    http::{
        access::{caller::Caller, caller_quota::quota_of},
        api::history_memory::WAIT_MAX,
        error::{ApiError, ApiResult},
        request::query::Params,
        state::AppState,
    },
    quota::LimitKind,
};

/// Channels per page, unless the request says otherwise.
const LIMIT_DEFAULT: usize = 100;
/// Channels that are read at a time, even if the page has room for less: each read takes a round
/// trip.
const READ_MIN: usize = 100;
/// What a channel counts as in a search, in events.
const COST: usize = 20;
const JSON: &str = "application/json";
const RIGHTS: [Right; 2] = [Right::Subscribe, Right::Manage];

/// Lists channels in byte order of their names. A page can be empty although more follow, because it
/// examines a limited number of channels.
pub(in crate::http) async fn list(
    request: HttpRequest,
    state: LocalData<AppState>,
    caller: Caller,
) -> ApiResult<HttpResponse> {
    caller.require_some_of(&RIGHTS)?;
    let params = Params::parse_any(request.query_string())?;
    params.check_known(&["prefix", "after", "limit"])?;
    let limit = params.number("limit", 1..=LIST_PAGE_MAX)?;
    let prefix = params.non_empty("prefix")?.unwrap_or_default();
    let after = params.non_empty("after")?;
    let after = after
        .map(|after| parse_after(&caller, &after))
        .transpose()?;
    quota_of(&request, &state, &caller).take(LimitKind::Searches, 1)?;
    let ranges = NameRange::of_patterns(&caller.patterns(&RIGHTS), &prefix);
    // A page is as expensive as a search, and as large as one of history.
    let client = ClientNet::of_request(&request);
    let permit = state.history_budget.acquire(client).await?;
    let searcher = state.streams.pages.searches().of_client(client);
    let mut page = Page {
        broker: state.hub.broker(),
        searcher: searcher.waiting_up_to(WAIT_MAX),
        caller: &caller,
        limit: limit.unwrap_or(LIMIT_DEFAULT),
        channels: Vec::new(),
        examined: 0,
        position: after,
    };
    let next = page.fill(ranges).await?;
    let live = state.streams.list().await;
    let described: Vec<Value> = page
        .channels
        .iter()
        .map(|found| description_json(&state, found, live.count_streams(&found.channel)))
        .collect();
    let next = next.map(|after| write_next(&caller, &after));
    let page = json!({
        "channels": described,
        "more": next.is_some(),
        "next": next,
    });
    let body = permit.body(page.to_string().into_bytes()).await?;
    Ok(HttpResponse::Ok().content_type(JSON).body(body))
}

/// A page that is being filled.
struct Page<'a> {
    broker: &'a Broker,
    searcher: Searcher,
    caller: &'a Caller,
    limit: usize,
    channels: Vec<ChannelDescription>,
    /// Channels that were read, also those that the caller may not see.
    examined: usize,
    /// The last name that was examined, at first that after which the page begins.
    position: Option<Channel>,
}

impl Page<'_> {
    /// Reads the ranges. Returns the name after which the next page continues; `None` if this is the
    /// last page.
    async fn fill(&mut self, ranges: Vec<NameRange>) -> Result<Option<Channel>, BrokerError> {
        for range in ranges {
            if self.position.as_ref().is_some_and(|at| range.is_before(at)) {
                continue;
            }
            let is_complete = !self.is_full() && self.read(&range).await?;
            if !is_complete {
                return Ok(self.position.clone());
            }
        }
        Ok(None)
    }

    fn is_full(&self) -> bool {
        self.channels.len() >= self.limit || self.examined >= LIST_PAGE_MAX
    }

    /// Reads a range. Returns whether nothing of it is left.
    async fn read(&mut self, range: &NameRange) -> Result<bool, BrokerError> {
        if let (true, Ok(name)) = (range.is_one_name, range.start.parse()) {
            self.examined += 1;
            let turn = self.searcher.start_page(COST).await?;
            let found = self.broker.describe(&name).await?;
            turn.finish(COST);
            self.position = Some(name);
            return Ok(self.add(found));
        }
        loop {
            let room = (self.limit - self.channels.len()).max(READ_MIN);
            let query = ListQuery {
                prefix: range.start.clone(),
                after: self.position.clone(),
                limit: room.min(LIST_PAGE_MAX - self.examined),
            };
            let turn = self.searcher.start_page(query.limit * COST).await?;
            let read = self.broker.list(&query).await?;
            turn.finish(read.channels.len() * COST);
            // A name whose channel is gone counts too.
            self.examined += match read.next {
                Some(_) => query.limit,
                None => read.channels.len(),
            };
            if !self.add(read.channels) {
                return Ok(false);
            }
            let Some(next) = read.next else {
                return Ok(true);
            };
            self.position = Some(next);
            if self.is_full() {
                return Ok(false);
            }
        }
    }

    /// Adds the channels that the caller may see. Returns `false` if one of them has no room.
    fn add(&mut self, found: impl IntoIterator<Item = ChannelDescription>) -> bool {
        for found in found {
            let channel = found.channel.clone();
            if may_see(self.caller, &channel) {
                if self.channels.len() >= self.limit {
                    return false;
                }
                self.channels.push(found);
            }
            self.position = Some(channel);
        }
        true
    }
}

fn may_see(caller: &Caller, channel: &Channel) -> bool {
    caller.has_one_of(&RIGHTS, channel)
}

/// Returns where the next page continues. A name that the caller may not see is hidden.
fn write_next(caller: &Caller, after: &Channel) -> String {
    if may_see(caller, after) {
        after.to_string()
    } else {
        list_cursor::hide(after)
    }
}

/// Reads where a page begins. Between channels that the caller may not see, it can begin only where
/// an earlier page ended: the end of a page at each place would show which of them exist.
fn parse_after(caller: &Caller, text: &str) -> ApiResult<Channel> {
    let named = || text.parse().ok();
    list_cursor::show(text)
        .or_else(|| named().filter(|name| may_see(caller, name)))
        .ok_or_else(|| {
            let why = "must be the value of next in a page; start the list again without it";
            ApiError::invalid_parameter("after", why)
        })
}
