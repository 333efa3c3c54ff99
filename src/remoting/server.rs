//! Listening ports, and the end of all their connections.

use super::budget::Budget;
use super::connection::{Connection, Service};
use super::options::ServerOptions;
use super::peer::{Mode, Peer, Shared};
use crate::net::{Listener, Net, Stream};
use crate::rt::sync::{Mutex, watch};
use crate::rt::task::{Stop, TaskGroup};
use crate::rt::time::{Alarm, Clock, Duration};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Pause after an accept that failed: it is mostly a lack of descriptors, which only time cures.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections taken in one turn before the others go on.
const ACCEPT_COUNT_MAX: usize = 64;

/// One or more listening ports that share a service, its bounds, and the ids of its peers.
///
/// It ends with the group it was started in: then it accepts nothing more, reads what has arrived,
/// writes what is owed for at most `drain_max`, and closes. A broker that must first finish its
/// store does it in steps: `pause`, finish (requests are refused meanwhile), `shutdown`.
pub struct Server {
    local_addrs: Vec<SocketAddr>,
    control: Arc<Control>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Running,
    /// No connection is accepted.
    Paused,
    Draining,
    Ended,
}

struct Control {
    phase: watch::Sender<Phase>,
    table: Mutex<Table>,
    service: Arc<dyn Service>,
    clock: Clock,
    options: ServerOptions,
    connection_options: Arc<super::options::ConnectionOptions>,
    budget: Arc<Budget>,
}

struct Table {
    next_id: u64,
    mode: Mode,
    peers: BTreeMap<u64, Peer>,
}

impl Server {
    /// Listens on all of `addrs` and serves until the group ends.
    /// Errors: what `Net::listen` says of the first address that cannot be had.
    pub async fn start(
        net: &Arc<dyn Net>,
        clock: &Clock,
        group: &TaskGroup,
        addrs: &[SocketAddr],
        service: Arc<dyn Service>,
        options: ServerOptions,
    ) -> io::Result<Server> {
        let mut listeners = Vec::new();
        for addr in addrs {
            listeners.push(net.listen(*addr).await?);
        }
        let local_addrs = listeners.iter().map(|listener| listener.local_addr()).collect();
        let control = Arc::new(Control {
            phase: watch::channel(Phase::Running).0,
            table: Mutex::new(Table { next_id: 1, mode: Mode::Open, peers: BTreeMap::new() }),
            service,
            clock: clock.clone(),
            connection_options: Arc::new(options.connection.clone()),
            budget: Arc::new(Budget::new(options.inflight_size_max)),
            options,
        });
        group.spawn(serve(control.clone(), listeners, group.stop_signal()));
        Ok(Server { local_addrs, control })
    }

    /// The addresses in use, in the order they were asked for.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.local_addrs
    }

    pub fn connection_count(&self) -> usize {
        self.control.table.lock().peers.len()
    }

    /// Request bytes that are being received or worked on.
    pub fn inflight_size(&self) -> usize {
        self.control.budget.taken()
    }

    /// Accepts no more connections; those there are go on. Cannot be taken back.
    pub fn pause(&self) {
        self.control.move_to(Phase::Paused);
    }

    /// Pauses, reads what has arrived, writes what is owed for at most `drain_max`, and closes
    /// everything.
    pub async fn shutdown(&self) {
        self.control.move_to(Phase::Draining);
        self.control.phase.subscribe().until(|phase| *phase == Phase::Ended).await;
    }
}

impl Control {
    fn move_to(&self, phase: Phase) {
        if phase <= self.phase.get() {
            return;
        }
        self.phase.send(phase);
        let mode = match phase {
            Phase::Running => Mode::Open,
            Phase::Paused => Mode::Paused,
            Phase::Draining => Mode::Draining,
            Phase::Ended => Mode::Closed,
        };
        let mut table = self.table.lock();
        table.mode = mode;
        for peer in table.peers.values() {
            peer.0.state.lock().advance(mode, "the server stops");
        }
    }

