//! The running broker: its state behind one lock, its start, its end, and what the store tells it.

pub(super) mod opening;

use super::clients::{self, Clients};
use super::configuration::{Configuration, Live};
use super::error::Error;
use super::filter::bloom::Bloom;
use super::filter::compiled::Compiled;
use super::filter::consumer_filters::ConsumerFilters;
use super::handler::{Door, ReplyTo, pull};
use super::hold::{self, Hold, PullTicket};
use super::offsets::Offsets;
use super::options::{OnStoreFailure, Options};
use super::queue_locks::QueueLocks;
use super::replication::{Replication, SlaveStatus, Status};
use super::reply::{Answer, Refusal};
use super::schedule::Schedule;
use super::stats::Stats;
use super::stuck::StuckQueues;
use super::subscription_groups::SubscriptionGroups;
use super::task;
use super::task::calls::Calls;
use super::tickets::Tickets;
use super::timer::{TIMER_TOPIC, Timers, rewrite as timer};
use super::topics::{RETRY_PREFIX, SCHEDULE_TOPIC, Topics};
use super::transaction::{Transactions, rewrite::Names};
use crate::disk::{Disk, LockGuard};
use crate::ha::{Ha, SlaveRow};
use crate::model::{PhysicalOffset, QueueOffset};
use crate::net::Net;
use crate::protocol::body::client::MessageModel;
use crate::protocol::frame::Frame;
use crate::remoting::{self, Peer, Server};
use crate::rt::rng::Rng;
use crate::rt::sync::{Mutex, Notify, Semaphore, mpsc, watch};
use crate::rt::task::TaskGroup;
use crate::rt::time::{Clock, Duration, Mono};
use crate::store::{
    Abort, Arrival, Deleted, FlushMode, Outcome, RecoveryReport, Store, StoreEvents, Ticket,
};
use opening::{Opened, Opening, Ports, client_of};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// The world a broker lives in.
#[derive(Clone)]
pub struct Deps {
    pub disk: Arc<dyn Disk>,
    pub net: Arc<dyn Net>,
    pub clock: Clock,
    pub rng: Rng,
}

/// What a broker is made of besides its own options.
#[derive(Clone, Debug)]
pub struct Parts {
    pub broker: Options,
    pub store: crate::store::Options,
    pub server: remoting::ServerOptions,
    pub client: remoting::ClientOptions,
    /// What tools read and change; without it they are told that there is none.
    pub configuration: Option<Arc<dyn Configuration>>,
}

/// A ticket for sends that nobody waits for.
pub(super) const NOBODY: Ticket = Ticket(u64::MAX);

/// Set in the tickets of delayed messages that are sent on.
pub(super) const DELIVERY: u64 = 1 << 62;

/// Set in the tickets of what resolves half messages.
pub(super) const TRANSACTION: u64 = 1 << 61;

/// Set in the tickets of messages whose own time has come.
pub(super) const TIMER: u64 = 1 << 60;

/// How long the name servers may take to hear that this broker ends.
const UNREGISTER_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection as the broker knows it.
pub(super) struct Connected {
    pub peer: Peer,
    pub parked: BTreeSet<PullTicket>,
}

/// An accepted send whose outcome is not known yet.
pub(super) struct WaitingSend {
    pub to: ReplyTo,
    /// The queue as the client asked for it.
    pub queue: u32,
    pub queue_offset: QueueOffset,
    pub physical: PhysicalOffset,
    /// The ids of a batch, joined by commas.
    pub batch_ids: Option<Box<str>>,
    /// A consumer sent it back, and is told only whether it is stored.
    pub is_send_back: bool,
}

/// Everything that changes, owned by whoever holds the lock.
pub(super) struct Core {
    pub live: Live,
    pub topics: Topics,
    pub groups: SubscriptionGroups,
    pub clients: Clients,
    pub stats: Stats,
    pub offsets: Offsets,
    pub filters: ConsumerFilters,
    pub compiled: Compiled,
    pub locks: QueueLocks,
    pub stuck: StuckQueues,
    pub hold: Hold,
    pub schedule: Schedule,
    pub timers: Timers,
    pub transactions: Transactions,
    pub transaction_names: Names,
    /// Who waits for the end of a transaction, by ticket.
    pub transaction_replies: BTreeMap<u64, ReplyTo>,
    pub pulls: BTreeMap<PullTicket, pull::ParkedPull>,
    pub next_pull: u64,
    pub sends: Tickets<WaitingSend>,
    pub peers: BTreeMap<u64, Connected>,
    /// Sends to topics that are not durable yet, in order of arrival.
    pub waiting_for_topic: Vec<(Peer, Frame)>,
    pub rng: Rng,
    /// Reused by every send; empty between them.
    pub scratch: Vec<u8>,
    pub client_effects: Vec<clients::Effect>,
    pub hold_effects: Vec<hold::Effect>,
    /// Sends and pulls are refused: the broker ends.
    pub stopping: bool,
}

