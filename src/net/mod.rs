//! Byte streams between machines: listen, dial, read, write, half-close.
//!
//! `Net` is a value (`Arc<dyn Net>`): `tcp::TcpNet` in production, `SimNet` in the simulator. One
//! conformance suite (`conformance`) runs on both. Streams have no message boundaries.

pub mod conformance;
#[cfg(not(madsim))]
pub mod tcp;

pub use crate::disk::BoxFuture;
use bytes::{Bytes, BytesMut};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

/// The network as one machine sees it.
pub trait Net: Send + Sync {
    /// Opens a listening port. Errors: `AddrInUse` and what else the kernel says; the message
    /// names the address.
    fn listen(&self, addr: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>>;

    /// Connects to `host:port` (a name or an address).
    /// Errors: `ConnectionRefused`, `TimedOut` after `timeout`, `InvalidInput` for an address that
    /// cannot be read.
    fn dial(
        &self,
        addr: &str,
        timeout: Duration,
    ) -> BoxFuture<'static, io::Result<Box<dyn Stream>>>;
}

pub trait Listener: Send {
    fn local_addr(&self) -> SocketAddr;
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Box<dyn Stream>>>;
}

/// One connection. Dropping it closes both directions; with unread bytes the peer sees a reset.
pub trait Stream: Send {
    fn peer_addr(&self) -> SocketAddr;
    fn local_addr(&self) -> SocketAddr;

    /// Ready when a read would not wait (data, end, or an error); holds no buffer meanwhile. It
    /// may be wrong once: `poll_read` then waits, and so does this afterwards.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Appends at most `max` bytes to `buf`. `Ok(0)` is the peer's half-close.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut BytesMut,
        max: usize,
    ) -> Poll<io::Result<usize>>;

    /// Takes some bytes from the front of `bufs`; may take fewer than offered.
    fn poll_write(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>])
    -> Poll<io::Result<usize>>;

    /// A copy of bytes that wait to be written, which may be a view of a file (`File::view`).
    /// Errors: the view's bytes can no longer be read.
    fn copy(&self, bytes: &Bytes) -> io::Result<Bytes> {
        Ok(Bytes::copy_from_slice(bytes))
    }

    /// Half-close: the peer reads to the end of what was written and then sees the end.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// Waits for the next connection.
pub async fn accept(listener: &mut dyn Listener) -> io::Result<Box<dyn Stream>> {
    std::future::poll_fn(|cx| listener.poll_accept(cx)).await
}

/// Reads at least one byte, or the end (`Ok(0)`).
pub async fn read(stream: &mut dyn Stream, buf: &mut BytesMut, max: usize) -> io::Result<usize> {
    std::future::poll_fn(|cx| stream.poll_read(cx, buf, max)).await
}

/// Writes all of `data`.
pub async fn write_all(stream: &mut dyn Stream, mut data: &[u8]) -> io::Result<()> {
    while !data.is_empty() {
        let n = std::future::poll_fn(|cx| stream.poll_write(cx, &[IoSlice::new(data)])).await?;
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        data = &data[n..];
    }
    Ok(())
}