    /// Gives a new connection its peer and its task, or turns it away.
    fn admit(self: &Arc<Self>, stream: Box<dyn Stream>, own: &TaskGroup) {
        let mut table = self.table.lock();
        if table.peers.len() >= self.options.connection_count_max {
            crate::rt::probe!("remoting: a connection was turned away");
            let count = self.options.connection_count_max;
            tracing::warn!(peer = %stream.peer_addr(), "{count} connections are the most allowed");
            return;
        }
        let id = table.next_id;
        table.next_id += 1;
        let ends = (id, stream.peer_addr(), stream.local_addr());
        let options = self.connection_options.clone();
        let shared = Shared::new(ends, &self.clock, options, own.spawner(), self.budget.clone());
        let peer = Peer(Arc::new(shared));
        peer.0.state.lock().advance(table.mode, "the server stops");
        table.peers.insert(id, peer.clone());
        drop(table);
        let listed = Listed { control: self.clone(), id };
        own.spawn(async move {
            let _listed = listed;
            let service = _listed.control.service.clone();
            Connection::new(stream, peer, service).run().await;
        });
    }
}

/// A connection's place in the table.
struct Listed {
    control: Arc<Control>,
    id: u64,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.control.table.lock().peers.remove(&self.id);
    }
}

/// Tells `shutdown` that nothing is left, also when the task is aborted.
struct Finish(Arc<Control>);

impl Drop for Finish {
    fn drop(&mut self) {
        self.0.move_to(Phase::Ended);
    }
}

async fn serve(control: Arc<Control>, listeners: Vec<Box<dyn Listener>>, mut stop: Stop) {
    let _finish = Finish(control.clone());
    // Its tasks end with this one, however that ends.
    let own = TaskGroup::new();
    let mut phase = control.phase.subscribe();
    accept_all(&control, listeners, &own, &mut stop).await;
    crate::rt::select! {
        _ = stop.wait() => {}
        _ = phase.until(|phase| *phase >= Phase::Draining) => {}
    }
    control.move_to(Phase::Draining);
    let deadline = control.clock.mono() + control.options.drain_max;
    let left = own.shutdown(&control.clock, deadline).await;
    if left > 0 {
        tracing::warn!("{left} connections or requests were cut off at the end");
    }
}

/// Returns, and closes the ports, when the server is told to pause or stop.
async fn accept_all(
    control: &Arc<Control>,
    mut listeners: Vec<Box<dyn Listener>>,
    own: &TaskGroup,
    stop: &mut Stop,
) {
    let mut phase = control.phase.subscribe();
    let mut alarm = Alarm::new(&control.clock);
    let mut is_resting = false;
    loop {
        crate::rt::select! {
            _ = stop.wait() => return,
            _ = phase.until(|phase| *phase > Phase::Running) => return,
            _ = alarm.ring() => is_resting = false,
            count = accept_some(&mut listeners, control, own), if !is_resting => {
                if let Err(e) = count {
                    tracing::warn!("accept a connection: {e}");
                    is_resting = true;
                    alarm.set(Some(control.clock.mono() + ACCEPT_PAUSE));
                } else {
                    crate::rt::task::yield_now().await;
                }
            }
        }
    }
}

/// Admits what has arrived on any port.
async fn accept_some(
    listeners: &mut [Box<dyn Listener>],
    control: &Arc<Control>,
    own: &TaskGroup,
) -> io::Result<()> {
    std::future::poll_fn(|cx| {
        for turn in 0..ACCEPT_COUNT_MAX {
            match poll_accept_any(listeners, cx) {
                Poll::Ready(Ok(stream)) => control.admit(stream, own),
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending if turn > 0 => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    })
    .await
}

fn poll_accept_any(
    listeners: &mut [Box<dyn Listener>],
    cx: &mut Context<'_>,
) -> Poll<io::Result<Box<dyn Stream>>> {
    for listener in listeners {
        if let Poll::Ready(accepted) = listener.poll_accept(cx) {
            return Poll::Ready(accepted);
        }
    }
    Poll::Pending
}
