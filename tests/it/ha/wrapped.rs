//! The network of one broker, with what a test does to it.

use bytes::BytesMut;
use hotfire::disk::BoxFuture;
use hotfire::net::{Listener, Net, Stream};
use hotfire::rt::time::Duration;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

/// What becomes of the bytes that a stream would read.
pub enum Reading {
    Comes,
    Waits,
    /// The stream has ended.
    Ended,
}

pub trait Wiles: Send + Sync {
    /// Where it goes in truth.
    fn dials(&self, addr: &str) -> String {
        addr.to_owned()
    }

    /// Where one that connects seems to come from.
    fn accepts(&self, from: SocketAddr) -> SocketAddr {
        from
    }

    /// True: the stream is marked from now on.
    fn writes(&self, _bufs: &[IoSlice<'_>]) -> bool {
        false
    }

    /// `to`: where the stream went.
    fn reads(&self, _to: &str, _is_marked: bool) -> Reading {
        Reading::Comes
    }
}

pub struct Wrapped<W>(pub Arc<dyn Net>, pub Arc<W>);

struct WrappedListener<W>(Box<dyn Listener>, Arc<W>);

struct WrappedStream<W> {
    inner: Box<dyn Stream>,
    wiles: Arc<W>,
    to: String,
    peer: SocketAddr,
    is_marked: bool,
}

impl<W: Wiles + 'static> Net for Wrapped<W> {
    fn listen(&self, addr: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let (listening, wiles) = (self.0.listen(addr), self.1.clone());
        Box::pin(async move {
            let listener = Box::new(WrappedListener(listening.await?, wiles));
            Ok(listener as Box<dyn Listener>)
        })
    }

    fn dial(
        &self,
        addr: &str,
        timeout: Duration,
    ) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> {
        let (to, wiles) = (self.1.dials(addr), self.1.clone());
        let dialing = self.0.dial(&to, timeout);
        Box::pin(async move {
            let inner = dialing.await?;
            let peer = inner.peer_addr();
            let stream = WrappedStream { inner, wiles, to, peer, is_marked: false };
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

impl<W: Wiles + 'static> Listener for WrappedListener<W> {
    fn local_addr(&self) -> SocketAddr {
        self.0.local_addr()
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Box<dyn Stream>>> {
        let wiles = self.1.clone();
        self.0.poll_accept(cx).map_ok(|inner| {
            let peer = wiles.accepts(inner.peer_addr());
            let stream = WrappedStream { inner, wiles, to: String::new(), peer, is_marked: false };
            Box::new(stream) as Box<dyn Stream>
        })
    }
}

impl<W: Wiles> Stream for WrappedStream<W> {
    fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    fn local_addr(&self) -> SocketAddr {
        self.inner.local_addr()
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.wiles.reads(&self.to, self.is_marked) {
            Reading::Comes => self.inner.poll_readable(cx),
            Reading::Ended => Poll::Ready(Ok(())),
            Reading::Waits => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut BytesMut,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        match self.wiles.reads(&self.to, self.is_marked) {
            Reading::Comes => self.inner.poll_read(cx, buf, max),
            Reading::Ended => Poll::Ready(Ok(0)),
            Reading::Waits => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.is_marked |= self.wiles.writes(bufs);
        self.inner.poll_write(cx, bufs)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_shutdown(cx)
    }
}
