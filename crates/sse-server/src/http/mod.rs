//! HTTP: routes, status codes and headers.
//!
//! Two files outside of this folder know some of that. `fanout/detach` sends a 408 to a client
//! whose request head does not arrive in time. `server/track_requests` reads the headers that
//! declare a body, and may close the connection after the response.
//!
//! | folder | file | contents |
//! |---|---|---|
//! | `request` | | what a request contains |
//! | | `query` | query parameters and percent-encoding |
//! | | `header` | the text of a header |
//! | | `content_type` | the type of a body |
//! | | `expectation` | rejects a large body before it is sent |
//! | | `json_body` | a small JSON object as the body |
//! | | `listen_address` | the address that a request arrived at |
//! | | `curl_line` | a command line that would have worked |
//! | | `body`, `body_memory` | reads a body within its limits of size, time and memory |
//! | | `line_body`, `line_buffer` | a body that is read line by line, for as long as it lasts |
//! | | `batch_body`, `batch_line` | the events of a batch, and one of them as JSON |
//! | | `idempotency_key` | the `Idempotency-Key` of a publish |
//! | | `ignored_upgrade` | requests that ask for another protocol |
//! | | `start_params` | where a reader starts and ends; parses `Last-Event-ID` |
//! | | `event_filter` | which types of events a reader gets |
//! | `access` | `caller`, `credential` | the caller of a request, and where its credential is |
//! | | `channel_query` | the channels of a request, and the rights for them |
//! | | `caller_quota` | what the caller may use |
//! | | `client_address`, `forwarded` | the address of the client behind trusted proxies |
//! | | `host` | the hosts that a server on a loopback address answers |
//! | | `origin_pattern` | the forms in which an operator names origins |
//! | | `public_url` | the URLs at which clients reach the server |
//! | | `origins` | which pages may read and publish |
//! | | `challenge` | what a client without the right credential is sent |
//! | | `set_cookie` | the cookie with a ticket |
//! | | `allow_origin` | the header that lets pages read a response |
//! | | `cors`, `preflight` | the CORS headers, and the responses to preflights |
//! | `api` | `publish` | `GET` and `POST /event/{action}` |
//! | | `batch` | `POST /events` |
//! | | `batch_channels` | a batch for several channels |
//! | | `streaming_publish` | `POST /events?mode=stream` |
//! | | `publish_quota` | what a publish takes of the quota |
//! | | `idempotency` | the append that `publish` and `batch` share |
//! | | `stream` | `GET /stream` |
//! | | `data_profile` | `profile=data`, for clients that parse all data as their own JSON |
//! | | `stream_details` | what is kept and shown of a new stream |
//! | | `stream_response` | the head of a stream, and the stream that ends at once |
//! | | `stream_shares` | what a new stream needs of the limits |
//! | | `history` | `GET /events` |
//! | | `history_response` | JSON, NDJSON and the link of `history` |
//! | | `history_memory` | memory for the responses of `history` |
//! | | `tokens` | `POST /tokens` |
//! | `admin` | `streams`, `revocations` | `/admin/streams`, `/admin/revocations` |
//! | | `busiest` | `/admin/channels/busiest` |
//! | | `backup`, `log` | `/admin/backup`; `/admin/log/…` |
//! | | `events`, `stats` | the feed of the dashboard, `/admin/stats` |
//! | | `trace` | `/admin/trace` |
//! | | `nodes` | `/admin/nodes` |
//! | | `settings`, `printed_settings` | `/admin/settings` |
//! | | `access` | `POST /admin/access`: what a credential grants |
//! | | `page` | the dashboard at `/`, and its files |
//! | | `dashboard` | what all dashboards share, and the task that feeds them |
//! | | `lag` | how far streams are behind |
//! | | `samples`, `problems` | the last 15 minutes; sentences about what is wrong |
//! | | `permission` | who may use them |
//! | `ops` | `health`, `readiness` | `GET /health/live`, `/health/ready` |
//! | | `metrics`, `prometheus_text` | `GET /metrics`, and its two formats |
//! | | `public_files` | `/client.js`, `/client.d.ts` and `/openapi.yaml` |
//! | | `state` | what the handlers share |
//! | | `request_limits` | the limits of a request |
//! | | `response_headers` | headers that every response has |
//! | | `request_log` | the lines of the access log |
//! | | `request_trace` | what requests report to traces |
//! | | `audit` | the lines of the audit log |
//! | | `revocation_feed` | reads the stored revocations |
//! | | `rejections` | counts and logs requests that are rejected |
//! | | `error`, `error_status` | why a request failed, and the table of codes |
//! | | `broker_error` | what an error of the broker means for a client |
//! | | `error_cause` | the cause that only the log shows |

