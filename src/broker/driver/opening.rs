//! What a broker is made of before it listens: its ports, its state files, its tables, replication.

use super::super::clients::Clients;
use super::super::configuration::Live;
use super::super::error::Error;
use super::super::filter::compiled::Compiled;
use super::super::filter::consumer_filters::ConsumerFilters;
use super::super::hold::Hold;
use super::super::offsets::Offsets;
use super::super::options::Options;
use super::super::queue_locks::QueueLocks;
use super::super::replication::peers::{self, Admission, KnownPeers};
use super::super::replication::{Replication, heir::make_topics};
use super::super::schedule::Schedule;
use super::super::stats::Stats;
use super::super::stuck::StuckQueues;
use super::super::subscription_groups::SubscriptionGroups;
use super::super::task::greet::MasterGreeter;
use super::super::task::state_file::StateFile;
use super::super::task::{catch_up, heir, persist, register, timer, transactions};
use super::super::tickets::Tickets;
use super::super::topics::{SCHEDULE_TOPIC, Topics};
use super::super::transaction::{Transactions, rewrite::Names};
use super::{Core, Deps};
use crate::disk::{Disk, read_small_again, settle_names};
use crate::ha::{self, Ha, HaDeps};
use crate::model::{QueueKey, TopicName};
use crate::protocol::body::offset::DelayOffsets;
use crate::remoting;
use crate::rt::sync::{Notify, watch};
use crate::rt::task::TaskGroup;
use crate::rt::time::Clock;
use crate::store::{CutProgress, Store};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// Where the broker listens.
pub struct Ports {
    pub main: SocketAddr,
    pub fast: Option<SocketAddr>,
}

impl Ports {
    pub fn of(options: &Options) -> Result<Ports, Error> {
        let port = options.listen_port;
        let main = SocketAddr::new(options.bind_ip, port);
        let fast = match port {
            0 => None,
            1 | 2 => {
                let reason = "the port 2 below it does not exist".to_owned();
                return Err(Error::Port { port, reason });
            }
            u16::MAX => {
                let reason = "the port 1 above it, for slaves, does not exist".to_owned();
                return Err(Error::Port { port, reason });
            }
            port => Some(SocketAddr::new(options.bind_ip, port - 2)),
        };
        Ok(Ports { main, fast })
    }

    pub fn all(&self) -> Vec<SocketAddr> {
        std::iter::once(self.main).chain(self.fast).collect()
    }
}

pub fn client_of(
    deps: &Deps,
    group: &TaskGroup,
    options: remoting::ClientOptions,
    ended_connections: &Arc<register::Lost>,
) -> remoting::Client {
    let requests = Some(ended_connections.clone() as Arc<dyn remoting::ClientRequests>);
    remoting::Client::new(&deps.net, &deps.clock, group, options, requests)
}

/// Where others reach this broker; nothing when any free port is taken.
fn own_addr(options: &Options) -> String {
    if options.listen_port == 0 {
        return String::new();
    }
    format!("{}:{}", options.advertised_ip, options.listen_port)
}

/// What a broker is made of when its store is open.
pub struct Opened {
    pub core: Core,
    pub files: Files,
    pub replication: Replication,
}

/// What it is made from.
pub struct Opening<'a> {
    pub deps: &'a Deps,
    pub options: &'a Options,
    pub store: &'a Store,
    pub client: &'a remoting::Client,
}

