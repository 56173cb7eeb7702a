//! Channels that live and end while all other load continues. Each one is created by its first event,
//! gets some more, and is then closed, deleted, or closed and left to expire. A subscriber follows it
//! from before its first event.
//!
//! - The subscriber receives the end once, and nothing after it. A client that reconnects there gets no
//!   second one.
//! - Before the end it receives every acknowledged event once and in order, or a gap.
//! - With the embedded log, the end of a closed channel names its last acknowledged event.
//! - A failover of Redis can lose an end, as it can lose an event. A client that has the end gets a gap
//!   then, and the channel is open.

use std::{collections::BTreeSet, time::Duration};

use anyhow::Context as _;
use futures::StreamExt as _;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::Value;
use sse_proto::EventId;
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    checker::{Breach, Breaches},
    options::BrokerName,
};

/// Channels that live at the same time.
const WORKERS: u64 = 3;
/// Time in which a request succeeds, whatever happens meanwhile.
const SUCCEEDS_WITHIN: Duration = Duration::from_mins(2);
/// Pause before a request is sent again.
const RETRY: Duration = Duration::from_millis(100);
/// A stream without a byte for this time, not even a heartbeat, is opened again.
const SILENCE: Duration = Duration::from_secs(20);
/// How long a stream that should be over is watched for a second end.
const WATCH: Duration = Duration::from_secs(1);

/// How a channel ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Close,
    Delete,
    Expire,
}

/// What the channels did.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// Channels whose subscriber got the end.
    pub(crate) ended: u64,
    /// Those whose subscriber got a gap.
    with_gaps: u64,
    /// Channels whose end was lost by a failover.
    lost: u64,
}

impl Figures {
    /// Returns a line for the report.
    pub(crate) fn line(&self) -> String {
        let Self {
            ended,
            with_gaps,
            lost,
        } = self;
        format!("channels that ended: {ended}, of which {with_gaps} with gaps; ends lost: {lost}")
    }
}

/// All channels of a run.
pub(crate) struct Lifecycles(Vec<JoinHandle<anyhow::Result<(Figures, Breaches)>>>);

impl Lifecycles {
    /// Starts channels one after another, until `stop`.
    pub(crate) fn start(
        broker: BrokerName,
        ports: &[u16],
        seed: u64,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let client = Client::builder().no_proxy().pool_max_idle_per_host(0);
        let client = client.build().context("cannot set up HTTP")?;
        let worker = |number| {
            let worker = Worker {
                client: client.clone(),
                ports: ports.to_vec(),
                is_lossy: broker != BrokerName::Embedded,
                random: StdRng::seed_from_u64(seed ^ number),
                figures: Figures::default(),
                breaches: Breaches::default(),
            };
            tokio::task::spawn_local(worker.run(number, stop.clone()))
        };
        Ok(Self((0..WORKERS).map(worker).collect()))
    }

    /// Waits until the last channels have ended. Returns the figures and the broken guarantees.
    pub(crate) async fn finish(self) -> anyhow::Result<(Figures, Breaches)> {
        let (mut figures, mut breaches) = (Figures::default(), Breaches::default());
        for worker in self.0 {
            let (of_worker, found) = worker.await.context("a task of channels")??;
            figures.ended += of_worker.ended;
            figures.with_gaps += of_worker.with_gaps;
            figures.lost += of_worker.lost;
            breaches.extend(found);
        }
        Ok((figures, breaches))
    }
}

struct Worker {
    client: Client,
    ports: Vec<u16>,
    /// A failover may lose what was acknowledged.
    is_lossy: bool,
    random: StdRng,
    figures: Figures,
    breaches: Breaches,
}

/// What a subscriber received of one channel.
#[derive(Debug, Default)]
struct Followed {
    /// A failover may lose the end.
    is_lossy: bool,
    events: BTreeSet<EventId>,
    cursor: Option<String>,
    last: Option<EventId>,
    end: Option<Value>,
    gaps: u64,
    breaches: Breaches,
}

impl Worker {
    async fn run(
        mut self,
        number: u64,
        stop: CancellationToken,
    ) -> anyhow::Result<(Figures, Breaches)> {
        let mut life = 0;
        while !stop.is_cancelled() {
            self.live(&format!("life.{number}.{life}")).await?;
            life += 1;
        }
        Ok((self.figures, self.breaches))
    }

