//! The kernel's TCP behind the traits of this room.

use super::{BoxFuture, Listener, Net, Stream};
use bytes::{BufMut, Bytes, BytesMut};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Connections that the kernel completes before we accept them.
/// Source: NettyRemotingServer#start, SO_BACKLOG (4.9.3)
const BACKLOG_COUNT: u32 = 1024;

/// The network of this machine.
#[derive(Clone, Debug, Default)]
pub struct TcpNet {
    /// What all its streams received. Units: bytes.
    received: Arc<AtomicU64>,
}

impl TcpNet {
    /// A network that adds what it receives to `received`. Units: bytes.
    pub fn counting(received: Arc<AtomicU64>) -> Self {
        TcpNet { received }
    }
}

impl Net for TcpNet {
    fn listen(&self, addr: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let received = self.received.clone();
        Box::pin(async move {
            let listener = bind(addr).map_err(|e| named(&addr, &e))?;
            let addr = listener.local_addr()?;
            Ok(Box::new(TcpDoor { listener, addr, received }) as Box<dyn Listener>)
        })
    }

    fn dial(
        &self,
        addr: &str,
        timeout: Duration,
    ) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> {
        let (addr, received) = (addr.to_owned(), self.received.clone());
        Box::pin(async move {
            let dialed = match tokio::time::timeout(timeout, connect(&addr)).await {
                Ok(dialed) => dialed,
                Err(_) => Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no connection within {} ms", timeout.as_millis()),
                )),
            };
            let line = dialed
                .and_then(|stream| Line::new(stream, received))
                .map_err(|e| named(&addr, &e))?;
            Ok(Box::new(line) as Box<dyn Stream>)
        })
    }
}

/// The address is part of every error: "connection refused" alone helps nobody.
fn named(addr: &dyn std::fmt::Display, e: &io::Error) -> io::Error {
    io::Error::new(e.kind(), format!("{addr}: {e}"))
}

fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart must not wait for the last process's connections to leave TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG_COUNT)
}

/// Tries every address that the name stands for, in the resolver's order.
async fn connect(addr: &str) -> io::Result<TcpStream> {
    if let Ok(addr) = addr.parse::<SocketAddr>() {
        return TcpStream::connect(addr).await;
    }
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, "the name has no address");
    for candidate in tokio::net::lookup_host(addr).await? {
        match TcpStream::connect(candidate).await {
            Ok(stream) => return Ok(stream),
            Err(e) => last = e,
        }
    }
    Err(last)
}

struct TcpDoor {
    listener: TcpListener,
    addr: SocketAddr,
    received: Arc<AtomicU64>,
}

impl Listener for TcpDoor {
    fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Box<dyn Stream>>> {
        let (stream, _) = ready!(self.listener.poll_accept(cx))?;
        Poll::Ready(
            Line::new(stream, self.received.clone()).map(|line| Box::new(line) as Box<dyn Stream>),
        )
    }
}

struct Line {
    stream: TcpStream,
    peer: SocketAddr,
    local: SocketAddr,
    received: Arc<AtomicU64>,
}

impl Line {
    fn new(stream: TcpStream, received: Arc<AtomicU64>) -> io::Result<Line> {
        // Replies leave when they are ready; we batch them ourselves.
        stream.set_nodelay(true)?;
        let (peer, local) = (stream.peer_addr()?, stream.local_addr()?);
        Ok(Line { stream, peer, local, received })
    }
}

impl Stream for Line {
    fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn copy(&self, bytes: &Bytes) -> io::Result<Bytes> {
        crate::disk::real::copy_view(bytes)
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_read_ready(cx)
    }

    /// Through `AsyncRead` and not `try_read`: after a short read it knows the socket to be empty
    /// and saves the call that would only say so.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut BytesMut,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        let mut room = buf.limit(max);
        let read = self.stream.read_buf(&mut room);
        let read = ready!(pin!(read).poll(cx))?;
        self.received.fetch_add(read as u64, Ordering::Relaxed);
        Poll::Ready(Ok(read))
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match bufs {
            [one] => Pin::new(&mut self.stream).poll_write(cx, one),
            many => Pin::new(&mut self.stream).poll_write_vectored(cx, many),
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
