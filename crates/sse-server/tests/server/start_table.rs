//! Table of starts: what each request gets from each log, on the three brokers.
//!
//! [`REQUESTS`] lists the ways in which a request can state its start, and [`logs`] makes the logs.
//! The test sends every request to every log, as `GET /stream` and as `GET /events`, and compares
//! the responses with `start_table.txt`. That file begins with its [`LEGEND`]. The test uses HTTP
//! only, so that it does not depend on how the server represents a start.
//!
//! If rows differ, the test prints them and writes the whole table to a file. If the change is
//! intended, that file replaces `start_table.txt`.

use std::{
    fmt::Write as _,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use futures::future::join_all;
use reqwest::{Response, StatusCode};
use serde_json::Value;
use sse_proto::{EventId, units::time_text};
use tempfile::TempDir;

use crate::common::{Backend, RequestBuilder, Subscriber, TestServer, until};

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/server/start_table.txt");

const LEGEND: &str = "\
Where a reader starts: what each request gets from each log, on the three brokers.

log, other      the channel of the log, and a channel with one event, named aside
gone, cut       events that are no longer in the log; cut is the newest of them
oldest, middle, newest
                events in the log, at least 5 ms apart; middle is a click, the others are views
live            a click that is published after the stream has sent its first heartbeat
origin          the position in a channel that never had an event: 0-0, or 0-N in memory, where N is
                random
X+, X-          the id that is 1 ms above or below event X; no event has it
X.ms, X.time    the time of event X in milliseconds and in RFC 3339; X.offset has +00:00 for Z
1d-ago          a position that is one day old
future, max     an id in the year 5138, and the highest id that can be written

brokers         the brokers that give this response; one row per distinct response
opens           GET /stream: the id of the first block, or the status and the error code; - if the
                first block has no id
stream          its events in order; [X] is the position that the first heartbeat carries; end is the
                end of the stream; with two channels, the events of log come before those of other
gap             GET /events: its gaps, that of log before that of other, or the status and the
                error code
events          its events in order, also those of two channels
next, more      its cursor for the next page, and whether that page exists

A gap is written as its reason, the position that it is after, and the oldest event that is kept
(none if there is none). A gap event also has its own id.
";

/// Start parameters of the requests; names in braces are defined in the [`LEGEND`].
const REQUESTS: &[&str] = &[
    "(nothing)",
    // The header with an id.
    "Last-Event-ID: {oldest}",
    "Last-Event-ID: {middle}",
    "Last-Event-ID: {newest}",
    "Last-Event-ID: {gone}",
    "Last-Event-ID: {cut}",
    "Last-Event-ID: {oldest-}",
    "Last-Event-ID: {middle+}",
    "Last-Event-ID: {newest+}",
    "Last-Event-ID: 5-5",
    "Last-Event-ID: {future}",
    "Last-Event-ID: 0-0",
    "Last-Event-ID: {origin}",
    // The header with the position of an event.
    "Last-Event-ID: @{oldest}",
    "Last-Event-ID: @{middle}",
    "Last-Event-ID: @{newest}",
    "Last-Event-ID: @{gone}",
    "Last-Event-ID: @{cut}",
    "Last-Event-ID: @{oldest-}",
    "Last-Event-ID: @{middle+}",
    "Last-Event-ID: @{newest+}",
    "Last-Event-ID: @5-5",
    "Last-Event-ID: @{future}",
    "Last-Event-ID: @0-0",
    "Last-Event-ID: @{origin}",
    // The header with something else.
    "Last-Event-ID:",
    "Last-Event-ID: nonsense",
    "Last-Event-ID: 5",
    "Last-Event-ID: @",
    "Last-Event-ID: {max}",
    "Last-Event-ID: {log}={middle}",
    "Last-Event-ID: {log}=@{newest}",
    "Last-Event-ID: {log}={cut}",
    "Last-Event-ID: {log}={middle},other={aside}",
    "Last-Event-ID: other={aside}",
    "Last-Event-ID: {log}=5-5,other=x",
    // An id in the URL.
    "?last_event_id={middle}",
    "?last_event_id={newest}",
    "?last_event_id={cut}",
    "?last_event_id=@{middle}",
    "?last_event_id=0-0",
    "?last_event_id=nonsense",
    "?last_event_id=",
    "?lastEventId={middle}",
    "?lastEventId={cut}",
    "?lastEventId=nonsense",
    "?lastEventId=",
    // The header beats lastEventId, which beats the rest of the URL.
    "Last-Event-ID: {middle} ?last_event_id={oldest}",
    "Last-Event-ID: {middle} ?lastEventId={oldest}",
    "Last-Event-ID: {middle} ?last=3",
    "Last-Event-ID: {middle} ?from=oldest",
    "Last-Event-ID: {middle} ?since=1d",
    "Last-Event-ID: {newest} ?last_event_id={cut}",
    "Last-Event-ID: nonsense ?last_event_id={newest}",
    "Last-Event-ID: ?last_event_id={middle}",
    "Last-Event-ID: ?last=1",
    "?lastEventId={middle}&last_event_id={oldest}",
    "?lastEventId={middle}&last=3",
    "?lastEventId=&last=1",
    "?last_event_id=&last=1",
    // A time.
    "?since=1d",
    "?since=0s",
    "?since=0",
    "?since=1960-01-01T00:00:00Z",
    "?since={gone.ms}",
    "?since={cut.ms}",
    "?since={cut.ms+1}",
    "?since={oldest.ms-1}",
    "?since={oldest.ms}",
    "?since={oldest.time}",
    "?since={oldest.offset}",
    "?since={oldest.ms+1}",
    "?since={middle.ms}",
    "?since={middle.time}",
    "?since={newest.ms}",
    "?since={newest.ms+1}",
    "?since={future.ms}",
    "?since={future.time}",
    // The newest events.
    "?last=0",
    "?last=1",
    "?last=2",
    "?last=3",
    "?last=99",
    "?last=1&event=click",
    "?last=9&event=click",
    "?last=1&event=view&event=click",
    "?last=1&until={middle}",
    "?last=1&until={middle}&event=view",
    "?last=9&until={newest}",
    "?last=2&until=5-5",
    // The oldest event.
    "?from=oldest",
    "?from=oldest&event=click",
    // An end.
    "?until={newest}",
    "?until={middle}",
    "?until={cut}",
    "?until=5-5",
    "?until=0",
    "?until={future.ms}",
    "?until={future}",
    "?from=oldest&until={oldest}",
    "?from=oldest&until={middle}",
    "?from=oldest&until={middle.ms}",
    "?from=oldest&until={middle.time}",
    "?from=oldest&until={middle.ms-1}",
    "?from=oldest&until={newest}",
    "?from=oldest&until={newest+}",
    "?from=oldest&until={cut}",
    "?from=oldest&until=5-5",
    "?from=oldest&until={newest}&event=click",
    "?from=oldest&until={oldest}&event=click",
    "?from=oldest&until={future.ms}",
    "?since=1d&until={middle}",
    "?since={middle.ms}&until={middle}",
    "?since={newest.ms}&until={middle}",
    "Last-Event-ID: {oldest} ?until={middle}",
    "Last-Event-ID: @{middle} ?until={middle}",
    "Last-Event-ID: {middle} ?until={middle}",
    "Last-Event-ID: {newest} ?until={middle}",
    "Last-Event-ID: {gone} ?until={middle}",
    "Last-Event-ID: {cut} ?until={middle}",
    "Last-Event-ID: {gone} ?until={cut}",
    "Last-Event-ID: 5-5 ?until={middle}",
    "Last-Event-ID: 5-4 ?until=5-5",
    "Last-Event-ID: 0-0 ?until=5-5",
    "Last-Event-ID: nonsense ?until={middle}",
    "Last-Event-ID: {future} ?until={newest}",
    // Pages of history.
    "?limit=1",
    "?from=oldest&limit=2",
    "?last=2&limit=1",
    "Last-Event-ID: {oldest} ?limit=1",
    "Last-Event-ID: {gone} ?limit=1",
    "Last-Event-ID: {cut} ?limit=1",
    // Two channels.
    "?channel={log}&channel=other",
    "Last-Event-ID: {newest} ?channel={log}&channel=other",
    "Last-Event-ID: nonsense ?channel={log}&channel=other",
    "Last-Event-ID: {log}={middle},other={aside} ?channel={log}&channel=other",
    "Last-Event-ID: {log}={newest},other={aside} ?channel={log}&channel=other",
    "Last-Event-ID: {log}={cut},other={aside} ?channel={log}&channel=other",
    "Last-Event-ID: {log}={gone},other=@{aside} ?channel={log}&channel=other",
    "Last-Event-ID: {log}=0-0,other={origin} ?channel={log}&channel=other",
    "Last-Event-ID: {log}=5-5,other=x ?channel={log}&channel=other",
    "Last-Event-ID: {log}=@{middle} ?channel={log}&channel=other",
    "Last-Event-ID: other={aside} ?channel={log}&channel=other",
    "Last-Event-ID: other={origin} ?channel={log}&channel=other",
    "Last-Event-ID: {log}={middle},other={aside},x=5-5 ?channel={log}&channel=other",
    "Last-Event-ID: x=5-5 ?channel={log}&channel=other",
    "Last-Event-ID: {log}={newest} ?channel={log}&channel=other&from=oldest",
    "?last_event_id={log}={middle},other={aside}&channel={log}&channel=other",
    "?since=1d&channel={log}&channel=other",
    "?since={newest.ms}&channel={log}&channel=other",
    "?last=0&channel={log}&channel=other",
    "?last=1&channel={log}&channel=other",
    "?last=9&channel={log}&channel=other",
    "?last=1&event=click&channel={log}&channel=other",
    "?from=oldest&channel={log}&channel=other",
    "?until={aside}&channel={log}&channel=other",
    "?from=oldest&until={middle}&channel={log}&channel=other",
    "?from=oldest&until={aside}&channel={log}&channel=other",
    "Last-Event-ID: {log}={newest},other={aside} ?until={aside}&channel={log}&channel=other",
    // Requests that are rejected.
    "?last=1&since=5m",
    "?from=oldest&last=1",
    "?last=10001",
    "?from=newest",
    "?since=soon",
    "?until=10m",
];

/// Names for ids that no event has.
const NO_EVENTS: [(&str, EventId); 2] = [
    ("future", EventId::new(99_999_999_999_999, 0)),
    ("max", EventId::new(u64::MAX, u64::MAX)),
];

const BACKENDS: [(Backend, &str); 3] = [
    (Backend::Embedded, "embedded"),
    (Backend::Memory, "memory"),
    (Backend::Redis, "redis"),
];

/// How long before the first request all events have been published.
///
/// Over Redis, a time is over only when the clock is a second past it. If the broker does not
/// answer in time, a stream without a start begins with what is at most two seconds old.
const SETTLED_AFTER_MS: u64 = 2_100;

/// How often a request is sent until its stream does not end without an event.
///
/// A stream that is over gets a 204. If the broker does not answer in time, it gets an empty stream
/// instead, and a client learns of the end when it reconnects.
const TRIES_MAX: usize = 10;

/// The first heartbeat of a stream shows that it has sent everything that the log contains.
const HEARTBEAT: [&str; 2] = ["--heartbeat", "1s"];

/// Names for the ids of events.
type Names = Vec<(&'static str, EventId)>;

/// A log: what one channel contains, and names for its events.
struct Log {
    title: &'static str,
    channel: &'static str,
    names: Names,
    origin: String,
}

/// Logs on one server.
struct Site {
    server: TestServer,
    _directory: Option<TempDir>,
    logs: Vec<Log>,
}

/// What one request got from one log.
struct TableRow {
    log: &'static str,
    request: &'static str,
    cells: Vec<String>,
}

fn now_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since_epoch.as_millis()).unwrap()
}