impl Opening<'_> {
    /// A master makes sure of its log first; then the state is loaded, and replication opened.
    pub async fn open(
        &self,
        is_synced: bool,
        is_unclean: bool,
        levels_ms: &[i64],
        group: &TaskGroup,
    ) -> Result<Opened, Error> {
        let Opening { deps, options, store, client } = *self;
        let known_peers = known_peers(deps, &options.root).await;
        let mut slaves = Vec::new();
        if !options.replication.role.is_slave() {
            let start = catch_up::Start {
                clock: &deps.clock,
                client,
                store,
                options,
                addr: own_addr(options),
                known: known_peers.all(),
                disk: &*deps.disk,
                is_heir: heir::Mark::WasSlave.is_set(&*deps.disk, &options.root),
                is_unclean,
            };
            slaves = catch_up::run(&start, deps.rng.clone().next_u64()).await?;
        }
        let config = format!("{}/config", options.root);
        if let Err(source) = settle_names(&*deps.disk, &config).await {
            return Err(Error::StateFileWrite { path: config, source });
        }
        let files = Files::new(&deps.disk, &options.root);
        let (mut core, mut files) = open_core(deps, options, levels_ms, files, store).await?;
        let offsets = &mut core.offsets;
        for slave in &slaves {
            catch_up::offsets(client, slave, store, offsets).await;
        }
        // A slave forgets what it told with the first copy that it takes from here.
        if let Some(changes) = offsets.unsaved().filter(|_| !slaves.is_empty()) {
            match files.offsets.save(offsets.to_json()).await {
                Ok(()) => offsets.on_saved(changes),
                Err(error) => tracing::error!("failed to {error}; the last good one is kept"),
            }
        }
        self.inherit(&mut core).await?;
        let replication = self.replication(is_synced, known_peers, group).await?;
        Ok(Opened { core, files, replication })
    }

    /// A slave says that it is one; who was one and is the master now, or took records from one,
    /// makes the topics that it only has records of.
    async fn inherit(&self, core: &mut Core) -> Result<(), Error> {
        let (disk, root) = (&*self.deps.disk, &self.options.root);
        if self.options.replication.role.is_slave() {
            return heir::Mark::WasSlave.set(disk, root).await;
        }
        if heir::may_lack_topics(disk, root) {
            let now = self.deps.clock.wall();
            for name in make_topics(&mut core.topics, self.store, now) {
                crate::rt::probe!("ha: a new master made a topic of its records");
                tracing::warn!("topic {name} is made anew from its records");
            }
            // Topics that it made as a slave are news to the name servers.
            core.topics.touch(now);
        }
        Ok(())
    }

    /// A master listens for slaves; a slave follows its master once it knows where that is.
    async fn replication(
        &self,
        is_synced: bool,
        known_peers: Arc<KnownPeers>,
        group: &TaskGroup,
    ) -> Result<Replication, Error> {
        let Opening { deps, options, store, client } = *self;
        let (net, clock) = (deps.net.clone(), deps.clock.clone());
        let ha_deps = HaDeps { net, clock, store: store.clone() };
        let (told, role) = (&options.replication, options.replication.role);
        let (stream, master) = (told.stream.clone(), watch::channel(None).0);
        let admission = Arc::new(Admission::new(&told.allowed, known_peers.clone()));
        let ha = if role.is_slave() {
            let greeter = MasterGreeter {
                client: client.clone(),
                broker_name: options.topics.broker_name.clone(),
                addr: own_addr(options),
                master: master.subscribe(),
                peers: known_peers.clone(),
            };
            let ha = Ha::follow(ha_deps, stream, is_synced, Arc::new(greeter), group);
            ha.set_master(told.master.clone());
            ha
        } else {
            // Source: BrokerStartup: listenPort + 1, whatever haListenPort says.
            let port = if options.listen_port == 0 { 0 } else { options.listen_port + 1 };
            let addr = SocketAddr::new(options.bind_ip, port);
            let known = admission.clone();
            let admits: ha::Admission = Arc::new(move |ip| known.admits(ip));
            let serving = Ha::serve(ha_deps, stream, addr, admits, group).await;
            serving.map_err(|source| Error::Listen { addr, source })?
        };
        let (master_changed, fenced) = (Notify::new(), watch::channel(None).0);
        Ok(Replication { role, ha, admission, known_peers, master, master_changed, fenced })
    }
}

async fn known_peers(deps: &Deps, root: &str) -> Arc<KnownPeers> {
    let path = KnownPeers::path(root);
    let read = read_small_again(&*deps.disk, &deps.clock, &path, peers::FILE_SIZE_MAX).await;
    Arc::new(KnownPeers::new(&deps.disk, root, read))
}

