//! How a stream's socket leaves actix once the head of its response is out.
//!
//! actix keeps two buffers and a task for each connection, for as long as it lasts: some 12 KB for a subscriber that
//! needs nothing but its socket. So actix is given a [`Connection`], out of which the response's body takes the socket
//! when everything that actix had to write is written. The empty connection refuses what comes after, and actix drops
//! it, with whatever requests the client sent behind this one.

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};

use super::{
    admission::StreamGuard,
    stall::{BytesAccepted, retry_interval},
};

/// The connections that are open, wherever their sockets are.
#[derive(Debug, Clone, Default)]
pub struct Open(Arc<AtomicUsize>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub struct Counted(Open);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A socket that has left actix.
#[derive(Debug)]
pub struct Detached {
    /// The socket, which does not block.
    pub socket: std::net::TcpStream,
    /// Counts it.
    pub counted: Counted,
    /// What it has taken so far.
    pub accepted: BytesAccepted,
}

impl Open {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// What actix takes for the connection; clones share it. Without its socket it is at its end.
#[derive(Clone)]
pub struct Connection(Rc<Inner>);

struct Inner {
    socket: RefCell<Option<TcpStream>>,
    counted: Cell<Option<Counted>>,
    /// Counts a subscriber that is being turned away.
    turned_away: Cell<Option<StreamGuard>>,
    /// The last write was refused: not everything that actix has written is out.
    is_blocked: Cell<bool>,
    /// Whoever waits for it to be out.
    waiting: RefCell<Option<Waker>>,
    write_timeout: Duration,
    accepted: Cell<BytesAccepted>,
    /// The client takes nothing.
    refused: RefCell<Option<Refused>>,
}

/// A client takes nothing.
struct Refused {
    since: Instant,
    /// When it is offered the rest again.
    offer: Pin<Box<Sleep>>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("socket", &self.0.socket)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// A connection over this socket, which counts as open until it is closed. While it is here, a client that takes
    /// nothing is an error after `write_timeout` (see [`stall_timeout`](super::patience)).
    #[must_use]
    pub fn new(socket: TcpStream, open: &Open, write_timeout: Duration) -> Self {
        open.0.fetch_add(1, Ordering::Relaxed);
        Self(Rc::new(Inner {
            socket: RefCell::new(Some(socket)),
            counted: Cell::new(Some(Counted(open.clone()))),
            turned_away: Cell::default(),
            is_blocked: Cell::new(false),
            waiting: RefCell::default(),
            write_timeout,
            accepted: Cell::default(),
            refused: RefCell::default(),
        }))
    }

    /// Counts a subscriber for as long as it takes to tell it to come back later.
    pub fn hold(&self, turned_away: StreamGuard) {
        self.0.turned_away.set(Some(turned_away));
    }

    /// Closes it, whatever was still to be written.
    pub fn close(&self) {
        drop((self.0.socket.take(), self.0.counted.take()));
    }

    /// Waits, in the body of a response, until everything before is written, and takes the socket; what the client has
    /// sent beyond its request stays behind. None if somebody has taken it already.
    ///
    /// # Errors
    /// The runtime cannot let go of the socket.
    pub async fn detach(&self) -> io::Result<Option<Detached>> {
        let mut is_flushed = false;
        poll_fn(|cx| {
            // actix writes out what it has whenever a body is pending, so it is out by the second time.
            if std::mem::replace(&mut is_flushed, true) && !self.0.is_blocked.get() {
                return Poll::Ready(());
            }
            if self.0.is_blocked.get() {
                self.0.waiting.replace(Some(cx.waker().clone()));
            } else {
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        })
        .await;
        let (Some(socket), Some(counted)) = (self.0.socket.take(), self.0.counted.take()) else {
            return Ok(None);
        };
        Ok(Some(Detached {
            socket: socket.into_std()?,
            counted,
            accepted: self.0.accepted.get(),
        }))
    }

    /// The client takes nothing: it is offered the rest now and then, because a socket says that it has room only when it
    /// has much. Ready when it took some after all, or took nothing for too long.
    fn poll_offer(
        &self,
        cx: &mut Context<'_>,
        socket: &TcpStream,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let every = retry_interval(self.0.write_timeout);
        let mut refused = self.0.refused.borrow_mut();
        let refused = refused.get_or_insert_with(|| {
            let since = Instant::now();
            Refused {
                since,
                offer: Box::pin(sleep_until(since + every)),
            }
        });
        loop {
            ready!(refused.offer.as_mut().poll(cx));
            match SockRef::from(socket).send(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                taken => return Poll::Ready(taken),
            }
            if refused.since.elapsed() > self.0.accepted.get().stall_timeout(self.0.write_timeout) {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            refused.offer.as_mut().reset(Instant::now() + every);
        }
    }

    /// The client took so many bytes.
    fn took(&self, count: usize) {
        let mut accepted = self.0.accepted.get();
        accepted.add(count);
        self.0.accepted.set(accepted);
        self.0.refused.take();
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.0.socket.borrow_mut().as_mut() {
            Some(socket) => Pin::new(socket).poll_read(cx, buffer),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = match self.0.socket.borrow_mut().as_mut() {
            Some(socket) => match Pin::new(&mut *socket).poll_write(cx, bytes) {
                Poll::Pending => self.poll_offer(cx, socket, bytes),
                written @ Poll::Ready(_) => written,
            },
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        };
        if let Poll::Ready(Ok(count)) = &written {
            self.took(*count);
        }
        self.0.is_blocked.set(written.is_pending());
        if written.is_ready()
            && let Some(waiting) = self.0.waiting.take()
        {
            waiting.wake();
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A TCP stream has nothing to flush.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0.socket.borrow_mut().as_mut() {
            Some(socket) => Pin::new(socket).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::ErrorKind, net::TcpListener};

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    const WRITE_TIMEOUT: Duration = Duration::from_secs(2);

    /// Writes until the client takes no more; tells how much it took, and how long it was waited for.
    async fn fill(connection: &mut Connection) -> (usize, Duration) {
        let (mut taken, mut last) = (0, Instant::now());
        loop {
            match connection.write(&[b'x'; 4096]).await {
                Ok(count) => (taken, last) = (taken + count, Instant::now()),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::TimedOut);
                    return (taken, last.elapsed());
                }
            }
        }
    }

    /// The clock goes on whenever there is nothing else to wait for.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_given_up_when_the_slowest_would_have_read() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        SockRef::from(&socket)
            .set_send_buffer_size(32 << 10)
            .unwrap();
        let mut connection = Connection::new(
            TcpStream::from_std(socket).unwrap(),
            &Open::default(),
            WRITE_TIMEOUT,
        );
        let (taken, waited) = fill(&mut connection).await;
        let mut accepted = BytesAccepted::default();
        accepted.add(taken);
        let stall_timeout = accepted.stall_timeout(WRITE_TIMEOUT);
        assert!(
            stall_timeout > 2 * WRITE_TIMEOUT,
            "the client took only {taken}"
        );
        assert!(
            (stall_timeout..stall_timeout + WRITE_TIMEOUT).contains(&waited),
            "{waited:?} for {stall_timeout:?}"
        );
    }
}