async fn until_clock_reaches(ms: u64) {
    until("a later time", async || (now_ms() >= ms).then_some(())).await;
}

/// Publishes an event per name; each event is at least 5 ms later than the one before.
async fn publish(server: &TestServer, channel: &str, names: &[&'static str]) -> Names {
    let mut published = Vec::new();
    for name in names {
        let kind = if matches!(*name, "oldest" | "newest") {
            "view"
        } else {
            "click"
        };
        let id: EventId = server
            .publish(channel, kind, name)
            .await
            .parse()
            .expect("an id");
        until_clock_reaches(id.ms + 5).await;
        published.push((*name, id));
    }
    published
}

impl Site {
    async fn new(server: TestServer, logs: Vec<(&'static str, &'static str, Names)>) -> Self {
        let aside = publish(&server, "other", &["aside"]).await;
        let unused = server.get("/events?channel=unused").await.unwrap();
        let unused: Value = unused.json().await.unwrap();
        let logs = logs.into_iter().map(|(title, channel, mut names)| {
            names.extend(&aside);
            Log {
                title,
                channel,
                names,
                origin: unused["next"].as_str().unwrap().to_owned(),
            }
        });
        Self {
            logs: logs.collect(),
            server,
            _directory: None,
        }
    }

    /// Nothing was removed from these logs.
    async fn whole(backend: Backend) -> Self {
        let server = TestServer::start_with(backend, &HEARTBEAT).await;
        let names = publish(&server, "log-whole", &["oldest", "middle", "newest"]).await;
        let logs = vec![
            ("a log that never had an event", "log-never", Vec::new()),
            ("a log of three events", "log-whole", names),
        ];
        Self::new(server, logs).await
    }

    async fn trimmed_by_count(backend: Backend) -> Self {
        let flags = [&HEARTBEAT[..], &["--history-events", "3"]].concat();
        let server = TestServer::start_with(backend, &flags).await;
        if let Some(redis) = &server.redis {
            // Redis trims whole nodes of its stream.
            redis.run("CONFIG SET stream-node-max-entries 1").await;
        }
        let all = ["gone", "cut", "oldest", "middle", "newest"];
        let names = publish(&server, "log-trimmed", &all).await;
        until_oldest_is(&server, "log-trimmed", "oldest").await;
        let title = "a log that trimmed two events by count and kept three";
        Self::new(server, vec![(title, "log-trimmed", names)]).await
    }

    async fn trimmed_by_age(backend: Backend) -> Self {
        let flags = [&HEARTBEAT[..], &["--history-age", "300ms"]].concat();
        let server = TestServer::start_with(backend, &flags).await;
        let mut names = publish(&server, "log-aged", &["gone", "cut", "newest"]).await;
        until_oldest_is(&server, "log-aged", "newest").await;
        names.push(("oldest", names[2].1));
        let title = "a log that trimmed two events by age and kept the newest";
        Self::new(server, vec![(title, "log-aged", names)]).await
    }

    async fn wiped(backend: Backend) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("log");
        let mut server = match backend {
            Backend::Embedded => TestServer::on_directory(&path, &HEARTBEAT).await,
            _ => TestServer::start_with(backend, &HEARTBEAT).await,
        };
        let wiped = publish(&server, "log-wiped", &["gone", "cut"]).await;
        let mut refilled = publish(&server, "log-refilled", &["gone", "cut"]).await;
        server.kill();
        if let Some(redis) = &server.redis {
            redis.run("FLUSHALL").await;
        }
        if path.exists() {
            std::fs::remove_dir_all(&path).unwrap();
        }
        server.restart().await;
        refilled.extend(publish(&server, "log-refilled", &["oldest", "middle", "newest"]).await);
        let logs = vec![
            (
                "a log that was wiped with its two events",
                "log-wiped",
                wiped,
            ),
            (
                "a log that was wiped and then got three events",
                "log-refilled",
                refilled,
            ),
        ];
        let site = Self::new(server, logs).await;
        Self {
            _directory: Some(directory),
            ..site
        }
    }

    /// The rows of all requests to the logs of this server.
    async fn rows(&mut self) -> Vec<TableRow> {
        let server = &self.server;
        let rows = self.logs.iter_mut().map(async |log| log.rows(server).await);
        join_all(rows).await.into_iter().flatten().collect()
    }
}

