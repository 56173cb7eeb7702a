//! A scripted server of key sets: each request gets the next response of a list, and then the last
//! one again.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
};
use url::Url;

/// What the server does with a request.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    /// Respond with this status line, these headers and this body.
    Send {
        status: &'static str,
        headers: String,
        body: String,
    },
    /// Send this many bytes without a length.
    Endless(usize),
    /// Respond when [`JwksServer::release`] is called.
    Held(String),
    /// Close the connection.
    Close,
    /// Never respond.
    Silent,
}

pub(super) fn set(body: &impl ToString) -> Reply {
    reply("200 OK", "", body)
}

pub(super) fn reply(status: &'static str, headers: &str, body: &impl ToString) -> Reply {
    Reply::Send {
        status,
        headers: headers.to_owned(),
        body: body.to_string(),
    }
}

/// The server, which ends with the runtime of the test.
pub(super) struct JwksServer {
    pub(super) url: Url,
    shared: Arc<Shared>,
}

struct Shared {
    script: Mutex<Vec<Reply>>,
    next: AtomicUsize,
    requests: watch::Sender<Vec<String>>,
    released: Notify,
}

impl JwksServer {
    pub(super) async fn start(script: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks.json", listener.local_addr().unwrap())
            .parse()
            .unwrap();
        let shared = Arc::new(Shared {
            script: Mutex::new(script),
            next: AtomicUsize::new(0),
            requests: watch::Sender::default(),
            released: Notify::new(),
        });
        let serving = shared.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(respond(socket, serving.clone()));
            }
        });
        Self { url, shared }
    }

    /// Appends responses to the script.
    pub(super) fn then(&self, reply: Reply) {
        let mut script = self.shared.script.lock().unwrap();
        let next = self.shared.next.load(Ordering::SeqCst);
        script.truncate(next.max(1));
        script.push(reply);
    }

    /// Lets one held request continue.
    pub(super) fn release(&self) {
        self.shared.released.notify_one();
    }

    /// Waits until this many requests came; returns their heads.
    pub(super) async fn requests(&self, count: usize) -> Vec<String> {
        let mut requests = self.shared.requests.subscribe();
        let heads = requests
            .wait_for(|heads| heads.len() >= count)
            .await
            .unwrap();
        heads.clone()
    }

    pub(super) fn request_count(&self) -> usize {
        self.shared.requests.borrow().len()
    }
}

async fn respond(mut socket: TcpStream, shared: Arc<Shared>) -> std::io::Result<()> {
    while let Some(head) = read_head(&mut socket).await? {
        let reply = {
            let script = shared.script.lock().unwrap();
            let next = shared.next.fetch_add(1, Ordering::SeqCst);
            script[next.min(script.len() - 1)].clone()
        };
        shared.requests.send_modify(|heads| heads.push(head));
        match reply {
            Reply::Send {
                status,
                headers,
                body,
            } => {
                send(&mut socket, status, &headers, &body).await?;
            }
            Reply::Held(body) => {
                shared.released.notified().await;
                send(&mut socket, "200 OK", "", &body).await?;
            }
            Reply::Endless(bytes) => {
                socket
                    .write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
                    .await?;
                socket.write_all(&vec![b' '; bytes]).await?;
                return Ok(());
            }
            Reply::Close => return Ok(()),
            Reply::Silent => std::future::pending().await,
        }
    }
    Ok(())
}

async fn send(
    socket: &mut TcpStream,
    status: &str,
    headers: &str,
    body: &str,
) -> std::io::Result<()> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n");
    socket.write_all(head.as_bytes()).await?;
    socket.write_all(body.as_bytes()).await
}

async fn read_head(socket: &mut TcpStream) -> std::io::Result<Option<String>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match socket.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return Ok(None),
        }
    }
    Ok(Some(String::from_utf8_lossy(&head).to_lowercase()))
}