/// How far topics.json and subscriptionGroup.json have come.
#[derive(Clone, Default)]
pub(super) struct Saved {
    /// Units: changes of the table that are durable.
    pub topics: u64,
    pub groups: u64,
    /// Units: saves that failed, and why the last of them did.
    pub failures: u64,
    pub fault: String,
}

impl Saved {
    fn of(core: &Core) -> Self {
        let durable = |is_saved: bool, all| if is_saved { all } else { 0 };
        Saved {
            topics: durable(core.topics.unsaved().is_none(), core.topics.changes()),
            groups: durable(core.groups.unsaved().is_none(), core.groups.changes()),
            ..Saved::default()
        }
    }
}

pub(super) struct Shared {
    pub options: Options,
    pub configuration: Option<Arc<dyn Configuration>>,
    /// Held by the one that changes the configuration.
    pub configuring: Semaphore,
    /// The main port, once it is known.
    pub port: AtomicU16,
    /// The port without pulls; 0 when there is none.
    pub fast_port: u16,
    pub clock: Clock,
    pub disk: Arc<dyn Disk>,
    pub commit_log_dir: String,
    pub store: Store,
    pub client: remoting::Client,
    pub replication: Replication,
    /// SYNC_FLUSH: only what is synced counts as stored.
    pub is_synced: bool,
    pub calls: Calls,
    pub started_ms: i64,
    pub core: Mutex<Core>,
    /// Topics or groups changed: save them.
    pub unsaved: Notify,
    /// What of them is durable.
    pub saved: watch::Sender<Saved>,
    /// Topics changed and are saved: tell the name servers.
    pub registrations: watch::Sender<u64>,
    /// What they have heard.
    pub told: task::register::Told,
    /// The next deadline of `hold` or `clients` moved forward.
    pub deadline_moved: Notify,
    /// A delay level has something to look at.
    pub delivery_moved: Notify,
    /// The same for messages with a time of their own.
    pub timer_moved: Notify,
    /// The store has said what became of something that the check of transactions wrote.
    pub check_moved: Notify,
    pub poisoned: watch::Sender<Option<String>>,
    /// To the task that says who lost messages.
    pub deletions: mpsc::Sender<Deleted>,
    /// Units: messages that were deleted before a group had consumed them, since the start.
    pub deleted_unconsumed: AtomicU64,
}

impl Shared {
    /// What clients dial, and what every message carries.
    pub fn store_host(&self) -> SocketAddr {
        SocketAddr::new(self.options.advertised_ip, self.port.load(Ordering::Relaxed))
    }

    /// Up to where the log is stored as the flush mode says.
    pub fn stored_end(&self) -> PhysicalOffset {
        let stats = self.store.stats();
        if self.is_synced { stats.synced } else { stats.written }
    }

