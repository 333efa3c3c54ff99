//! The net of a broker that tells when its ports open: then it has recovered, and nobody can have
//! been told anything.

use super::cluster::BROKER_PORT;
use crate::trace;
use hotfire::disk::BoxFuture;
use hotfire::net::{Listener, Net, Stream};
use hotfire::rt::sync::Mutex;
use hotfire::rt::time::Duration;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

/// Somebody who judges.
pub trait Watcher: Send + Sync {
    /// A master opens its first port, with its log whole; a slave that, or it dials.
    fn on_ready(&self, ports: &Ports);

    /// Clients can reach it from now on.
    fn on_listening(&self, ports: &Ports);
}

/// One process of a broker.
pub struct Ports {
    pub machine: usize,
    pub generation: u64,
    /// When the process began. Units: microseconds.
    pub started_us: u64,
    pub is_master: bool,
    inner: Arc<dyn Net>,
    watcher: Box<dyn Watcher>,
    is_ready: Mutex<bool>,
}

impl Ports {
    pub fn new(
        inner: Arc<dyn Net>,
        (machine, generation): (usize, u64),
        is_master: bool,
        watcher: Box<dyn Watcher>,
    ) -> Self {
        let (started_us, is_ready) = (trace::now_us(), Mutex::new(false));
        Ports { machine, generation, started_us, is_master, inner, watcher, is_ready }
    }

    fn ready(&self) {
        if !std::mem::replace(&mut *self.is_ready.lock(), true) {
            self.watcher.on_ready(self);
        }
    }
}

impl Net for Ports {
    /// A master has asked its slaves, and taken what they have, before its first port opens.
    fn listen(&self, addr: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        self.ready();
        if addr.port() == BROKER_PORT {
            self.watcher.on_listening(self);
        }
        self.inner.listen(addr)
    }

    /// A slave dials its master before it listens.
    fn dial(
        &self,
        addr: &str,
        timeout: Duration,
    ) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> {
        if !self.is_master {
            self.ready();
        }
        self.inner.dial(addr, timeout)
    }
}