async fn until_oldest_is(server: &TestServer, channel: &str, name: &str) {
    until("the log is trimmed", async || {
        let history = server.history(channel).await;
        (history[0].data == name).then_some(())
    })
    .await;
}

/// Starts the servers of all logs, in the order of the table.
async fn logs(backend: Backend) -> [Site; 4] {
    let (whole, trimmed, aged, wiped) = futures::future::join4(
        Box::pin(Site::whole(backend)),
        Box::pin(Site::trimmed_by_count(backend)),
        Box::pin(Site::trimmed_by_age(backend)),
        Box::pin(Site::wiped(backend)),
    )
    .await;
    [whole, trimmed, aged, wiped]
}

impl Log {
    async fn rows(&mut self, server: &TestServer) -> Vec<TableRow> {
        let log = &*self;
        let mut rows = Vec::new();
        // One request at a time: the server limits the time to the first byte.
        for request in REQUESTS {
            if let Some(resolved) = log.resolve(request) {
                let stream = log.send(server, "/stream", &resolved).await;
                let open = OpenStream::new(stream).await;
                let history = log.send(server, "/events", &resolved).await;
                let history = log.history_cells(history).await;
                rows.push((*request, resolved, open, history));
            }
        }
        let settling = rows
            .iter_mut()
            .map(|(_, resolved, open, _)| log.read_to_rest(server, resolved, open));
        join_all(settling).await;
        self.names
            .extend(publish(server, self.channel, &["live"]).await);
        let log = &*self;
        join_all(
            rows.iter_mut()
                .map(|(_, _, open, _)| open.read_until_live(log)),
        )
        .await;
        let rows = rows
            .into_iter()
            .map(|(request, _, open, history)| TableRow {
                log: log.title,
                request,
                cells: open.cells(log).into_iter().chain(history).collect(),
            });
        rows.collect()
    }

