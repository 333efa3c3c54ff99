//! The product's traits over the wire. A handle belongs to one process of one machine; when that
//! process is dead it neither hears nor does anything more.

use super::Shared;
use super::wire::Wire;
use bytes::BytesMut;
use hotfire::disk::BoxFuture;
use hotfire::net::{Listener, Net, Stream};
use hotfire::rt::time::{Duration, Mono};
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

#[derive(Clone)]
pub struct MachineNet {
    pub(super) shared: Arc<Shared>,
    pub(super) machine: usize,
    pub(super) epoch: u64,
}

impl MachineNet {
    /// `None` when the process is dead.
    fn act<T>(&self, step: impl FnOnce(&mut Wire, Mono) -> T) -> Option<T> {
        self.shared.act(|wire, now| {
            let is_alive = wire.epoch(self.machine) == self.epoch;
            is_alive.then(|| step(wire, now))
        })
    }

    /// Splits `host:port`, as the kernel's resolver would.
    fn resolve(&self, addr: &str) -> io::Result<(usize, u16)> {
        let named = |kind, why: &str| io::Error::new(kind, format!("{addr}: {why}"));
        let (host, port) = addr
            .rsplit_once(':')
            .and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)))
            .ok_or_else(|| named(ErrorKind::InvalidInput, "host:port was expected"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let machine = self.shared.wire.lock().machine_at(self.machine, host);
        let machine = machine.ok_or_else(|| named(ErrorKind::NotFound, "no such machine"))?;
        Ok((machine, port))
    }
}

impl Net for MachineNet {
    fn listen(&self, addr: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let net = self.clone();
        Box::pin(async move {
            let Some(bound) = net.act(|wire, _| wire.listen(net.machine, addr)) else {
                return std::future::pending().await;
            };
            let addr = bound.map_err(|kind| io::Error::new(kind, addr.to_string()))?;
            Ok(Box::new(SimListener { net, addr }) as Box<dyn Listener>)
        })
    }

    fn dial(
        &self,
        addr: &str,
        timeout: Duration,
    ) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> {
        let (net, addr) = (self.clone(), addr.to_owned());
        Box::pin(async move {
            let (to, port) = net.resolve(&addr)?;
            let Some(id) = net.act(|wire, now| wire.dial(net.machine, to, port, timeout, now))
            else {
                return std::future::pending().await;
            };
            let mut waiting = Waiting { net: net.clone(), id, is_over: false };
            let outcome = std::future::poll_fn(|cx| {
                match net.act(|wire, _| wire.dialed(id, cx.waker())).flatten() {
                    Some(outcome) => Poll::Ready(outcome),
                    None => Poll::Pending,
                }
            });
            let outcome = outcome.await;
            waiting.is_over = true;
            let (id, local, peer) = outcome.map_err(|kind| io::Error::new(kind, addr))?;
            Ok(Box::new(SimStream { net, id, end: 0, local, peer }) as Box<dyn Stream>)
        })
    }
}

/// A dial whose caller may stop waiting.
struct Waiting {
    net: MachineNet,
    id: u64,
    is_over: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.is_over {
            self.net.act(|wire, now| wire.abandon_dial(self.id, now));
        }
    }
}

struct SimListener {
    net: MachineNet,
    addr: SocketAddr,
}

impl Listener for SimListener {
    fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Box<dyn Stream>>> {
        let (machine, port) = (self.net.machine, self.addr.port());
        match self.net.act(|wire, _| wire.accept(machine, port, cx.waker())).flatten() {
            Some((id, local, peer)) => {
                let net = self.net.clone();
                Poll::Ready(Ok(Box::new(SimStream { net, id, end: 1, local, peer })))
            }
            None => Poll::Pending,
        }
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        let (machine, port) = (self.net.machine, self.addr.port());
        self.net.act(|wire, now| wire.unlisten(machine, port, now));
    }
}

struct SimStream {
    net: MachineNet,
    id: u64,
    end: usize,
    local: SocketAddr,
    peer: SocketAddr,
}

/// A dead process waits for ever; its tasks are about to be dropped.
fn polled<T>(outcome: Option<Option<Result<T, ErrorKind>>>) -> Poll<io::Result<T>> {
    match outcome.flatten() {
        Some(outcome) => Poll::Ready(outcome.map_err(io::Error::from)),
        None => Poll::Pending,
    }
}

impl Stream for SimStream {
    fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (id, end) = (self.id, self.end);
        polled(self.net.act(|wire, _| wire.is_readable(id, end, cx.waker()).then_some(Ok(()))))
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut BytesMut,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        let (id, end) = (self.id, self.end);
        polled(self.net.act(|wire, _| wire.read(id, end, buf, max, cx.waker())))
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let (id, end) = (self.id, self.end);
        polled(self.net.act(|wire, now| wire.write(id, end, bufs, now, cx.waker())))
    }

    fn poll_shutdown(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (id, end) = (self.id, self.end);
        polled(self.net.act(|wire, now| Some(wire.finish(id, end, now))))
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        let (id, end) = (self.id, self.end);
        self.net.act(|wire, now| wire.close(id, end, false, now));
    }
}
