//! The HTTP listener: at most so many connections at once, and none that says nothing for long.
//! Beyond the cap, connections wait in the kernel's queue.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// A connection that neither sends nor takes a byte for so long is ended.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// No connection lives longer, however it drips.
const LIFETIME_MAX: Duration = Duration::from_secs(600);
/// After a failed accept (no descriptors left, say) this long passes before the next one.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listener with a cap on its connections.
pub(super) struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

/// A connection that ends by itself when it is silent or old.
pub(super) struct Bound<S> {
    stream: S,
    silence: Pin<Box<Sleep>>,
    old: Pin<Box<Sleep>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Bounded {
    pub(super) fn new(listener: TcpListener, connections_max: usize) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(connections_max.max(1))) }
    }
}

impl axum::serve::Listener for Bounded {
    type Io = Bound<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        // An error means a closed semaphore, and nobody closes it.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => return (Bound::new(stream, place), address),
                Err(error) => {
                    tracing::warn!(%error, "HTTP: accepting a connection failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

impl<S> Bound<S> {
    pub(super) fn new(stream: S, place: Option<OwnedSemaphorePermit>) -> Self {
        let sleep = |time| Box::pin(tokio::time::sleep(time));
        Self { stream, silence: sleep(SILENCE_MAX), old: sleep(LIFETIME_MAX), _place: place }
    }

    /// Passes on what the stream said, counting it as a sign of life; or ends a stream that is due.
    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.silence.as_mut().reset(Instant::now() + SILENCE_MAX);
            return polled;
        }
        if self.silence.as_mut().poll(cx).is_ready() || self.old.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bound<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        this.watch(cx, polled)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bound<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.watch(cx, polled)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_ends() {
        let (ours, _theirs) = tokio::io::duplex(64);
        let mut bound = Bound::new(ours, None);
        let error = bound.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_drips_ends_too() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut bound = Bound::new(ours, None);
        let begun = Instant::now();
        let drip = tokio::spawn(async move {
            while theirs.write_u8(b'x').await.is_ok() {
                tokio::time::sleep(Duration::from_secs(20)).await;
            }
        });
        while bound.read_u8().await.is_ok() {}
        assert!(begun.elapsed() >= LIFETIME_MAX && begun.elapsed() < LIFETIME_MAX + SILENCE_MAX);
        drop(bound);
        drip.await.unwrap();
    }
}