    /// Reads a stream until its heartbeat or its end; see [`TRIES_MAX`].
    async fn read_to_rest(&self, server: &TestServer, request: &str, open: &mut OpenStream) {
        open.read_until_heartbeat(self).await;
        for _ in 1..TRIES_MAX {
            if request.contains("until=") && open.has_moved() {
                // The end follows the heartbeat that carries its position.
                open.read_until_heartbeat(self).await;
            }
            if !open.is_over_without_event() {
                return;
            }
            *open = OpenStream::new(self.send(server, "/stream", request).await).await;
            open.read_until_heartbeat(self).await;
        }
    }

    async fn send(&self, server: &TestServer, path: &str, request: &str) -> Response {
        let (header, query) = request.split_once('?').unwrap_or((request, ""));
        let mut url = format!("{path}?{query}");
        if !query.contains("channel=") {
            let and = if query.is_empty() { "" } else { "&" };
            write!(url, "{and}channel={}", self.channel).unwrap();
        }
        let with_header = |builder: RequestBuilder| match header.strip_prefix("Last-Event-ID:") {
            Some(id) => builder.header("last-event-id", id.trim()),
            None => builder,
        };
        let builder = with_header(server.http.get(server.at(&url)));
        builder.send().await.expect("a response")
    }

    /// Replaces the names in braces; returns `None` if the log never had such an event.
    fn resolve(&self, request: &str) -> Option<String> {
        let mut parts = request.split('{');
        let mut resolved = parts.next()?.to_owned();
        for part in parts {
            let (name, rest) = part.split_once('}').expect("a closing brace");
            resolved += &self.value_of(name)?;
            resolved += rest;
        }
        Some(resolved)
    }

