//! A peer of the benchmark: the plain way to serve events with actix-web-lab, a channel for each subscriber.
//!
//! `GET` subscribes, `POST /event/{action}` publishes its body to everybody. It has the keep-alive comments of ours, and
//! answers a publish when every channel has the event; a subscriber with a full channel makes the publisher wait.

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

/// Events that may wait for a subscriber.
const CHANNEL: usize = 1024;

#[derive(Default)]
struct Hub {
    subscribers: RwLock<Vec<Sender<sse::Event>>>,
    published: AtomicU64,
}

#[get("/stream")]
async fn stream(hub: web::Data<Hub>) -> impl Responder {
    let (sender, receiver) = channel(CHANNEL);
    // So that the head goes out at once.
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
    let (mut full, mut is_anybody_gone) = (Vec::new(), false);
    for sender in &*hub
        .subscribers
        .read()
        .unwrap_or_else(PoisonError::into_inner)
    {
        match sender.try_send(event.clone().into()) {
            Ok(()) => {}
            Err(TrySendError::Full(event)) => full.push((sender.clone(), event)),
            Err(TrySendError::Closed(_)) => is_anybody_gone = true,
        }
    }
    join_all(
        full.into_iter()
            .map(|(sender, event)| async move { sender.send(event).await.is_ok() }),
    )
    .await;
    if is_anybody_gone {
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
