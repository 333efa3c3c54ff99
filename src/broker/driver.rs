//! The running broker: its state behind one lock, its start, its end, and what the store tells it.

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
use super::reply::{Answer, Refusal};
use super::schedule::Schedule;
use super::stats::Stats;
use super::stuck::StuckQueues;
use super::subscription_groups::SubscriptionGroups;
use super::task;
use super::task::calls::Calls;
use super::task::state_file::StateFile;
use super::tickets::Tickets;
use super::topics::{RETRY_PREFIX, SCHEDULE_TOPIC, Topics};
use super::transaction::{Transactions, rewrite::Names};
use crate::disk::{Disk, LockGuard};
use crate::model::{PhysicalOffset, QueueKey, QueueOffset, TopicName};
use crate::net::Net;
use crate::protocol::body::client::MessageModel;
use crate::protocol::frame::Frame;
use crate::remoting::{self, Peer, Server};
use crate::rt::rng::Rng;
use crate::rt::sync::{Mutex, Notify, Semaphore, mpsc, watch};
use crate::rt::task::TaskGroup;
use crate::rt::time::{Clock, Duration, Mono};
use crate::store::{Arrival, Deleted, Outcome, RecoveryReport, Store, StoreEvents, Ticket};
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
        if core.hold.is_empty() {
            return;
        }
        for arrival in arrivals {
            core.hold.on_arrival(&arrival.key, arrival.end, &mut core.hold_effects);
        }
        pull::run_hold_effects(&shared, core);
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
    /// Ends last: state files, the store.
    back: TaskGroup,
    registrar: task::register::Registrar,
}