    fn value_of(&self, name: &str) -> Option<String> {
        if name == "log" {
            return Some(self.channel.to_owned());
        }
        if name == "origin" {
            return Some(self.origin.clone());
        }
        let suffix = name.find(|char: char| !char.is_alphabetic());
        let (name, suffix) = name.split_at(suffix.unwrap_or(name.len()));
        let id = self.id_of(name)?;
        Some(match suffix {
            "" => id.to_string(),
            "+" => EventId::new(id.ms + 1, 0).to_string(),
            "-" => EventId::new(id.ms - 1, 0).to_string(),
            ".ms" => id.ms.to_string(),
            ".ms+1" => (id.ms + 1).to_string(),
            ".ms-1" => (id.ms - 1).to_string(),
            ".time" => time_text(id.ms),
            ".offset" => time_text(id.ms).replace('Z', "+00:00"),
            _ => panic!("no value {suffix}"),
        })
    }

    fn id_of(&self, name: &str) -> Option<EventId> {
        let mut all = self.names.iter().chain(&NO_EVENTS);
        all.find(|(known, _)| *known == name).map(|(_, id)| *id)
    }

    /// Names the ids in a cursor.
    fn name_of(&self, cursor: &str) -> String {
        let name = |position: &str| {
            let id = position.trim_start_matches('@');
            let at = &position[..position.len() - id.len()];
            format!("{at}{}", self.name_of_id(id))
        };
        let parts = cursor.split(',').map(|part| match part.split_once('=') {
            Some((channel, position)) if channel == self.channel => {
                format!("log={}", name(position))
            }
            Some((channel, position)) => format!("{channel}={}", name(position)),
            None => name(part),
        });
        parts.collect::<Vec<_>>().join(",")
    }

