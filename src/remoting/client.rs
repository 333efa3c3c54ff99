//! Connections to others, one per address, opened when needed and kept.

use super::budget::Budget;
use super::connection::{Connection, Service};
use super::error::Error;
use super::options::{ClientOptions, ConnectionOptions};
use super::peer::{Mode, Peer, Shared};
use crate::net::{Net, Stream};
use crate::protocol::Command;
use crate::protocol::frame::Frame;
use crate::rt::sync::{Mutex, Notify, oneshot};
use crate::rt::task::{Spawner, Stop, TaskGroup};
use crate::rt::time::{Clock, Duration, Mono};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// Takes the requests that the other side makes over a connection we opened.
pub trait ClientRequests: Send + Sync + 'static {
    /// Must not wait; answers through `peer`, now or later (`Peer::spawn` for slow work).
    fn on_request(&self, peer: &Peer, request: Command);

    /// A connection of this client ended.
    fn on_close(&self, peer: &Peer) {
        let _ = peer;
    }
}

/// A pool of connections. Cloning is cheap; the last handle closes them, and so does the end of
/// the group it was made in.
#[derive(Clone)]
pub struct Client(Arc<Pool>);

struct Pool {
    net: Arc<dyn Net>,
    clock: Clock,
    spawner: Spawner,
    options: ClientOptions,
    connection_options: Arc<ConnectionOptions>,
    budget: Arc<Budget>,
    service: Arc<dyn Service>,
    is_over: Arc<Notify>,
    table: Arc<Mutex<Table>>,
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.is_over.notify_one();
    }
}

#[derive(Default)]
struct Table {
    next_id: u64,
    is_stopped: bool,
    uses: u64,
    slots: BTreeMap<String, Slot>,
}

/// What is known of one address.
struct Slot {
    line: Line,
    /// When it was last asked for, in uses of the pool.
    used: u64,
    failures: u32,
}

enum Line {
    Dialing(Vec<Waiting>),
    Open(Peer),
    Failed { until: Mono, last: String, kind: io::ErrorKind },
}

type Waiting = oneshot::Sender<Result<Peer, Error>>;

impl Client {
    pub fn new(
        net: &Arc<dyn Net>,
        clock: &Clock,
        group: &TaskGroup,
        options: ClientOptions,
        on_request: Option<Arc<dyn ClientRequests>>,
    ) -> Client {
        let table = Arc::new(Mutex::new(Table { next_id: 1, ..Table::default() }));
        let is_over = Arc::new(Notify::new());
        // The keeper holds the group: its tasks end with it, however it ends.
        let own = TaskGroup::new();
        let spawner = own.spawner();
        let keeper = Keeper {
            own,
            table: table.clone(),
            clock: clock.clone(),
            is_over: is_over.clone(),
            drain_max: options.drain_max,
        };
        group.spawn(keeper.run(group.stop_signal()));
        Client(Arc::new(Pool {
            net: net.clone(),
            clock: clock.clone(),
            spawner,
            connection_options: Arc::new(options.connection.clone()),
            budget: Arc::new(Budget::new(options.inflight_size_max)),
            options,
            service: Arc::new(Inbound { on_request }),
            is_over,
            table,
        }))
    }

    /// Sends `request` to `addr` and waits for the answer, connecting first if need be.
    /// Errors: see `Error`; `timeout` covers the connecting too.
    pub async fn invoke(
        &self,
        addr: &str,
        request: Command,
        timeout: Duration,
    ) -> Result<Command, Error> {
        let deadline = self.0.clock.mono() + timeout;
        let peer = self.connect_until(addr, deadline, timeout).await?;
        peer.invoke_until(request, deadline, timeout).await
    }

    /// Sends a request that nobody answers; returns when it is queued on an open connection.
    pub async fn oneway(
        &self,
        addr: &str,
        request: Command,
        timeout: Duration,
    ) -> Result<(), Error> {
        let peer = self.connect(addr, timeout).await?;
        peer.send_oneway(request);
        Ok(())
    }