/// The state files.
pub(in super::super) struct Files {
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

async fn open_core(
    deps: &Deps,
    options: &Options,
    levels_ms: &[i64],
    mut files: Files,
    store: &Store,
) -> Result<(Core, Files), Error> {
    let now = deps.clock.wall();
    let limits = &options.limits;
    let topics = open_topics(&deps.clock, options, &mut files, store).await?;
    let groups = SubscriptionGroups::new(&options.groups, now);
    let is_slave = options.replication.role.is_slave();
    let mut groups = if is_slave { groups.of_slave() } else { groups };
    if let Some(file) = persist::load(&deps.clock, &mut files.groups).await? {
        groups.restore(file);
    }
    let cut = store.cut_progress();
    let offsets = open_offsets(&deps.clock, options, &mut files, store, &cut).await?;
    let mut compiled = Compiled::new(options.filters.sql.clone(), options.filters.compiled_max);
    let mut filters = ConsumerFilters::new(options.filters.rows_max, options.filters.keep_dead);
    if let Some(file) = persist::load(&deps.clock, &mut files.filters).await? {
        filters.restore(now, file, &mut compiled);
    }
    let schedule = open_schedule(deps, options, levels_ms, &mut files, store, &cut).await?;
    if !cut.is_empty() {
        keep_gone_back(&mut files, &offsets, &schedule, store, &cut).await;
    }
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
        timers: timer::open(&options.timers, store),
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

async fn open_topics(
    clock: &Clock,
    options: &Options,
    files: &mut Files,
    store: &Store,
) -> Result<Topics, Error> {
    let topics = Topics::new(&options.topics, clock.wall());
    let is_slave = options.replication.role.is_slave();
    let mut topics = if is_slave { topics.of_slave() } else { topics };
    if let Some(file) = persist::load(clock, &mut files.topics).await? {
        topics.restore(file);
    } else if !store.queues().is_empty() && !is_slave {
        tracing::error!(
            "{} is missing although the store holds queues: their topics are unknown until they \
             are created again",
            files.topics.path()
        );
    }
    Ok(topics)
}

/// Rows past the end of their queue go back to it, and durably: with more messages in the queue
/// nothing would tell any more that they skip some.
async fn open_offsets(
    clock: &Clock,
    options: &Options,
    files: &mut Files,
    store: &Store,
    cut: &CutProgress,
) -> Result<Offsets, Error> {
    let offsets = Offsets::new(options.limits.offset_rows_max);
    let is_slave = options.replication.role.is_slave();
    let mut offsets = if is_slave { offsets.of_slave() } else { offsets };
    if let Some(file) = persist::load(clock, &mut files.offsets).await? {
        offsets.restore(file);
    }
    if let Some(half) = cut.first_half {
        transactions::go_back(&mut offsets, half);
    }
    let count = offsets.cut(|topic, queue| {
        let key = QueueKey { topic: TopicName::new(topic), queue };
        i64::try_from(store.max_offset(&key).0).unwrap_or(i64::MAX)
    });
    if count > 0 {
        crate::rt::probe!("broker: a consumer offset was past the recovered log");
        tracing::warn!("{count} consumer offsets were past the end of their queues and were cut");
        match files.offsets.save(offsets.to_json()).await {
            Ok(()) => offsets.unsaved().into_iter().for_each(|changes| offsets.on_saved(changes)),
            Err(error) => tracing::error!("failed to {error}; it is tried again"),
        }
    }
    Ok(offsets)
}

async fn open_schedule(
    deps: &Deps,
    options: &Options,
    levels_ms: &[i64],
    files: &mut Files,
    store: &Store,
    cut: &CutProgress,
) -> Result<Schedule, Error> {
    let mut schedule = Schedule::new(&options.schedule, levels_ms);
    let file = persist::load(&deps.clock, &mut files.delays).await?;
    let mut file: DelayOffsets = file.unwrap_or_default();
    for (queue, count) in &cut.deliveries {
        file.go_back(*queue, *count);
    }
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

/// Saves progress that went back behind a cut; only then the note of the cut goes.
async fn keep_gone_back(
    files: &mut Files,
    offsets: &Offsets,
    schedule: &Schedule,
    store: &Store,
    cut: &CutProgress,
) {
    let deliveries = cut.deliveries.values().sum::<u64>();
    if deliveries > 0 {
        tracing::warn!("a cut took {deliveries} deliveries of delayed messages: they come again");
    }
    if let Some(half) = cut.first_half {
        tracing::warn!("a cut took ends of half messages from {half} on: they are looked at again");
    }
    let saved = match files.offsets.save(offsets.to_json()).await {
        Ok(()) => files.delays.save(schedule.to_json()).await,
        failed => failed,
    };
    match saved.map(|()| store.forget_cut_progress()) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!("that is done again at the next start: {error}"),
        Err(error) => {
            tracing::warn!("that is done again at the next start: failed to {error}");
        }
    }
}