    /// The life of one channel.
    async fn live(&mut self, channel: &str) -> anyhow::Result<()> {
        let (opened, is_open) = oneshot::channel();
        let followed = Followed {
            is_lossy: self.is_lossy,
            ..Followed::default()
        };
        let nodes = (self.client.clone(), self.ports.clone());
        let following = follow(nodes, channel.to_owned(), followed, opened);
        let mut task = tokio::task::spawn_local(following);
        timeout(SUCCEEDS_WITHIN, is_open)
            .await
            .context("no stream of a new channel could be opened")??;
        let mut acknowledged = Vec::new();
        for number in 0..self.random.random_range(1..20) {
            acknowledged.push(self.publish(channel, number).await?);
            sleep(Duration::from_millis(self.random.random_range(0..60))).await;
        }
        let ending =
            [Ending::Close, Ending::Delete, Ending::Expire][self.random.random_range(0..3_usize)];
        let was_found = self.end(channel, ending).await?;
        let ended = timeout(SUCCEEDS_WITHIN, &mut task).await;
        match ended {
            Ok(followed) => self.judge(channel, ending, &acknowledged, followed?),
            Err(_) if self.is_lossy && (!was_found || self.is_open(channel).await?) => {
                self.figures.lost += 1;
                task.abort();
            }
            Err(_) => {
                task.abort();
                let what = format!("{channel}: no end after {ending:?}");
                self.breaches.add(Breach::Lost, what);
            }
        }
        Ok(())
    }

    /// Publishes an event until it is acknowledged. Returns its id.
    async fn publish(&self, channel: &str, number: u64) -> anyhow::Result<EventId> {
        let target = format!("/event/step?channel={channel}&ttl_closed=1s");
        let key = format!("{channel}-{number}");
        let response = self
            .send(Method::POST, &target, &key, number.to_string())
            .await?;
        let response = response.with_context(|| format!("{channel}: it is gone"))?;
        let id = response["id"]
            .as_str()
            .context("a response without an id")?;
        Ok(id.parse()?)
    }

    /// Ends a channel. Returns false if it does not exist any more.
    async fn end(&self, channel: &str, ending: Ending) -> anyhow::Result<bool> {
        let target = format!("/channels/{channel}");
        let response = match ending {
            Ending::Delete => {
                self.send(Method::DELETE, &target, "", String::new())
                    .await?
            }
            Ending::Close | Ending::Expire => {
                let body = r#"{"reason":"completed"}"#.to_owned();
                self.send(Method::POST, &format!("{target}/close"), "", body)
                    .await?
            }
        };
        if ending == Ending::Expire {
            sleep(Duration::from_millis(1500)).await;
        }
        Ok(response.is_some())
    }

    async fn is_open(&self, channel: &str) -> anyhow::Result<bool> {
        let target = format!("/channels/{channel}");
        let found = self.send(Method::GET, &target, "", String::new()).await?;
        Ok(found.is_none_or(|found| found["state"] == "open"))
    }

    /// Sends a request to the nodes in turn, until one succeeds. Returns `None` if there is no such
    /// channel.
    async fn send(
        &self,
        method: Method,
        target: &str,
        key: &str,
        body: String,
    ) -> anyhow::Result<Option<Value>> {
        let deadline = Instant::now() + SUCCEEDS_WITHIN;
        let mut failure = "nothing was sent".to_owned();
        for port in self.ports.iter().cycle() {
            if Instant::now() > deadline {
                break;
            }
            let url = format!("http://127.0.0.1:{port}{target}");
            let mut request = self.client.request(method.clone(), url);
            request = request.timeout(Duration::from_secs(5)).body(body.clone());
            let kind = if body.starts_with('{') {
                "application/json"
            } else {
                "text/plain"
            };
            request = request.header("content-type", kind);
            if !key.is_empty() {
                request = request.header("idempotency-key", key);
            }
            match request.send().await {
                Ok(response) if response.status().is_success() => {
                    let text = response.text().await.unwrap_or_default();
                    return Ok(Some(serde_json::from_str(&text).unwrap_or_default()));
                }
                Ok(response) if response.status() == StatusCode::NOT_FOUND => return Ok(None),
                Ok(response) => failure = response.status().to_string(),
                Err(error) => failure = error.to_string(),
            }
            sleep(RETRY).await;
        }
        anyhow::bail!("{method} {target} fails for {SUCCEEDS_WITHIN:?}: {failure}")
    }