    /// The open connection to `addr`, made if there is none.
    pub async fn connect(&self, addr: &str, timeout: Duration) -> Result<Peer, Error> {
        self.connect_until(addr, self.0.clock.mono() + timeout, timeout).await
    }

    /// Ends the connection to `addr`, if there is one.
    pub fn close(&self, addr: &str) {
        let mut table = self.0.table.lock();
        if let Some(Slot { line: Line::Open(peer), .. }) = table.slots.get(addr) {
            peer.close_after_flush("closed by its user");
            table.slots.remove(addr);
        }
    }

    async fn connect_until(
        &self,
        addr: &str,
        deadline: Mono,
        timeout: Duration,
    ) -> Result<Peer, Error> {
        let arrival = match self.0.open_or_wait(addr)? {
            Found::Open(peer) => return Ok(peer),
            Found::Wait(arrival) => arrival,
        };
        match self.0.clock.before(deadline, arrival).await {
            Some(Ok(dialed)) => dialed,
            Some(Err(_)) => Err(Error::Stopped { addr: addr.to_owned() }),
            None => {
                let late = format!("no connection within {} ms", timeout.as_millis());
                let source = io::Error::new(io::ErrorKind::TimedOut, late);
                Err(Error::Dial { addr: addr.to_owned(), source })
            }
        }
    }
}

enum Found {
    Open(Peer),
    Wait(oneshot::Receiver<Result<Peer, Error>>),
}

impl Pool {
    /// One dial serves everyone who waits for its address.
    fn open_or_wait(self: &Arc<Self>, addr: &str) -> Result<Found, Error> {
        let now = self.clock.mono();
        let mut table = self.table.lock();
        if table.is_stopped {
            return Err(Error::Stopped { addr: addr.to_owned() });
        }
        table.uses += 1;
        let used = table.uses;
        let (waiting, arrival) = oneshot::channel();
        let failures = match table.slots.get_mut(addr) {
            Some(slot) => {
                slot.used = used;
                match &mut slot.line {
                    Line::Open(peer) if peer.is_open() => return Ok(Found::Open(peer.clone())),
                    Line::Failed { until, last, kind } if *until > now => {
                        let wait_ms = until.since(now).as_millis();
                        let (addr, last, kind) = (addr.to_owned(), last.clone(), *kind);
                        return Err(Error::BackingOff { addr, wait_ms, last, kind });
                    }
                    Line::Dialing(all) => {
                        all.push(waiting);
                        return Ok(Found::Wait(arrival));
                    }
                    Line::Open(_) | Line::Failed { .. } => slot.failures,
                }
            }
            None => 0,
        };
        let slot = Slot { line: Line::Dialing(vec![waiting]), used, failures };
        table.slots.insert(addr.to_owned(), slot);
        let evicted = table.evict(self.options.connection_count_max);
        drop(table);
        if let Some(peer) = evicted {
            peer.close_after_flush("another address needed its place");
        }
        let (pool, addr) = (self.clone(), addr.to_owned());
        // A task, so that a caller that gives up does not take the others' dial with it.
        self.spawner.spawn(async move {
            let dialed = pool.net.dial(&addr, pool.options.dial_timeout).await;
            pool.on_dialed(&addr, dialed);
        });
        Ok(Found::Wait(arrival))
    }

    fn on_dialed(&self, addr: &str, dialed: io::Result<Box<dyn Stream>>) {
        let mut table = self.table.lock();
        let Some(slot) = table.slots.get_mut(addr) else { return };
        let Line::Dialing(waiting) = &mut slot.line else { return };
        let waiting = std::mem::take(waiting);
        match dialed {
            Ok(stream) => {
                let peer = self.admit(stream, &mut table);
                if let Some(slot) = table.slots.get_mut(addr) {
                    slot.failures = 0;
                    slot.line = Line::Open(peer.clone());
                }
                drop(table);
                for waiting in waiting {
                    let _ = waiting.send(Ok(peer.clone()));
                }
            }
            Err(e) => {
                crate::rt::probe!("remoting: a dial failed");
                let pause = self.backoff(slot.failures);
                let until = self.clock.mono() + pause;
                slot.failures = slot.failures.saturating_add(1);
                slot.line = Line::Failed { until, last: e.to_string(), kind: e.kind() };
                drop(table);
                for waiting in waiting {
                    let source = io::Error::new(e.kind(), e.to_string());
                    let _ = waiting.send(Err(Error::Dial { addr: addr.to_owned(), source }));
                }
            }
        }
    }

