//! What actix reads and writes.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::DetachableSocket;

impl DetachableSocket {
    /// Records the outcome of a write in which the kernel accepted `accepted` bytes, and wakes
    /// `detach` if the write is not blocked.
    ///
    /// With TLS, a blocked write may have made progress: a part of its record is accepted.
    fn record_write(&self, written: &Poll<io::Result<usize>>, accepted: usize) {
        if accepted > 0 {
            let mut all = self.0.accepted.get();
            all.add(accepted);
            self.0.accepted.set(all);
            self.0.progress.record_written(accepted);
        }
        match written {
            Poll::Ready(Ok(_)) => drop(self.0.stall.take()),
            Poll::Pending if accepted > 0 => self.restart_stall(),
            _ => {}
        }
        self.0.is_blocked.set(written.is_pending());
        if written.is_ready()
            && let Some(waker) = self.0.detach_waker.take()
        {
            waker.wake();
        }
    }
}

impl AsyncRead for DetachableSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let filled = buffer.filled().len();
        let read = match self.0.socket.borrow_mut().as_mut() {
            Some(socket) => Pin::new(socket).poll_read(cx, buffer),
            None => return Poll::Ready(Ok(())),
        };
        if buffer.filled().len() > filled {
            self.0.progress.record_read();
        }
        match self.poll_close(cx, &read) {
            Some(reason) => {
                self.close_overdue(reason);
                // The connection reads as closed, and a request that is complete too late is not
                // handled.
                buffer.set_filled(filled);
                Poll::Ready(Ok(()))
            }
            None => read,
        }
    }
}

impl AsyncWrite for DetachableSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let (written, accepted) = match self.0.socket.borrow_mut().as_mut() {
            Some(socket) => {
                let written = match Pin::new(&mut *socket).poll_write(cx, bytes) {
                    Poll::Pending => self.poll_write_stalled(cx, socket, bytes),
                    written @ Poll::Ready(_) => written,
                };
                let accepted = socket.take_accepted(&written);
                (written, accepted)
            }
            None => (Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())), 0),
        };
        self.record_write(&written, accepted);
        match &mut *self.0.buffer.borrow_mut() {
            Some(buffer) => buffer.record_write(cx, bytes.len(), written),
            None => written,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_session_flush(cx))?;
        // actix flushes the socket after it has written its whole buffer.
        self.0.progress.record_flushed();
        self.record_flush();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0.socket.borrow_mut().as_mut() {
            Some(socket) => Pin::new(socket).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}
