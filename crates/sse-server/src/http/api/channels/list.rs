//! `GET /channels`: lists the channels that the caller may see.

use actix_web::{HttpRequest, HttpResponse};
use actix_web_lab::extract::LocalData;
use serde_json::{Value, json};
use sse_proto::Channel;

use super::{description_json, list_cursor};
use crate::{
    access::Right,
    broker::lifecycle::{LIST_PAGE_MAX, ListQuery},
    budget::ClientNet,
    http::{
        access::caller::Caller,
        api::history_memory::WAIT_MAX,
        error::{ApiError, ApiResult},
        request::query::Params,
        state::AppState,
    },
};

/// Channels per page, unless the request says otherwise.
const LIMIT_DEFAULT: usize = 100;
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
    let mut query = ListQuery {
        prefix: params.non_empty("prefix")?.unwrap_or_default(),
        after: params
            .non_empty("after")?
            .as_deref()
            .map(parse_after)
            .transpose()?,
        limit: limit.unwrap_or(LIMIT_DEFAULT),
    };
    // A page is as expensive as a search, and as large as one of history.
    let client = ClientNet::of_request(&request);
    let permit = state.history_budget.acquire(client).await?;
    let searcher = state.streams.pages.searches().of_client(client);
    let searcher = searcher.waiting_up_to(WAIT_MAX);
    let (mut channels, mut examined) = (Vec::new(), 0);
    // Channels that the caller may not see are skipped, up to a limit per request.
    while channels.len() < query.limit && examined < LIST_PAGE_MAX {
        let turn = searcher.start_page(query.limit * COST).await?;
        let page = state.hub.broker().list(&query).await?;
        turn.finish(page.channels.len() * COST);
        examined += page.channels.len();
        query.after = page.next;
        let room = query.limit - channels.len();
        let mut visible = page.channels;
        visible.retain(|found| may_see(&caller, &found.channel));
        if visible.len() > room {
            visible.truncate(room);
            query.after = visible.last().map(|last| last.channel.clone());
        }
        channels.append(&mut visible);
        if query.after.is_none() {
            break;
        }
    }
    let live = state.streams.list().await;
    let described: Vec<Value> = channels
        .iter()
        .map(|found| description_json(&state, found, live.count_streams(&found.channel)))
        .collect();
    let next = query.after.map(|after| write_next(&caller, &after));
    let page = json!({
        "channels": described,
        "more": next.is_some(),
        "next": next,
    });
    let body = permit.body(page.to_string().into_bytes()).await?;
    Ok(HttpResponse::Ok().content_type(JSON).body(body))
}

fn may_see(caller: &Caller, channel: &Channel) -> bool {
    caller.require_one_of(&RIGHTS, channel).is_ok()
}

/// Returns where the next page continues. A name that the caller may not see is hidden.
fn write_next(caller: &Caller, after: &Channel) -> String {
    if may_see(caller, after) {
        after.to_string()
    } else {
        list_cursor::hide(after)
    }
}

fn parse_after(text: &str) -> ApiResult<Channel> {
    list_cursor::show(text)
        .or_else(|| text.parse().ok())
        .ok_or_else(|| {
            let why = "must be the value of next in a page; start the list again without it";
            ApiError::invalid_parameter("after", why)
        })
}