impl Broker {
    /// Loads the state, opens the store, listens, and registers once at every name server.
    /// Errors: see `Error`; nothing of the broker runs then.
    pub async fn start(deps: Deps, parts: Parts) -> Result<Broker, Error> {
        let Parts { broker: options, store: store_options, server, client, configuration } = parts;
        let ports = Ports::of(&options)?;
        let mut back = TaskGroup::new();
        let ear = Arc::new(Ear::default());
        let commit_log_dir = store_options.commit_log.all()[0].clone();
        let levels_ms = store_options.delay_levels_ms.clone();
        // The store locks the directory before anyone reads in it.
        let (store, report) =
            Store::open(deps.disk.clone(), deps.clock.clone(), &back, store_options, ear.clone())
                .await
                .map_err(Error::Store)?;
        let files = Files::new(&deps.disk, &options.root);
        let (core, files) = match open_core(&deps, &options, &levels_ms, files, &store) {
            Ok(opened) => opened,
            Err(error) => {
                close_store(&store).await;
                return Err(error);
            }
        };
        let front = TaskGroup::new();
        let (deletions, deleted) = mpsc::channel(task::losses::ROUNDS_MAX);
        let ended_connections = Arc::new(task::register::Lost::default());
        let shared = Arc::new(Shared {
            configuration,
            configuring: Semaphore::new(1),
            port: AtomicU16::new(options.listen_port),
            fast_port: ports.fast.map_or(0, |addr| addr.port()),
            client: client_of(&deps, &back, client, &ended_connections),
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
            check_moved: Notify::new(),
            poisoned: watch::channel(None).0,
            deletions,
            deleted_unconsumed: AtomicU64::new(0),
            options,
        });
        *ear.0.lock() = Arc::downgrade(&shared);
        // Before a producer can end a transaction, and before anything is appended.
        task::transactions::load(&shared).await;
        back.spawn(task::persist::run(shared.clone(), files, back.stop_signal()));
        spawn_front(&shared, &front, deleted);
        let door = Arc::new(Door::new(shared.clone()));
        let addrs = ports.all();
        let listening = Server::start(&deps.net, &deps.clock, &back, &addrs, door, server).await;
        let server = match listening {
            Ok(server) => server,
            Err(source) => {
                stop_group(&deps.clock, &mut back).await;
                close_store(&store).await;
                return Err(Error::Listen { addr: ports.main, source });
            }
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
        let lock = close_store(&self.shared.store).await;
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

fn client_of(
    deps: &Deps,
    group: &TaskGroup,
    options: remoting::ClientOptions,
    ended_connections: &Arc<task::register::Lost>,
) -> remoting::Client {
    let requests = Some(ended_connections.clone() as Arc<dyn remoting::ClientRequests>);
    remoting::Client::new(&deps.net, &deps.clock, group, options, requests)
}

/// The loops that end before the connections do.
fn spawn_front(shared: &Arc<Shared>, front: &TaskGroup, deleted: mpsc::Receiver<Deleted>) {
    front.spawn(task::losses::run(shared.clone(), deleted, front.stop_signal()));
    front.spawn(task::sample::run(shared.clone(), front.stop_signal()));
    front.spawn(task::stuck::run(shared.clone(), front.stop_signal()));
    front.spawn(task::expire::run(shared.clone(), front.stop_signal()));
    front.spawn(task::deliver::run(shared.clone(), front.stop_signal()));
    front.spawn(task::check_back::run(shared.clone(), front.stop_signal()));
}

async fn stop_group(clock: &Clock, group: &mut TaskGroup) {
    group.shutdown(clock, clock.mono() + Duration::from_secs(1)).await;
}

/// Returns the lock of its directory.
async fn close_store(store: &Store) -> Option<Box<dyn LockGuard>> {
    let (lock, closed) = store.close().await;
    if let Err(error) = closed {
        tracing::error!("failed to close the store in order: {error}");
    }
    lock
}

/// Where the broker listens.
struct Ports {
    main: SocketAddr,
    fast: Option<SocketAddr>,
}

impl Ports {
    fn of(options: &Options) -> Result<Ports, Error> {
        let port = options.listen_port;
        let main = SocketAddr::new(options.bind_ip, port);
        let fast = match port {
            0 => None,
            1 | 2 => {
                let reason = "the port 2 below it does not exist".to_owned();
                return Err(Error::Port { port, reason });
            }
            port => Some(SocketAddr::new(options.bind_ip, port - 2)),
        };
        Ok(Ports { main, fast })
    }

    fn all(&self) -> Vec<SocketAddr> {
        std::iter::once(self.main).chain(self.fast).collect()
    }
}

/// The state files.
pub(super) struct Files {
    pub topics: StateFile,
    pub groups: StateFile,
    pub offsets: StateFile,
    pub filters: StateFile,
    pub delays: StateFile,
}

impl Files {
    fn new(disk: &Arc<dyn Disk>, root: &str) -> Self {
        let file = |name| StateFile::new(disk.clone(), root, name);
        Files {
            topics: file("topics.json"),
            groups: file("subscriptionGroup.json"),
            offsets: file("consumerOffset.json"),
            filters: file("consumerFilter.json"),
            delays: file("delayOffset.json"),
        }
    }
}

fn open_core(
    deps: &Deps,
    options: &Options,
    levels_ms: &[i64],
    mut files: Files,
    store: &Store,
) -> Result<(Core, Files), Error> {
    let now = deps.clock.wall();
    let limits = &options.limits;
    let mut topics = Topics::new(&options.topics, now);
    if let Some(file) = task::persist::load(&mut files.topics)? {
        topics.restore(file);
    } else if !store.queues().is_empty() {
        tracing::error!(
            "{} is missing although the store holds queues: their topics are unknown until they \
             are created again",
            files.topics.path()
        );
    }
    let mut groups = SubscriptionGroups::new(&options.groups, now);
    if let Some(file) = task::persist::load(&mut files.groups)? {
        groups.restore(file);
    }
    let offsets = open_offsets(options, &mut files, store)?;
    let mut compiled = Compiled::new(options.filters.sql.clone(), options.filters.compiled_max);
    let mut filters = ConsumerFilters::new(options.filters.rows_max, options.filters.keep_dead);
    if let Some(file) = task::persist::load(&mut files.filters)? {
        filters.restore(now, file, &mut compiled);
    }
    let schedule = open_schedule(options, levels_ms, &mut files, store)?;
    let core = Core {
        live: Live::of(options),
        topics,
        groups,
        stats: Stats::new(
            limits.stats_rows_max,
            limits.counted_levels_max,
            now,
            deps.clock.local_offset_ms(now),
        ),
        offsets,
        filters,
        compiled,
        clients: Clients::new(options.client_silence_max, limits.memberships_max),
        locks: QueueLocks::new(options.queue_lock_lifetime, limits.queue_locks_max),
        stuck: StuckQueues::new(options.stuck_queue_after, limits.stuck_rows_max),
        hold: Hold::default(),
        schedule,
        transactions: Transactions::new(&options.transactions),
        transaction_names: Names::default(),
        transaction_replies: BTreeMap::new(),
        pulls: BTreeMap::new(),
        next_pull: 0,
        sends: Tickets::default(),
        peers: BTreeMap::new(),
        waiting_for_topic: Vec::new(),
        rng: deps.rng.clone(),
        scratch: Vec::new(),
        client_effects: Vec::new(),
        hold_effects: Vec::new(),
        stopping: false,
    };
    Ok((core, files))
}

fn open_offsets(options: &Options, files: &mut Files, store: &Store) -> Result<Offsets, Error> {
    let mut offsets = Offsets::new(options.limits.offset_rows_max);
    if let Some(file) = task::persist::load(&mut files.offsets)? {
        offsets.restore(file);
    }
    let count = offsets.cut(|topic, queue| {
        let key = QueueKey { topic: TopicName::new(topic), queue };
        i64::try_from(store.max_offset(&key).0).unwrap_or(i64::MAX)
    });
    if count > 0 {
        crate::rt::probe!("broker: a consumer offset was past the recovered log");
        tracing::warn!("{count} consumer offsets were past the end of their queues and were cut");
    }
    Ok(offsets)
}

fn open_schedule(
    options: &Options,
    levels_ms: &[i64],
    files: &mut Files,
    store: &Store,
) -> Result<Schedule, Error> {
    let mut schedule = Schedule::new(&options.schedule, levels_ms);
    let file = task::persist::load(&mut files.delays)?.unwrap_or_default();
    let queues = store.queues().into_iter().filter(|(key, ..)| &*key.topic == SCHEDULE_TOPIC);
    let corrected = schedule.restore(file, queues.map(|(key, min, end)| (key.queue, min, end)));
    if corrected > 0 {
        crate::rt::probe!("schedule: a cursor was outside of its queue");
        tracing::warn!("{corrected} offsets of delayOffset.json were outside of their queues");
    }
    for queue in schedule.unknown_queues() {
        let level = queue.0 + 1;
        tracing::warn!(
            "delay level {level} is not in messageDelayLevel any more: what waits there is \
             delivered at the time that was set when it was sent"
        );
    }
    Ok(schedule)
}