mod access;
mod admin;
mod api;
mod audit;
mod broker_error;
mod error;
mod error_cause;
mod error_status;
mod ops;
mod public_files;
mod rejections;
mod request;
mod request_limits;
mod request_log;
mod request_trace;
mod response_headers;
mod revocation_feed;
mod state;

use std::future::ready;

use actix_web::{
    HttpRequest, HttpResponse, Resource, Route, guard,
    http::Method,
    web::{self, ServiceConfig},
};
use actix_web_lab::extract::LocalData;

pub use self::{
    access::{
        client_address::{TrustedProxies, TrustedProxy, resolve_client},
        cors::apply_cors,
        host::check_host,
        origin_pattern::OriginPattern,
        origins::{NamedOrigins, Origins},
        public_url::PublicUrl,
    },
    admin::{
        dashboard::{BudgetLimits, Dashboard, run_dashboard},
        nodes::{NodeAddress, report_node},
        printed_settings::{PrintedSetting, PrintedSettings, Tables},
    },
    api::{HistoryBudget, KeepAliveRate},
    audit::audit_requests,
    ops::readiness::Readiness,
    rejections::{Rejections, record_rejections},
    request::{
        body_memory::BodyMemory,
        channel_settings::{parse_count, parse_ms},
        expectation::check_expectation,
        ignored_upgrade::ignore_upgrade,
    },
    request_limits::RequestLimits,
    request_log::log_requests,
    response_headers::{CommonHeaders, add_common_headers},
    revocation_feed::follow_revocations,
    state::AppState,
};
use self::{
    admin::{
        access as credentials, backup, busiest, events, log, nodes, page, revocations, settings,
        stats, streams, trace,
    },
    api::{batch, channels, history, publish, stream, tokens},
    error::{ApiError, ApiResult, shortened},
    ops::{health, metrics},
};
use crate::ListenAddress;

/// Adds all routes to an app. This is the only list of routes.
///
/// `address` is the address of the listening socket that accepts the connections of the app.
pub fn routes(config: &mut ServiceConfig, state: AppState, address: ListenAddress) {
    if address.serves_operators() {
        config.configure(admin_routes).configure(page_routes);
    }
    config
        .app_data(LocalData::new(state))
        .app_data(LocalData::new(address))
        .configure(event_routes)
        .configure(operator_routes)
        .default_service(web::to(not_found));
}

fn event_routes(config: &mut ServiceConfig) {
    config
        .service(event_resource())
        .service(events_resource())
        .configure(channel_routes)
        .service(resource("/stream", "GET", [web::get().to(stream::stream)]))
        .service(resource(
            "/tokens",
            "POST",
            [web::post().to(tokens::create)],
        ));
}

fn channel_routes(config: &mut ServiceConfig) {
    let list = web::get().to(channels::list::list);
    let describe = get_or_head().to(channels::describe::describe);
    let configure = web::put().to(channels::configure::configure);
    let remove = web::delete().to(channels::remove::remove);
    let close = web::post().to(channels::close::close);
    config
        .service(resource("/channels", "GET", [list]))
        .service(resource(
            "/channels/{name}",
            "GET, HEAD, PUT, DELETE",
            [describe, configure, remove],
        ))
        .service(resource("/channels/{name}/close", "POST", [close]));
}

fn event_resource() -> Resource {
    let get = web::get().to(publish::event);
    let post = web::post().to(publish::event);
    resource("/event/{action:.*}", "GET, POST", [get, post])
}

fn events_resource() -> Resource {
    let get = web::get().to(history::events);
    let post = web::post().to(batch::events);
    resource("/events", "GET, POST", [get, post])
}

fn operator_routes(config: &mut ServiceConfig) {
    let metrics = get_or_head().to(metrics::metrics);
    config
        .configure(health_routes)
        .service(read_only("/metrics", metrics))
        .configure(file_routes);
}

