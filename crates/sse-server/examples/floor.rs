//! Floor of the benchmark: the cost of a server that only writes to sockets.
//!
//! The server writes the same bytes as sse-server, to the same number of sockets, and coalesces
//! events by the same rule. It has no filters, heartbeats or log. `GET` subscribes to one channel,
//! with `from=oldest` from the first event on. `POST /event/{action}` and `POST /events` publish.
//! Requests are parsed only as far as the benchmark needs.

use std::{
    collections::HashMap,
    io::{self, Read as _, Write as _},
    sync::mpsc::{Receiver, Sender, channel},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use clap::Parser;
use mio::{Events, Interest, Poll, Token, Waker, net::TcpListener, net::TcpStream};
use slab::Slab;
use sse_proto::{api::BatchLine, cursor::EventId, units::parse_duration, wire};

/// Serves events at the lowest possible cost, as a reference for benchmarks
#[derive(Parser)]
struct Settings {
    /// Threads that write to subscribers; with 0 the server only accepts events
    #[arg(long, default_value = "1")]
    threads: usize,
    /// Longest time between two passes; with 0 each event is written on its own
    #[arg(long, default_value = "5ms", value_parser = parse_duration)]
    coalesce: Duration,
}

/// Message to a fan-out thread.
enum Message {
    /// A new subscriber of a channel, and the index of its first chunk.
    Subscribe(TcpStream, String, usize),
    /// New events of a channel, one frame each.
    Publish(String, Vec<Bytes>),
}

/// Socket of a subscriber, index of its channel, index of its next chunk, and bytes of that chunk that
/// were sent.
struct Subscriber(TcpStream, usize, usize, usize);

/// Chunks of a channel, its subscribers, and frames that are in no chunk yet.
///
/// The tail keeps every chunk without a limit, because a benchmark runs only for minutes.
#[derive(Default)]
struct Channel {
    tail: Vec<Bytes>,
    subscribers: Vec<usize>,
    frames: Vec<Bytes>,
}

/// State of a fan-out thread.
struct Fanout {
    poll: Poll,
    inbox: Receiver<Message>,
    coalesce: Duration,
    subscribers: Slab<Subscriber>,
    channels: Vec<Channel>,
    by_name: HashMap<String, usize>,
}

/// Token of the waker of a thread, and of the listening socket.
const OTHER: Token = Token(usize::MAX);
const HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-type: text/event-stream\r\n\r\n\
    17\r\nretry: 3000\nid: 0-0\n:\n\n\r\n";

impl Fanout {
    fn run(mut self) -> io::Result<()> {
        let (mut events, mut not_before, mut due) =
            (Events::with_capacity(1024), Instant::now(), None::<Instant>);
        loop {
            self.poll.poll(
                &mut events,
                due.map(|due| due.saturating_duration_since(Instant::now())),
            )?;
            for event in &events {
                let Some(subscriber) = self.subscribers.get_mut(event.token().0) else {
                    // The pass is due at once if the last pass ended long enough ago.
                    due.get_or_insert(not_before);
                    continue;
                };
                if event.is_readable() && !read_available(&mut subscriber.0, &mut Vec::new()) {
                    self.subscribers.remove(event.token().0);
                } else if event.is_writable() {
                    self.write_chunks(event.token().0);
                }
            }
            let start = Instant::now();
            if due.is_some_and(|due| due <= start) {
                self.run_pass()?;
                // A pass takes at most a quarter of the time.
                let pause = (start.elapsed() * 3).min(self.coalesce);
                (due, not_before) = (None, Instant::now() + pause);
            }
        }
    }

    /// Returns the index of a channel.
    fn channel(&mut self, name: String) -> usize {
        *self.by_name.entry(name).or_insert_with(|| {
            self.channels.push(Channel::default());
            self.channels.len() - 1
        })
    }

    /// Registers new subscribers, appends new events to the tails, and writes to the subscribers of
    /// these channels.
    fn run_pass(&mut self) -> io::Result<()> {
        let mut changed = Vec::new();
        while let Ok(message) = self.inbox.try_recv() {
            match message {
                Message::Publish(name, events) => {
                    let channel = self.channel(name);
                    if self.channels[channel].frames.is_empty() {
                        changed.push(channel);
                    }
                    self.channels[channel].frames.extend(events);
                }
                Message::Subscribe(mut socket, name, from) => {
                    let channel = self.channel(name);
                    let key = self.subscribers.vacant_key();
                    self.poll.registry().register(
                        &mut socket,
                        Token(key),
                        Interest::READABLE | Interest::WRITABLE,
                    )?;
                    let first = from.min(self.channels[channel].tail.len());
                    self.subscribers
                        .insert(Subscriber(socket, channel, first, 0));
                    self.channels[channel].subscribers.push(key);
                }
            }
        }
        for channel in changed {
            self.append_chunks(channel);
            // A key that another subscriber has by now costs it a needless look.
            for nth in 0..self.channels[channel].subscribers.len() {
                self.write_chunks(self.channels[channel].subscribers[nth]);
            }
        }
        Ok(())
    }

    /// Appends the new frames of a channel to its tail.
    fn append_chunks(&mut self, channel: usize) {
        let channel = &mut self.channels[channel];
        let frames = std::mem::take(&mut channel.frames);
        let at_a_time = if self.coalesce.is_zero() {
            1
        } else {
            frames.len().max(1)
        };
        for frames in frames.chunks(at_a_time).map(<[Bytes]>::concat) {
            channel.tail.push(
                [
                    format!("{:X}\r\n", frames.len()).as_bytes(),
                    &frames,
                    b"\r\n",
                ]
                .concat()
                .into(),
            );
        }
    }

    /// Writes to a subscriber until the end of the tail, or until its socket is full.
    fn write_chunks(&mut self, key: usize) {
        let Some(Subscriber(socket, channel, next, sent)) = self.subscribers.get_mut(key) else {
            return;
        };
        while let Some(chunk) = self.channels[*channel].tail.get(*next) {
            match socket.write(&chunk[*sent..]) {
                Ok(n) if *sent + n == chunk.len() => (*next, *sent) = (*next + 1, 0),
                Ok(n) => *sent += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return drop(self.subscribers.remove(key)),
            }
        }
    }
}

/// Reads all available bytes; returns `false` if the client has closed the connection.
fn read_available(socket: &mut TcpStream, input: &mut Vec<u8>) -> bool {
    matches!(socket.read_to_end(input), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// The HTTP thread: its senders and wakers of the fan-out threads, and the id of the last event.
///
/// The ids have as many digits as those of sse-server, so that the sizes are comparable.
struct HttpThread(Vec<(Sender<Message>, Waker)>, EventId);

impl HttpThread {
    /// Publishes the body of a request to a channel. Returns the response, with the fields for one
    /// event and for a batch.
    fn publish(&mut self, path: &str, channel: &str, body: &str) -> io::Result<String> {
        let (Self(threads, last), mut frames) = (self, Vec::new());
        let first = EventId::new(last.ms, last.seq + 1);
        let mut push = |kind: &str, data: &str| {
            let mut frame = BytesMut::new();
            last.seq += 1;
            wire::event(&mut frame, *last, kind, data);
            frames.push(frame.freeze());
        };
        let mut lines = body.lines().map(serde_json::from_str::<BatchLine<'_>>);
        match path.strip_prefix("/event/") {
            Some(action) => push(action, body),
            None => {
                lines.try_for_each(|line| line.map(|line| push(&line.event, line.data.get())))?;
            }
        }
        for (thread, waker) in threads {
            thread
                .send(Message::Publish(channel.to_owned(), frames.clone()))
                .map_err(io::Error::other)?;
            waker.wake()?;
        }
        let ids = format!(
            r#"{{"id":"{last}","first_id":"{first}","last_id":"{last}","count":{}}}"#,
            frames.len()
        );
        Ok(format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{ids}",
            ids.len()
        ))
    }

    /// Responds to the request in `input` if it is complete.
    ///
    /// Returns the channel and the index of the first chunk if the request subscribes.
    fn respond(
        &mut self,
        socket: &mut TcpStream,
        input: &mut Vec<u8>,
    ) -> io::Result<Option<(String, usize)>> {
        let Some(head) = memchr::memmem::find(input, b"\r\n\r\n") else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(&input[..head]).to_ascii_lowercase();
        let length = text
            .split("content-length:")
            .nth(1)
            .and_then(|rest| rest.lines().next()?.trim().parse().ok());
        let end = head + 4 + length.unwrap_or(0);
        let Some(body) = input.get(head + 4..end) else {
            return Ok(None);
        };
        let target = text.split(' ').nth(1).unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let channel = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("channel="));
        let channel = channel.unwrap_or("sse");
        if text.starts_with("get ") {
            return socket.write_all(HEAD).map(|()| {
                let from = if query.contains("from=oldest") {
                    0
                } else {
                    usize::MAX
                };
                Some((channel.to_owned(), from))
            });
        }
        let response = self.publish(path, channel, &String::from_utf8_lossy(body))?;
        input.drain(..end);
        socket.write_all(response.as_bytes()).map(|()| None)
    }
}

fn main() -> io::Result<()> {
    let Settings { threads, coalesce } = Settings::parse();
    let mut http = HttpThread(Vec::new(), EventId::new(1_700_000_000_000, 0));
    for _ in 0..threads {
        let (poll, (sender, inbox)) = (Poll::new()?, channel());
        http.0.push((sender, Waker::new(poll.registry(), OTHER)?));
        let fanout = Fanout {
            poll,
            inbox,
            coalesce,
            subscribers: Slab::new(),
            channels: Vec::new(),
            by_name: HashMap::new(),
        };
        std::thread::spawn(move || fanout.run().expect("the event loop works"));
    }
    let (mut poll, mut events, mut connections) =
        (Poll::new()?, Events::with_capacity(1024), Slab::new());
    let mut listener = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
    socket2::SockRef::from(&listener).listen(4096)?;
    poll.registry()
        .register(&mut listener, OTHER, Interest::READABLE)?;
    println!("http://{}", listener.local_addr()?);
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            while event.token() == OTHER
                && let Ok((mut socket, _)) = listener.accept()
            {
                socket.set_nodelay(true)?;
                poll.registry().register(
                    &mut socket,
                    Token(connections.vacant_key()),
                    Interest::READABLE,
                )?;
                connections.insert((socket, Vec::new()));
            }
            let Some((socket, input)) = connections.get_mut(event.token().0) else {
                continue;
            };
            match read_available(socket, input).then(|| http.respond(socket, input)) {
                Some(Ok(None)) => {}
                Some(Ok(Some((channel, from)))) => {
                    let (mut socket, _) = connections.remove(event.token().0);
                    poll.registry().deregister(&mut socket)?;
                    http.0.rotate_left(1);
                    let (thread, waker) = &http.0[0];
                    thread
                        .send(Message::Subscribe(socket, channel, from))
                        .map_err(io::Error::other)?;
                    waker.wake()?;
                }
                _ => drop(connections.remove(event.token().0)),
            }
        }
    }
}