    /// How replication stands.
    pub fn replication_status(&self) -> Status {
        let (stats, epochs) = (self.store.stats(), self.store.epochs());
        let (now, followed) = (self.clock.mono(), self.replication.ha.followed());
        let slave = |row: SlaveRow| {
            let since = |at: Mono| u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX);
            let acked = row.acked.unwrap_or(0);
            SlaveStatus {
                addr: row.addr.to_string(),
                acked,
                sent: row.sent,
                behind_bytes: stats.written.0.saturating_sub(acked),
                behind_ms: row.behind_since.map_or(0, since),
            }
        };
        let cuts = self.disk.list(&format!("{}/hotfire/cut", self.options.root));
        Status {
            role: self.replication.role.name().into(),
            epoch: epochs.number(),
            epoch_start: epochs.rows().last().map_or(0, |epoch| epoch.start),
            written: stats.written.0,
            visible: stats.visible.0,
            slaves: self.replication.ha.slaves().into_iter().map(slave).collect(),
            behind_bytes: followed.heard.saturating_sub(stats.written.0),
            master: followed.master,
            is_connected: followed.is_connected,
            fault: followed.fault,
            last_cut: cuts.ok().and_then(|cuts| cuts.into_iter().map(|cut| cut.name).max()),
        }
    }

    /// Topics changed: they are saved, and then the name servers are told.
    pub fn topics_changed(&self) {
        self.unsaved.notify_one();
    }

    /// Tells the name servers now what they may know.
    pub fn register_again(&self) {
        self.registrations.send(self.registrations.get().wrapping_add(1));
    }

    /// Done when that many changes of both tables are durable.
    /// Errors: a save failed meanwhile; it will be tried again.
    pub fn until_saved(
        &self,
        topics: u64,
        groups: u64,
    ) -> impl Future<Output = Answer<()>> + Send + use<> {
        let mut saved = self.saved.subscribe();
        let failures = saved.get().failures;
        async move {
            let is_saved = |at: &Saved| at.topics >= topics && at.groups >= groups;
            let at = saved.until(|at| is_saved(at) || at.failures > failures).await;
            match is_saved(&at) {
                true => Ok(()),
                false => Err(Refusal::system_error(at.fault)),
            }
        }
    }

    /// Done when the name servers know that many changes of the topic table, or cannot be told
    /// within `register_wait`: then this is logged, and they hear it later.
    /// Source: BrokerController#registerIncrementBrokerData (4.9.3).
    pub fn until_registered(&self, changes: u64) -> impl Future<Output = ()> + Send + use<> {
        let wait = self.options.register_wait;
        let told = self.told.wait(&self.clock, wait, changes);
        let all = self.options.name_servers.len();
        async move {
            let missing = told.await;
            if missing > 0 {
                crate::rt::probe!("broker: a change was answered before a name server knew it");
                tracing::warn!(
                    "{missing} of {all} name servers do not know the newest topics yet; whoever \
                     changed them has an answer all the same"
                );
            }
        }
    }

    /// The geometry of the bloom filters in consumerFilter.json.
    pub fn bloom(&self) -> Bloom {
        let filters = &self.options.filters;
        Bloom::new(filters.bloom_error_percent, filters.bloom_entries)
    }

    /// How full the disk is. Units: percent.
    pub fn disk_used(&self) -> Option<f64> {
        let (free, total) = self.disk.free_space(&self.commit_log_dir).ok()?;
        (total > 0).then(|| 100.0 * (total - free.min(total)) as f64 / total as f64)
    }

    /// Carries out what the client table decided.
    pub fn run_client_effects(&self, core: &mut Core) {
        for effect in core.client_effects.drain(..) {
            match effect {
                clients::Effect::Notify { group, channels } => {
                    note_idle(&mut core.clients, &core.topics, &group);
                    for channel in channels {
                        if let Some(connected) = core.peers.get(&channel) {
                            super::handler::client::notify_ids_changed(&connected.peer, &group);
                        }
                    }
                }
                clients::Effect::Mixed { group, is_mixed: true } => tracing::warn!(
                    "the members of {group} subscribe to different topics or by different \
                     expressions: they get each other's messages, or none"
                ),
                clients::Effect::Mixed { group, is_mixed: false } => {
                    tracing::info!("the members of {group} subscribe to the same again");
                }
                clients::Effect::Gone { group } => {
                    core.filters.on_group_gone(self.clock.wall(), &group);
                }
                clients::Effect::Close(channel) => {
                    if let Some(connected) = core.peers.get(&channel) {
                        connected.peer.close("its client sent no heartbeat");
                    }
                }
            }
        }
    }
}

/// Says once per change how many members of a group have no queue here.
fn note_idle(clients: &mut Clients, topics: &Topics, name: &str) {
    let Some(group) = clients.consumer_group(name) else { return };
    let queues = group.subscriptions().filter(|sub| !sub.topic.starts_with(RETRY_PREFIX));
    let queues = queues.filter_map(|sub| topics.get(&sub.topic));
    let queues = queues.map(|topic| topic.config.read_queue_nums as usize).max();
    let members = group.members().count();
    let idle = match (group.model, queues) {
        (Some(MessageModel::Clustering), Some(queues)) => members.saturating_sub(queues),
        _ => 0,
    };
    if clients.set_idle(name, idle) != idle {
        tracing::info!("{idle} of {members} members of {name} have no queue at this broker");
    }
}

