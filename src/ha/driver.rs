//! The running replication of one broker: a master's HA port, or a slave that follows its master.

use super::greeting::{Greeter, Position};
use super::master::{Master, SlaveRow};
use super::options::Options;
use super::task::{follow, listen};
use crate::format::epochs::Epochs;
use crate::net::Net;
use crate::rt::sync::{Mutex, watch};
use crate::rt::task::TaskGroup;
use crate::rt::time::Clock;
use crate::store::Store;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

/// The world that replication lives in.
#[derive(Clone)]
pub struct HaDeps {
    pub net: Arc<dyn Net>,
    pub clock: Clock,
    pub store: Store,
}

/// Whether a connection from this address may be a slave's.
pub type Admission = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

pub(super) struct Shared {
    pub deps: HaDeps,
    pub options: Options,
    pub master: Mutex<Master>,
    /// More of the log is written or synced.
    pub log_moved: watch::Sender<u64>,
    /// Whom a slave follows: the HA address of its master.
    pub follows: watch::Sender<Option<String>>,
    pub followed: Mutex<Followed>,
    /// The newest list of epochs that anybody of this name told a slave of.
    pub heard_of: watch::Sender<Epochs>,
    /// The log is synced before a report counts it.
    pub reports_synced: bool,
    pub port: AtomicU16,
    pub admission: Admission,
    /// Of a slave.
    pub greeter: Option<Arc<dyn Greeter>>,
    /// The log must be cut back, which a start does: why.
    pub restart: watch::Sender<Option<String>>,
}

/// How a slave stands with its master, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// The HA address of the master, once it is known.
    pub master: Option<String>,
    pub is_connected: bool,
    /// Where the master's log goes on, as far as it was heard. Units: an offset of the log.
    pub heard: u64,
    /// Why the last connection ended.
    pub fault: Option<String>,
}

impl Position {
    /// All of this log: what is not written yet is not waited for.
    /// Errors: the newest record cannot be read.
    pub async fn of(store: &Store) -> io::Result<Position> {
        let last = store.last_checksum().await?.map(|(at, sum)| (at.0, sum));
        Ok(Position { last, ..Position::without_record(store) })
    }

    /// For a question about epochs alone: the newest record is read neither here nor there.
    pub fn without_record(store: &Store) -> Position {
        let stats = store.stats();
        Position { epochs: store.epochs(), min: stats.min.0, end: stats.end.0, last: None }
    }
}

/// Replication as its broker holds it. Cloning is cheap.
#[derive(Clone)]
pub struct Ha(Arc<Shared>);

impl Ha {
    fn new(
        deps: HaDeps,
        options: Options,
        reports_synced: bool,
        admission: Admission,
        greeter: Option<Arc<dyn Greeter>>,
    ) -> Self {
        Ha(Arc::new(Shared {
            admission,
            greeter,
            restart: watch::channel(None).0,
            deps,
            options,
            master: Mutex::new(Master::default()),
            log_moved: watch::channel(0).0,
            follows: watch::channel(None).0,
            followed: Mutex::new(Followed::default()),
            heard_of: watch::channel(Epochs::default()).0,
            reports_synced,
            port: AtomicU16::new(0),
        }))
    }

    /// Listens for slaves. Errors: the port cannot be had.
    pub async fn serve(
        deps: HaDeps,
        options: Options,
        addr: SocketAddr,
        admission: Admission,
        group: &TaskGroup,
    ) -> io::Result<Ha> {
        let ha = Ha::new(deps, options, false, admission, None);
        let listener = ha.0.deps.net.listen(addr).await?;
        ha.0.port.store(listener.local_addr().port(), Ordering::Relaxed);
        group.spawn(listen::run(ha.0.clone(), listener, group.stop_signal(), group.spawner()));
        Ok(ha)
    }

    /// Follows the master that `set_master` names, once `greeter` has spoken with it.
    /// `reports_synced`: the slave says that it has something only once it is synced (SYNC_FLUSH).
    pub fn follow(
        deps: HaDeps,
        options: Options,
        reports_synced: bool,
        greeter: Arc<dyn Greeter>,
        group: &TaskGroup,
    ) -> Ha {
        let nobody: Admission = Arc::new(|_| false);
        let ha = Ha::new(deps, options, reports_synced, nobody, Some(greeter));
        group.spawn(follow::run(ha.0.clone(), group.stop_signal()));
        ha
    }

    /// The port that slaves dial; 0 at a slave.
    pub fn port(&self) -> u16 {
        self.0.port.load(Ordering::Relaxed)
    }

    /// The store's log moved (`StoreEvents::on_log_moved`).
    pub fn on_log_moved(&self) {
        let mut master = self.0.master.lock();
        if master.count() > 0 {
            master.on_log_moved(self.0.deps.clock.mono());
        }
        drop(master);
        self.0.log_moved.send(self.0.log_moved.get().wrapping_add(1));
    }

    /// A slave was greeted and will dial with this token.
    pub fn expect(&self, token: u64) {
        let options = &self.0.options;
        let until = self.0.deps.clock.mono() + options.token_lifetime;
        self.0.master.lock().on_greeted(token, until, options.tokens_max);
    }

    /// Resolves with the reason when the log must be cut back, which the next start does.
    pub async fn restart_wanted(&self) -> String {
        let reason = self.0.restart.subscribe().until(Option::is_some).await;
        reason.unwrap_or_default()
    }

    /// A master of this name has begun these epochs: a slave takes nothing more from one that it
    /// replaced, from now on. In memory; what a slave follows it keeps.
    pub fn hear_of(&self, epochs: Epochs) {
        if epochs.number() > self.0.heard_of.get().number() {
            self.0.heard_of.send(epochs);
        }
    }

    /// The HA address of the master, as `host:port`; a slave goes there when it is another.
    pub fn set_master(&self, addr: Option<String>) {
        if self.0.follows.get() != addr {
            self.0.follows.send(addr);
        }
    }

    /// The connected slaves.
    pub fn slaves(&self) -> Vec<SlaveRow> {
        let end = self.0.deps.store.stats().written.0;
        self.0.master.lock().rows(end)
    }

    pub fn followed(&self) -> Followed {
        self.0.followed.lock().clone()
    }
}