/// The routes that may have an address of their own.
fn admin_routes(config: &mut ServiceConfig) {
    let list = web::get().to(streams::list);
    let close_all = web::delete().to(streams::close_all);
    let close_one = web::delete().to(streams::close_one);
    let revoke = web::post().to(revocations::revoke);
    let start_backup = web::post().to(backup::start);
    let backup_status = web::get().to(backup::status);
    for (path, read_log) in [
        ("/admin/log/channels", web::get().to(log::channels)),
        ("/admin/log/records", web::get().to(log::records)),
        ("/admin/log/revocations", web::get().to(log::revocations)),
    ] {
        config.service(resource(path, "GET", [read_log]));
    }
    config
        .service(resource(
            "/admin/channels/busiest",
            "GET",
            [web::get().to(busiest::busiest)],
        ))
        .service(resource(
            "/admin/backup",
            "GET, POST",
            [start_backup, backup_status],
        ))
        .service(resource(
            "/admin/stats",
            "GET",
            [web::get().to(stats::stats)],
        ))
        .service(resource(
            "/admin/events",
            "GET",
            [web::get().to(events::events)],
        ))
        .service(resource(
            "/admin/trace",
            "GET",
            [web::get().to(trace::trace)],
        ))
        .service(resource(
            "/admin/nodes",
            "GET",
            [web::get().to(nodes::nodes)],
        ))
        .service(resource(
            "/admin/settings",
            "GET",
            [web::get().to(settings::settings)],
        ))
        .service(resource("/admin/streams", "GET, DELETE", [list, close_all]))
        .service(resource("/admin/streams/{id}", "DELETE", [close_one]))
        .service(resource(
            "/admin/access",
            "POST",
            [web::post().to(credentials::check)],
        ))
        .service(resource("/admin/revocations", "POST", [revoke]));
}

/// The dashboard. `/` answers only clients that want a page; to others it is no route.
fn page_routes(config: &mut ServiceConfig) {
    let page = get_or_head().to(page::page);
    let script = get_or_head().to(page::script);
    let style = get_or_head().to(page::style);
    config
        .service(
            web::resource("/")
                .route(page)
                .default_service(web::to(not_found)),
        )
        .service(read_only("/dashboard.js", script))
        .service(read_only("/dashboard.css", style))
        .service(read_only("/dashboard.svg", get_or_head().to(page::icon)));
}

/// Files that everyone may load.
fn file_routes(config: &mut ServiceConfig) {
    let module = get_or_head().to(public_files::client_module);
    let types = get_or_head().to(public_files::client_types);
    let description = get_or_head().to(public_files::description);
    config
        .service(read_only("/client.js", module))
        .service(read_only("/client.d.ts", types))
        .service(read_only("/openapi.yaml", description));
}

fn health_routes(config: &mut ServiceConfig) {
    config
        .service(health_resource(
            "/health/live",
            get_or_head().to(health::live),
        ))
        .service(health_resource(
            "/health/ready",
            get_or_head().to(health::ready),
        ));
}

/// A health check, also for load balancers that send `OPTIONS` to see whether a server responds.
fn health_resource(path: &str, get_or_head: Route) -> Resource {
    let allow = "GET, HEAD, OPTIONS";
    let options = web::method(Method::OPTIONS).to(move || ready(health::options(allow)));
    resource(path, allow, [get_or_head, options])
}

fn get_or_head() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

fn read_only(path: &str, get_or_head: Route) -> Resource {
    resource(path, "GET, HEAD", [get_or_head])
}

/// A path with its routes. `allow` lists their methods, for the response to any other method.
fn resource(path: &str, allow: &'static str, routes: impl IntoIterator<Item = Route>) -> Resource {
    routes
        .into_iter()
        .fold(web::resource(path), Resource::route)
        .default_service(only(allow))
}

/// Rejects every other method. `HEAD` and `OPTIONS` neither publish nor stream.
fn only(allow: &'static str) -> Route {
    web::to(move |request: HttpRequest| async move {
        Err::<HttpResponse, _>(ApiError::MethodNotAllowed {
            method: shortened(request.method()),
            allow,
        })
    })
}

pub(super) async fn not_found(request: HttpRequest) -> ApiResult<HttpResponse> {
    Err(ApiError::NotFound(shortened(request.uri().path())))
}