    fn name_of_id(&self, text: &str) -> String {
        if text == self.origin {
            return "origin".to_owned();
        }
        let Ok(id) = text.parse::<EventId>() else {
            return text.to_owned();
        };
        let at = |ms: u64| EventId::new(ms, 0);
        let mut all = self.names.iter().chain(&NO_EVENTS);
        let exact = all.find(|(_, event)| *event == id);
        let near = || {
            self.names.iter().find_map(|(name, event)| {
                let near = [(event.ms + 1, "+"), (event.ms - 1, "-"), (event.ms, ".ms")];
                let (_, suffix) = near.into_iter().find(|(ms, _)| at(*ms) == id)?;
                Some(format!("{name}{suffix}"))
            })
        };
        let day_ago = now_ms() - 24 * 60 * 60 * 1000;
        match exact {
            Some((name, _)) => (*name).to_owned(),
            None if day_ago.abs_diff(id.ms) < 600_000 => "1d-ago".to_owned(),
            None => near().unwrap_or_else(|| text.to_owned()),
        }
    }

    /// An event by its data, which is its name; an id that does not fit is added.
    fn event(&self, channel: &str, id: &str, data: &str) -> String {
        let own = position_in(id, channel);
        let expected = self.id_of(data).map(|id| id.to_string());
        if expected.as_deref() == Some(own) {
            data.to_owned()
        } else {
            format!("{data}?{}", self.name_of(id))
        }
    }

    fn gap(&self, gap: &Value, id: Option<&str>) -> String {
        let after = self.name_of(gap["after"].as_str().expect("after"));
        let oldest = gap["oldest"]
            .as_str()
            .map_or("none".to_owned(), |id| self.name_of(id));
        let channel = gap["channel"].as_str().expect("a channel");
        let id = id.map_or_else(String::new, |id| {
            format!(" {}", self.name_of(position_in(id, channel)))
        });
        let lost = if gap["lost"].is_null() {
            String::new()
        } else {
            let name = |key: &str| self.name_of(gap["lost"][key].as_str().expect("an id"));
            format!(" lost {}..{}", name("after"), name("before"))
        };
        let reason = gap["reason"].as_str().expect("a reason");
        format!("{reason} {after}..{oldest}{id}{lost}")
    }

    /// The columns gap, events, next and more.
    async fn history_cells(&self, response: Response) -> Vec<String> {
        if response.status() != StatusCode::OK {
            let rest = ["-", "-", "-"].map(ToOwned::to_owned);
            return [vec![refusal(response).await], rest.to_vec()].concat();
        }
        let page: Value = response.json().await.expect("JSON");
        let gaps = gaps(&page, self.channel);
        let gaps = gaps.into_iter().map(|gap| self.gap(gap, None));
        let gap = or_dash(&gaps.collect::<Vec<_>>());
        let events = page["events"].as_array().expect("events");
        let events = events.iter().map(|event| {
            let text = |key: &str| event[key].as_str().expect("text");
            let channel = event["channel"].as_str().unwrap_or(self.channel);
            self.event(channel, text("id"), text("data"))
        });
        let next = self.name_of(page["next"].as_str().expect("a cursor"));
        let more = page["more"].to_string();
        vec![gap, or_dash(&events.collect::<Vec<_>>()), next, more]
    }
}

/// The gaps of an answer for one or two channels, that of `first` before the other.
fn gaps<'a>(page: &'a Value, first: &str) -> Vec<&'a Value> {
    let several = page["gaps"].as_array().into_iter().flatten();
    let one = Some(&page["gap"]).filter(|gap| !gap.is_null());
    let mut gaps: Vec<&Value> = one.into_iter().chain(several).collect();
    gaps.sort_by_key(|gap| gap["channel"] != first);
    gaps
}

