//! Publishers for benchmarks with many channels. Each has one connection, and sends its next request
//! when it has the response to the one before.
//!
//! `create` publishes one event to each of many new channels with random names. `live` repeats the
//! life of a channel: it publishes 50 events in 5 batches, of which the first creates the channel and
//! the last closes it, and then reads the channel once from the start. The report on stdout is one
//! JSON object.

use std::{
    fmt::Write as _,
    io::{self, BufRead as _, BufReader, Error, Read as _, Write as _},
    net::TcpStream,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use clap::{Parser, ValueEnum};
use sse_proto::units::parse_duration;

/// Creates channels as fast as a number of publishers can
#[derive(Parser)]
struct Settings {
    /// What to do
    #[arg(value_enum)]
    mode: Mode,
    /// Address of the server, such as 127.0.0.1:5000
    address: String,
    /// Publishers
    #[arg(long, default_value = "64")]
    publishers: u64,
    /// Channels to create, with `create`
    #[arg(long, default_value = "1000000")]
    channels: u64,
    /// How long to repeat, with `live`
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    duration: Duration,
    /// Time after which a closed channel is deleted, with `live`
    #[arg(long, default_value = "2s")]
    ttl_closed: String,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    Create,
    Live,
}

/// Batches of a life, and events per batch.
const BATCHES: usize = 5;
const BATCH: usize = 10;
/// Data of an event.
const DATA: &str = "0123456789abcdef0123456789abcdef";
/// A part of the channels, whose rate is reported on its own, at most.
const PART: u64 = 100_000;

/// A connection that is kept open.
struct Connection {
    stream: BufReader<TcpStream>,
    request: String,
}

impl Connection {
    fn open(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::new(stream),
            request: String::new(),
        })
    }

    /// Publishes, and fails unless the response is a 200.
    fn post(&mut self, target: &str, content_type: &str, body: &str) -> io::Result<()> {
        self.request.clear();
        let length = body.len();
        write!(
            self.request,
            "POST {target} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {content_type}\r\n\
             content-length: {length}\r\n\r\n{body}"
        )
        .map_err(Error::other)?;
        self.stream.get_mut().write_all(self.request.as_bytes())?;
        let (mut line, mut length, mut is_first) = (String::new(), 0, true);
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            if is_first && !line.starts_with("HTTP/1.1 200") {
                return Err(Error::other(format!("{target}: {line:?}")));
            }
            is_first = false;
            let header = line.trim_end().to_ascii_lowercase();
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().map_err(Error::other)?;
            }
            if header.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)
    }
}

/// Reads a closed channel from its start. Returns the numbers of its events and of its ends.
fn read_once(address: &str, channel: &str) -> io::Result<(usize, usize)> {
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "GET /stream?channel={channel}&from=oldest HTTP/1.1\r\nhost: 127.0.0.1\r\n\
         connection: close\r\n\r\n"
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok((
        text.matches(DATA).count(),
        text.matches("event: end").count(),
    ))
}

fn random_name() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// Creates channels until `left` is used up. Adds the end of each part to `parts`.
fn create(
    settings: &Settings,
    created: &AtomicU64,
    parts: &[AtomicU64],
    since: Instant,
) -> io::Result<()> {
    let mut connection = Connection::open(&settings.address)?;
    while created.fetch_add(1, Ordering::Relaxed) < settings.channels {
        let target = format!("/event/note?channel={}", random_name());
        connection.post(&target, "text/plain", DATA)?;
        let done = parts[0].fetch_add(1, Ordering::Relaxed) + 1;
        let part = part_size(settings);
        if done == part {
            parts[1].store(micros(since), Ordering::Relaxed);
        } else if done == settings.channels - part {
            parts[2].store(micros(since), Ordering::Relaxed);
        }
    }
    Ok(())
}

fn part_size(settings: &Settings) -> u64 {
    PART.min(settings.channels / 4).max(1)
}

/// Repeats the life of a channel.
fn live(settings: &Settings, lives: &AtomicU64, since: Instant) -> io::Result<()> {
    let mut connection = Connection::open(&settings.address)?;
    let line = format!("{{\"event\":\"step\",\"data\":\"{DATA}\"}}\n");
    let body = line.repeat(BATCH);
    while since.elapsed() < settings.duration {
        let channel = random_name();
        for batch in 0..BATCHES {
            let parameters = match batch {
                0 => format!("&ttl_closed={}", settings.ttl_closed),
                _ if batch + 1 == BATCHES => "&close=completed".to_owned(),
                _ => String::new(),
            };
            let target = format!("/events?channel={channel}{parameters}");
            connection.post(&target, "application/x-ndjson", &body)?;
        }
        let found = read_once(&settings.address, &channel)?;
        if found != (BATCHES * BATCH, 1) {
            return Err(Error::other(format!("{channel}: read {found:?}")));
        }
        lives.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

fn main() -> io::Result<()> {
    let settings = Settings::parse();
    let (started, parts) = (AtomicU64::new(0), [const { AtomicU64::new(0) }; 3]);
    let since = Instant::now();
    thread::scope(|scope| {
        let publishers: Vec<_> = (0..settings.publishers)
            .map(|_| {
                scope.spawn(|| match settings.mode {
                    Mode::Create => create(&settings, &started, &parts, since),
                    Mode::Live => live(&settings, &parts[0], since),
                })
            })
            .collect();
        publishers.into_iter().try_for_each(|publisher| {
            let panicked = |_| Error::other("a publisher panicked");
            publisher.join().map_err(panicked)?
        })
    })?;
    let [done, first_us, last_us] = parts.map(AtomicU64::into_inner);
    let report = serde_json::json!({
        "done": done,
        "part": part_size(&settings),
        "seconds": since.elapsed().as_secs_f64(),
        // When the first part was done, and when the last part began.
        "first_us": first_us,
        "last_us": last_us,
    });
    println!("{report}");
    Ok(())
}