/// Hands the store's news to the broker that owns the store; a broker that is gone hears nothing.
#[derive(Default)]
struct Ear(Mutex<Weak<Shared>>);

impl Ear {
    fn shared(&self) -> Option<Arc<Shared>> {
        self.0.lock().upgrade()
    }
}

impl StoreEvents for Ear {
    fn on_outcomes(&self, outcomes: &mut Vec<(Ticket, Outcome)>) {
        match self.shared() {
            Some(shared) => super::handler::send::on_outcomes(&shared, outcomes),
            None => outcomes.clear(),
        }
    }

    fn on_arrivals(&self, arrivals: &[Arrival]) {
        let Some(shared) = self.shared() else { return };
        let mut core = shared.core.lock();
        let core = &mut *core;
        let mut is_moved = false;
        for arrival in arrivals.iter().filter(|arrival| &*arrival.key.topic == SCHEDULE_TOPIC) {
            let now = shared.clock.mono();
            is_moved |= core.schedule.on_arrival(arrival.key.queue, arrival.end, now);
        }
        if is_moved {
            shared.delivery_moved.notify_one();
        }
        for arrival in arrivals.iter().filter(|arrival| &*arrival.key.topic == TIMER_TOPIC) {
            if arrival.key.queue == timer::WAITING && core.timers.on_arrival(arrival.end) {
                shared.timer_moved.notify_one();
            }
        }
        if core.hold.is_empty() {
            return;
        }
        for arrival in arrivals {
            core.hold.on_arrival(&arrival.key, arrival.end, &mut core.hold_effects);
        }
        pull::run_hold_effects(&shared, core);
    }

    fn on_log_moved(&self) {
        if let Some(shared) = self.shared() {
            shared.replication.ha.on_log_moved();
        }
    }

    fn on_deleted(&self, deleted: &Deleted) {
        let told = self.shared().map(|shared| shared.deletions.try_send(deleted.clone()));
        if let Some(Err(_)) = told {
            tracing::warn!("who lost messages to the deletion of old files was not looked up");
        }
    }

    fn on_poison(&self, reason: &str) {
        let Some(shared) = self.shared() else { return };
        if shared.options.on_store_failure == OnStoreFailure::ReadOnly {
            tracing::error!("only reading is possible until this broker is started again");
            // A name server looks at the topics again only when their version is another.
            shared.core.lock().topics.touch(shared.clock.wall());
            shared.register_again();
        }
        shared.poisoned.send(Some(reason.to_owned()));
    }
}

/// One running broker.
pub struct Broker {
    shared: Arc<Shared>,
    server: Server,
    report: RecoveryReport,
    /// Ends first: registration, expiry, connections.
    front: TaskGroup,
    /// Ends last: state files, the store, the look for stuck queues.
    back: TaskGroup,
    registrar: task::register::Registrar,
}