/// The position in a channel that a cursor holds; a plain cursor is that of every channel.
fn position_in<'a>(cursor: &'a str, channel: &str) -> &'a str {
    let mut parts = cursor.split(',').filter_map(|part| part.split_once('='));
    let own = parts.find(|(name, _)| *name == channel);
    own.map_or(cursor, |(_, position)| position)
}

fn or_dash(words: &[String]) -> String {
    if words.is_empty() {
        "-".to_owned()
    } else {
        words.join(" ")
    }
}

/// A status that is not 200, and the code of the error.
async fn refusal(response: Response) -> String {
    let status = response.status().as_u16();
    let text = response.text().await.expect("text");
    match serde_json::from_str::<Value>(&text) {
        Ok(body) => format!(
            "{status} {}",
            body["error"]["code"].as_str().expect("a code")
        ),
        Err(_) => status.to_string(),
    }
}

/// A stream while it is read.
struct OpenStream {
    /// `None` at its end.
    subscriber: Option<Subscriber>,
    opens: String,
    /// Events, and what else the stream sends, with the channel that it is about.
    seen: Vec<(String, String)>,
}

impl OpenStream {
    async fn new(response: Response) -> Self {
        let (subscriber, opens) = if response.status() == StatusCode::OK {
            (Some(Subscriber::new(response)), String::new())
        } else {
            (None, refusal(response).await)
        };
        Self {
            subscriber,
            opens,
            seen: Vec::new(),
        }
    }

    /// Whether a heartbeat with a position came last.
    fn has_moved(&self) -> bool {
        self.seen
            .last()
            .is_some_and(|(_, what)| what.starts_with('['))
    }

    fn is_over_without_event(&self) -> bool {
        let is_event = |what: &str| what != "end" && !what.starts_with('[');
        let is_over = self.seen.last().is_some_and(|(_, what)| what == "end");
        is_over && !self.seen.iter().any(|(_, what)| is_event(what))
    }

    async fn read_until_heartbeat(&mut self, log: &Log) {
        while let Some(block) = self.next_block(log).await {
            if block.lines().any(|line| line == ":") {
                if let Some(moved_to) = field(&block, "id") {
                    self.see(log.channel, format!("[{}]", log.name_of(moved_to)));
                }
                return;
            }
        }
    }

    async fn read_until_live(&mut self, log: &Log) {
        while let Some(block) = self.next_block(log).await {
            if field(&block, "data") == Some("live") {
                return;
            }
        }
    }

    /// The next block; `None` at the end of the stream.
    async fn next_block(&mut self, log: &Log) -> Option<String> {
        let subscriber = self.subscriber.as_mut()?;
        let Some(block) = subscriber.try_next_block().await else {
            self.subscriber = None;
            self.see("zz", "end".to_owned());
            return None;
        };
        match (
            field(&block, "event"),
            field(&block, "id"),
            field(&block, "data"),
        ) {
            (Some("gap"), Some(id), Some(data)) => {
                let gap: Value = serde_json::from_str(data).expect("JSON");
                let channel = gap["channel"].as_str().expect("a channel");
                self.see(channel, format!("gap({})", log.gap(&gap, Some(id))));
            }
            (Some(_), Some(id), Some(data)) => {
                let channel = if data == "aside" {
                    "other"
                } else {
                    log.channel
                };
                self.see(channel, log.event(channel, id, data));
            }
            (_, Some(id), _) if self.opens.is_empty() => self.opens = log.name_of(id),
            _ => {}
        }
        Some(block)
    }

    fn see(&mut self, channel: &str, what: String) {
        self.seen.push((channel.to_owned(), what));
    }

    /// The columns opens and stream.
    fn cells(mut self, log: &Log) -> Vec<String> {
        // The order of events of different channels is not defined.
        let place = |channel: &str| match channel {
            "zz" => 2,
            channel => usize::from(channel != log.channel),
        };
        self.seen.sort_by_key(|(channel, _)| place(channel));
        let seen = self.seen.into_iter().map(|(_, what)| what);
        if self.opens.is_empty() {
            self.opens.push('-');
        }
        vec![self.opens, or_dash(&seen.collect::<Vec<_>>())]
    }
}