    fn backoff(&self, failures: u32) -> Duration {
        let factor = 1u32.checked_shl(failures).unwrap_or(u32::MAX);
        self.options.backoff_min.saturating_mul(factor).min(self.options.backoff_max)
    }

    fn admit(&self, stream: Box<dyn Stream>, table: &mut Table) -> Peer {
        let id = table.next_id;
        table.next_id += 1;
        let ends = (id, stream.peer_addr(), stream.local_addr());
        let options = self.connection_options.clone();
        let budget = self.budget.clone();
        let shared = Shared::new(ends, &self.clock, options, self.spawner.clone(), budget);
        let peer = Peer(Arc::new(shared));
        let (inner, service) = (peer.clone(), self.service.clone());
        self.spawner.spawn(async move { Connection::new(stream, inner, service).run().await });
        peer
    }
}

impl Table {
    /// Makes room when there are more than `count_max` addresses: forgets those that failed or
    /// closed first, then the longest unused connection.
    fn evict(&mut self, count_max: usize) -> Option<Peer> {
        if self.slots.len() <= count_max {
            return None;
        }
        self.slots.retain(|_, slot| match &slot.line {
            Line::Open(peer) => peer.is_open(),
            Line::Dialing(_) => true,
            Line::Failed { .. } => false,
        });
        if self.slots.len() <= count_max {
            return None;
        }
        let open = self.slots.iter().filter(|(_, slot)| matches!(slot.line, Line::Open(_)));
        let oldest = open.min_by_key(|(_, slot)| slot.used).map(|(addr, _)| addr.clone())?;
        match self.slots.remove(&oldest)?.line {
            Line::Open(peer) => Some(peer),
            Line::Dialing(_) | Line::Failed { .. } => None,
        }
    }
}

/// Ends the connections with the group, or with the last handle.
struct Keeper {
    own: TaskGroup,
    table: Arc<Mutex<Table>>,
    clock: Clock,
    is_over: Arc<Notify>,
    drain_max: Duration,
}

impl Keeper {
    async fn run(self, mut stop: Stop) {
        crate::rt::select! {
            _ = stop.wait() => {}
            _ = self.is_over.notified() => {}
        }
        let slots = {
            let mut table = self.table.lock();
            table.is_stopped = true;
            std::mem::take(&mut table.slots)
        };
        for slot in slots.into_values() {
            if let Line::Open(peer) = slot.line {
                peer.0.state.lock().advance(Mode::Draining, "the client was stopped");
            }
        }
        self.own.shutdown(&self.clock, self.clock.mono() + self.drain_max).await;
    }
}

/// What arrives on a connection that we opened.
struct Inbound {
    on_request: Option<Arc<dyn ClientRequests>>,
}

impl Service for Inbound {
    fn on_frames(&self, peer: &Peer, frames: &mut Vec<Frame>) {
        for frame in frames.drain(..) {
            let command = match Command::decode(&frame) {
                Ok(command) => command,
                Err(e) => return peer.close(&format!("it sent what cannot be read: {e}")),
            };
            if command.is_reply() {
                peer.on_answer(command);
            } else if let Some(on_request) = &self.on_request {
                on_request.on_request(peer, command);
            } else {
                tracing::debug!(peer = %peer.addr(), code = command.code, "request not taken");
            }
        }
    }

    fn on_close(&self, peer: &Peer) {
        if let Some(on_request) = &self.on_request {
            on_request.on_close(peer);
        }
    }
}