impl Broker {
    /// Loads the state, opens the store, listens, and registers once at every name server.
    /// Errors: see `Error`; nothing of the broker runs then.
    pub async fn start(deps: Deps, parts: Parts) -> Result<Broker, Error> {
        let Parts { broker: options, store: store_options, server, client, configuration } = parts;
        let ports = Ports::of(&options)?;
        let is_synced = store_options.flush == FlushMode::Sync;
        let mut back = TaskGroup::new();
        let ear = Arc::new(Ear::default());
        let commit_log_dir = store_options.commit_log.all()[0].clone();
        let levels_ms = store_options.delay_levels_ms.clone();
        // The store locks the directory before anyone reads in it.
        let (store, report) =
            Store::open(deps.disk.clone(), deps.clock.clone(), &back, store_options, ear.clone())
                .await
                .map_err(Error::Store)?;
        let abort = if report.unclean { Abort::Stays } else { Abort::Goes };
        let ended_connections = Arc::new(task::register::Lost::default());
        let client = client_of(&deps, &back, client, &ended_connections);
        let opening = Opening { deps: &deps, options: &options, store: &store, client: &client };
        let opened = opening.open(is_synced, report.unclean, &levels_ms, &back).await;
        let Opened { core, files, replication } = match opened {
            Ok(opened) => opened,
            Err(error) => return Err(give_up(&deps.clock, &store, abort, &mut back, error).await),
        };
        let front = TaskGroup::new();
        let (deletions, deleted) = mpsc::channel(task::losses::ROUNDS_MAX);
        let shared = Arc::new(Shared {
            configuration,
            configuring: Semaphore::new(1),
            port: AtomicU16::new(options.listen_port),
            fast_port: ports.fast.map_or(0, |addr| addr.port()),
            client,
            is_synced,
            replication,
            calls: Calls::new(&front, options.limits.client_calls_max),
            clock: deps.clock.clone(),
            disk: deps.disk.clone(),
            commit_log_dir,
            store: store.clone(),
            started_ms: deps.clock.wall().0,
            saved: watch::channel(Saved::of(&core)).0,
            core: Mutex::new(core),
            unsaved: Notify::new(),
            registrations: watch::channel(0).0,
            told: task::register::Told::new(options.name_servers.len()),
            deadline_moved: Notify::new(),
            delivery_moved: Notify::new(),
            timer_moved: Notify::new(),
            check_moved: Notify::new(),
            poisoned: watch::channel(None).0,
            deletions,
            deleted_unconsumed: AtomicU64::new(0),
            options,
        });
        *ear.0.lock() = Arc::downgrade(&shared);
        if !shared.replication.role.is_slave() {
            // Before a producer can end a transaction, and before anything is appended.
            task::transactions::load(&shared).await;
        }
        spawn_back(&shared, &back, files);
        spawn_front(&shared, &front, deleted);
        let listening = listen(&deps, &ports, &shared, &back, server).await;
        let server = match listening {
            Ok(server) => server,
            Err(error) => return Err(give_up(&deps.clock, &store, abort, &mut back, error).await),
        };
        shared.port.store(server.local_addrs()[0].port(), Ordering::Relaxed);
        let registrar = task::register::start(&shared, &front, &ended_connections).await;
        Ok(Broker { shared, server, report, front, back, registrar })
    }

    /// The address in use for the main port.
    pub fn local_addr(&self) -> SocketAddr {
        self.server.local_addrs()[0]
    }

    pub fn recovery_report(&self) -> &RecoveryReport {
        &self.report
    }

    pub fn store(&self) -> &Store {
        &self.shared.store
    }

    /// Replication: the slaves of a master, or how a slave stands with its master.
    pub fn ha(&self) -> &Ha {
        &self.shared.replication.ha
    }

    /// What 4.9 prints when a broker is up. Source: BrokerStartup#start (4.9.3).
    pub fn boot_line(&self) -> String {
        let options = &self.shared.options;
        let mut line = format!(
            "The broker[{}, {}:{}] boot success. serializeType=JSON",
            options.topics.broker_name,
            options.advertised_ip,
            self.local_addr().port()
        );
        if !options.name_servers.is_empty() {
            line.push_str(" and name server is ");
            line.push_str(&options.name_servers.join(";"));
        }
        line
    }

    /// Why nothing is stored any more; `None` while all is well.
    pub fn read_only(&self) -> Option<String> {
        self.shared.poisoned.get()
    }

    /// Resolves with the reason when the store can no longer be trusted: no send is acknowledged
    /// any more, the name servers are told, and the process should end with a code of its own.
    /// Never with `onStoreFailure=readonly`.
    pub async fn poisoned(&self) -> String {
        let reason = self.shared.poisoned.subscribe().until(Option::is_some).await;
        if self.shared.options.on_store_failure == OnStoreFailure::ReadOnly {
            return std::future::pending().await;
        }
        self.registrar.unregister(&self.shared, UNREGISTER_TIMEOUT).await;
        reason.unwrap_or_default()
    }

    /// Resolves with the reason when another master of this name has a newer epoch: this one must
    /// end.
    pub async fn fenced(&self) -> String {
        let reason = self.shared.replication.fenced.subscribe().until(Option::is_some).await;
        reason.unwrap_or_default()
    }

    /// Resolves with the reason when a slave must be started again: its log is to be cut back.
    pub async fn restart_wanted(&self) -> String {
        self.shared.replication.ha.restart_wanted().await
    }