fn field<'a>(block: &'a str, name: &str) -> Option<&'a str> {
    let value = |line: &'a str| line.strip_prefix(name)?.strip_prefix(": ");
    block.lines().find_map(value)
}

const WIDTHS: [usize; 7] = [48, 15, 22, 58, 32, 20, 8];

fn line(cells: &[&str]) -> String {
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(WIDTHS.into_iter().chain([0])) {
        write!(line, "{cell:width$}  ").unwrap();
    }
    line.trim_end().to_owned() + "\n"
}

/// Joins the rows of the brokers: one line per distinct response.
fn table(rows: &[Vec<TableRow>; 3]) -> String {
    let mut table = LEGEND.to_owned();
    let mut title = "";
    for (nth, row) in rows[0].iter().enumerate() {
        if row.log != title {
            title = row.log;
            write!(table, "\n## {title}\n\n").unwrap();
            table += &line(&[
                "request", "brokers", "opens", "stream", "gap", "events", "next", "more",
            ]);
        }
        let mut distinct: Vec<(&[String], Vec<&str>)> = Vec::new();
        for (rows, (_, broker)) in rows.iter().zip(BACKENDS) {
            let cells = rows[nth].cells.as_slice();
            match distinct.iter_mut().find(|(known, _)| *known == cells) {
                Some((_, brokers)) => brokers.push(broker),
                None => distinct.push((cells, vec![broker])),
            }
        }
        for (cells, brokers) in distinct {
            let brokers = if brokers.len() == 3 {
                "all".to_owned()
            } else {
                brokers.join(" ")
            };
            let cells = cells.iter().map(String::as_str);
            table += &line(
                &[row.request, &brokers]
                    .into_iter()
                    .chain(cells)
                    .collect::<Vec<_>>(),
            );
        }
    }
    table
}

/// The lines that only one of two texts has, after the titles of their sections.
fn diff(expected: &str, found: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), found.lines().collect());
    // common[i][j]: how many lines old[i..] and new[j..] have in common, in order.
    let mut common = vec![vec![0; new.len() + 1]; old.len() + 1];
    for (i, j) in (0..old.len())
        .rev()
        .flat_map(|i| (0..new.len()).rev().map(move |j| (i, j)))
    {
        common[i][j] = if old[i] == new[j] {
            common[i + 1][j + 1] + 1
        } else {
            common[i + 1][j].max(common[i][j + 1])
        };
    }
    let (mut i, mut j, mut diff, mut title) = (0, 0, String::new(), None);
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            if old[i].starts_with("## ") {
                title = Some(old[i]);
            }
            (i, j) = (i + 1, j + 1);
            continue;
        }
        if let Some(title) = title.take() {
            writeln!(diff, "  {title}").unwrap();
        }
        if j == new.len() || (i < old.len() && common[i + 1][j] >= common[i][j + 1]) {
            writeln!(diff, "- {}", old[i]).unwrap();
            i += 1;
        } else {
            writeln!(diff, "+ {}", new[j]).unwrap();
            j += 1;
        }
    }
    diff
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_gets_from_every_log_what_the_table_lists() {
    let sites = join_all(BACKENDS.map(|(backend, _)| logs(backend))).await;
    until_clock_reaches(now_ms() + SETTLED_AFTER_MS).await;
    let mut rows = Vec::new();
    for mut sites in sites {
        let of_backend = join_all(sites.iter_mut().map(Site::rows)).await;
        rows.push(of_backend.into_iter().flatten().collect::<Vec<_>>());
    }
    let rows: [Vec<TableRow>; 3] = rows.try_into().unwrap_or_else(|_| unreachable!());
    let found = table(&rows);
    let expected = std::fs::read_to_string(TABLE).unwrap();
    if found != expected {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("start_table.txt");
        std::fs::write(&path, &found).unwrap();
        panic!(
            "a row of start_table.txt differs (- expected, + found); the table as found is in {}\n{}",
            path.display(),
            diff(&expected, &found)
        );
    }
}
