//! Peer of the benchmark: a server with one bounded queue per subscriber, built with actix-web-lab.
//!
//! `GET /stream` subscribes, and `POST /event/{action}` publishes its body to every subscriber. The
//! server sends keep-alive comments as often as sse-server. It responds to a publish when every
//! queue has the event, so a subscriber with a full queue makes the publisher wait. The server has
//! no history, no filters and no channels.

use std::{
    io,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use actix_web::{App, HttpResponse, HttpServer, Responder, get, post, web};
use actix_web_lab::sse::{self, Sse};
use bytestring::ByteString;
use futures::future::join_all;
use tokio::sync::mpsc::{Sender, channel, error::TrySendError};

/// Capacity of a subscriber's queue, in events.
const QUEUE_EVENTS_MAX: usize = 1024;

#[derive(Default)]
struct Hub {
    subscribers: RwLock<Vec<Sender<sse::Event>>>,
    published: AtomicU64,
}

#[get("/stream")]
async fn stream(hub: web::Data<Hub>) -> impl Responder {
    let (sender, receiver) = channel(QUEUE_EVENTS_MAX);
    // The comment makes the server send the head of the response at once.
    let _ = sender.try_send(sse::Event::Comment("channel sse".into()));
    hub.subscribers
        .write()
        .unwrap_or_else(PoisonError::into_inner)
        .push(sender);
    Sse::from_infallible_receiver(receiver).with_keep_alive(Duration::from_secs(15))
}

#[post("/event/{action}")]
async fn publish(action: web::Path<String>, data: String, hub: web::Data<Hub>) -> HttpResponse {
    let id = format!(
        "1700000000000-{}",
        hub.published.fetch_add(1, Ordering::Relaxed)
    );
    let event = sse::Data::new(data)
        .event(ByteString::from(action.into_inner()))
        .id(id.as_str());
    let (mut full, mut has_closed) = (Vec::new(), false);
    for sender in &*hub
        .subscribers
        .read()
        .unwrap_or_else(PoisonError::into_inner)
    {
        match sender.try_send(event.clone().into()) {
            Ok(()) => {}
            Err(TrySendError::Full(event)) => full.push((sender.clone(), event)),
            Err(TrySendError::Closed(_)) => has_closed = true,
        }
    }
    join_all(
        full.into_iter()
            .map(|(sender, event)| async move { sender.send(event).await.is_ok() }),
    )
    .await;
    if has_closed {
        hub.subscribers
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|sender| !sender.is_closed());
    }
    HttpResponse::Ok().json(serde_json::json!({ "id": id }))
}

#[actix_web::main]
async fn main() -> io::Result<()> {
    let hub = web::Data::new(Hub::default());
    let server = HttpServer::new(move || {
        App::new()
            .app_data(hub.clone())
            .service(stream)
            .service(publish)
    })
    .backlog(8192)
    .max_connections(1_000_000)
    .tcp_nodelay(true)
    .bind(("127.0.0.1", 0))?;
    for address in server.addrs() {
        println!("http://{address}");
    }
    server.run().await
}