    fn judge(
        &mut self,
        channel: &str,
        ending: Ending,
        acknowledged: &[EventId],
        followed: Followed,
    ) {
        self.figures.ended += 1;
        self.figures.with_gaps += u64::from(followed.gaps > 0);
        self.breaches.extend(followed.breaches);
        let missing: Vec<_> = acknowledged
            .iter()
            .filter(|id| !followed.events.contains(id))
            .collect();
        if !missing.is_empty() && followed.gaps == 0 {
            let what = format!("{channel}: the end came without {missing:?}, after {ending:?}");
            self.breaches.add(Breach::Lost, what);
        }
        let end = followed.end.unwrap_or_default();
        let last = acknowledged.last().map(ToString::to_string);
        let names_last = end["last"].as_str() == last.as_deref();
        if !self.is_lossy && end["reason"] == "completed" && !names_last {
            let what = format!("{channel}: {end} does not name {last:?}");
            self.breaches.add(Breach::WrongId, what);
        }
    }
}

/// Follows a channel to its end, and then checks that a client at the end gets no second one.
async fn follow(
    (client, ports): (Client, Vec<u16>),
    channel: String,
    mut followed: Followed,
    opened: oneshot::Sender<()>,
) -> Followed {
    let mut opened = Some(opened);
    for port in ports.iter().cycle() {
        let url = format!("http://127.0.0.1:{port}/stream?channel={channel}");
        let mut request = client.get(url);
        if let Some(cursor) = &followed.cursor {
            request = request.header("last-event-id", cursor);
        }
        match timeout(SILENCE, request.send()).await {
            Ok(Ok(response)) if response.status() == StatusCode::NO_CONTENT => {
                if followed.end.is_none() {
                    let what = format!("{channel}: 204 at {:?} before the end", followed.cursor);
                    followed.breaches.add(Breach::Lost, what);
                }
                return followed;
            }
            Ok(Ok(response)) if response.status().is_success() => {
                let was_over = followed.end.is_some();
                let until = was_over.then(|| Instant::now() + WATCH);
                followed.read(&channel, response, until, &mut opened).await;
                if was_over {
                    return followed;
                }
            }
            _ => sleep(RETRY).await,
        }
    }
    followed
}

impl Followed {
    /// Reads a stream until it breaks off or ends.
    async fn read(
        &mut self,
        channel: &str,
        response: Response,
        until: Option<Instant>,
        opened: &mut Option<oneshot::Sender<()>>,
    ) {
        let (mut stream, mut rest) = (response.bytes_stream(), Vec::new());
        loop {
            let by = until.unwrap_or_else(|| Instant::now() + SILENCE);
            let Ok(Some(Ok(bytes))) = timeout_at(by, stream.next()).await else {
                return;
            };
            rest.extend_from_slice(&bytes);
            while let Some(end) = rest.windows(2).position(|two| two == b"\n\n") {
                let block: Vec<u8> = rest.drain(..end + 2).collect();
                self.take(channel, &String::from_utf8_lossy(&block));
                // A stream opens without a position if the log is slow. A client that loses it then
                // starts at the present of its next stream, so no event is published before.
                if self.cursor.is_some()
                    && let Some(opened) = opened.take()
                {
                    let _ = opened.send(());
                }
            }
        }
    }

    /// Takes a block of the stream.
    fn take(&mut self, channel: &str, block: &str) {
        let field = |name| block.lines().find_map(|line| line.strip_prefix(name));
        let id = field("id: ");
        self.cursor = id.map(ToOwned::to_owned).or(self.cursor.take());
        let data = field("data: ").unwrap_or_default();
        let Some(kind) = field("event: ") else {
            return;
        };
        if self.is_lossy && kind == "gap" {
            self.end = None;
        }
        if self.end.is_some() {
            let what = format!("{channel}: after the end came {kind} {data}");
            let breach = if kind == "end" {
                Breach::Repeated
            } else {
                Breach::Disordered
            };
            self.breaches.add(breach, what);
        }
        match kind {
            "end" => self.end = Some(serde_json::from_str(data).unwrap_or_default()),
            "gap" => self.gaps += 1,
            _ => self.take_event(channel, id),
        }
    }

    fn take_event(&mut self, channel: &str, id: Option<&str>) {
        let Some(id) = id.and_then(|id| id.parse::<EventId>().ok()) else {
            let what = format!("{channel}: an event without an id: {id:?}");
            self.breaches.add(Breach::WrongId, what);
            return;
        };
        if self.last.is_some_and(|last| last >= id) {
            let what = format!("{channel}: {id} came after {:?}", self.last);
            let is_repeated = self.events.contains(&id);
            let breach = if is_repeated {
                Breach::Repeated
            } else {
                Breach::Disordered
            };
            self.breaches.add(breach, what);
        }
        self.last = self.last.max(Some(id));
        self.events.insert(id);
    }
}