    /// Stops in order: name servers are told, new sends and pulls are refused, what was accepted is
    /// answered, the store closes, connections close, consumer offsets are saved.
    ///
    /// Refused rather than not read: a 4.9 client that is refused goes to another broker at once,
    /// but one without an answer waits its whole time, even when the connection closes.
    /// The directory is locked until the last state file is written.
    /// Durable on return: everything acknowledged and every offset committed.
    pub async fn shutdown(mut self) {
        let clock = self.shared.clock.clone();
        self.registrar.unregister(&self.shared, UNREGISTER_TIMEOUT).await;
        self.refuse_more();
        stop_group(&clock, &mut self.front).await;
        let lock = close_store(&self.shared.store, Abort::Goes).await;
        self.server.shutdown().await;
        let deadline = clock.mono() + self.shared.options.stop_timeout;
        let late = self.back.shutdown(&clock, deadline).await;
        if late > 0 {
            tracing::warn!("{late} tasks of the broker did not end in time");
        }
        drop(lock);
    }

    /// Parked pulls are answered with what there is, later ones are refused.
    fn refuse_more(&self) {
        let mut core = self.shared.core.lock();
        let core = &mut *core;
        core.stopping = true;
        core.hold.on_deadline(Mono(u64::MAX), &mut core.hold_effects);
        pull::run_hold_effects(&self.shared, core);
    }
}

/// The loops that end after the connections do: until then commits are taken, and whoever asks
/// which queues are stuck is answered.
fn spawn_back(shared: &Arc<Shared>, back: &TaskGroup, files: opening::Files) {
    back.spawn(task::persist::run(shared.clone(), files, back.stop_signal()));
    back.spawn(task::stuck::run(shared.clone(), back.stop_signal()));
}

/// The loops that end before the connections do.
fn spawn_front(shared: &Arc<Shared>, front: &TaskGroup, deleted: mpsc::Receiver<Deleted>) {
    front.spawn(task::losses::run(shared.clone(), deleted, front.stop_signal()));
    front.spawn(task::sample::run(shared.clone(), front.stop_signal()));
    front.spawn(task::expire::run(shared.clone(), front.stop_signal()));
    front.spawn(task::greet::learn_peers(shared.clone(), front.stop_signal()));
    if shared.replication.role.is_slave() {
        front.spawn(task::copy_master::run(shared.clone(), front.stop_signal()));
        front.spawn(task::copy_master::wait_changes(shared.clone(), front.stop_signal()));
        return;
    }
    front.spawn(task::heir::run(shared.clone(), front.stop_signal()));
    front.spawn(task::fence::run(shared.clone(), front.stop_signal()));
    front.spawn(task::deliver::run(shared.clone(), front.stop_signal()));
    front.spawn(task::timer::run(shared.clone(), front.stop_signal()));
    front.spawn(task::check_back::run(shared.clone(), front.stop_signal()));
}

async fn listen(
    deps: &Deps,
    ports: &Ports,
    shared: &Arc<Shared>,
    group: &TaskGroup,
    options: remoting::ServerOptions,
) -> Result<Server, Error> {
    let (door, addrs) = (Arc::new(Door::new(shared.clone())), ports.all());
    let started = Server::start(&deps.net, &deps.clock, group, &addrs, door, options).await;
    started.map_err(|source| Error::Listen { addr: ports.main, source })
}

/// A start that failed leaves what it found. One after an unclean stop may not have asked its
/// slaves for what it lost: with `Abort::Stays` the next one does.
async fn give_up(
    clock: &Clock,
    store: &Store,
    abort: Abort,
    group: &mut TaskGroup,
    error: Error,
) -> Error {
    // The store's tasks are of this group too, and are not to be aborted while a disk is slow.
    let _lock = close_store(store, abort).await;
    stop_group(clock, group).await;
    error
}

async fn stop_group(clock: &Clock, group: &mut TaskGroup) {
    group.shutdown(clock, clock.mono() + Duration::from_secs(1)).await;
}

/// Returns the lock of its directory.
async fn close_store(store: &Store, abort: Abort) -> Option<Box<dyn LockGuard>> {
    let (lock, closed) = store.close(abort).await;
    if let Err(error) = closed {
        tracing::error!("failed to close the store in order: {error}");
    }
    lock
}

#[cfg(test)]
mod tests;
