//! Tells every name server that this broker lives and which topics it has.
//!
//! One loop per name server: at the start, every interval, when topics change, when the connection
//! was lost (a name server forgets a broker whose connection ends), and soon after a failure.

use super::super::driver::Shared;
use super::super::topics::perm;
use crate::protocol::Command;
use crate::protocol::body::{self, list::KvTable};
use crate::protocol::code::{request_code, response_code};
use crate::remoting::{ClientRequests, Peer};
use crate::rt::sync::{Mutex, mpsc, watch};
use crate::rt::task::{Stop, TaskGroup};
use crate::rt::time::{Alarm, Clock, Duration};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// After a failure the next try comes after this; doubled by each further one, up to the interval.
const RETRY_MIN: Duration = Duration::from_secs(1);

/// Counts the connections to name servers that ended. Each loop looks whether it was its own by
/// registering again: that is cheap and rare.
pub struct Lost(watch::Sender<u64>);

impl Default for Lost {
    fn default() -> Self {
        Lost(watch::channel(0).0)
    }
}

impl ClientRequests for Lost {
    /// Name servers ask nothing of a broker.
    fn on_request(&self, peer: &Peer, request: Command) {
        tracing::debug!(?peer, code = request.code, "a name server asked for something");
    }

    fn on_close(&self, _peer: &Peer) {
        self.0.send(self.0.get().wrapping_add(1));
    }
}

/// What one name server was told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heard {
    /// Units: changes of the topic table that it has taken.
    pub told: u64,
    /// The same, of registrations that have ended in any way; all when none will come any more.
    pub tried: u64,
}

/// What each name server was told, in the order of `Options::name_servers`.
pub struct Told(Vec<watch::Sender<Heard>>);

impl Told {
    pub fn new(servers: usize) -> Self {
        Told((0..servers).map(|_| watch::channel(Heard::default()).0).collect())
    }

    /// Waits until every name server was told that many changes of the topic table, or could not
    /// be, or the wait is over. Returns how many do not know them.
    /// Source: BrokerOuterAPI#registerBrokerAll (4.9.3), which waits for every answer too.
    pub fn wait(
        &self,
        clock: &Clock,
        limit: Duration,
        changes: u64,
    ) -> impl Future<Output = usize> + Send + use<> {
        let (clock, deadline) = (clock.clone(), clock.mono() + limit);
        let servers: Vec<_> = self.0.iter().map(watch::Sender::subscribe).collect();
        async move {
            let mut missing = 0;
            for mut server in servers {
                let tried = server.until(|heard| heard.tried >= changes);
                let heard = clock.before(deadline, tried).await;
                missing += usize::from(heard.is_none_or(|heard| heard.told < changes));
            }
            missing
        }
    }
}

/// What the end of the broker needs to know of the registrations.
pub struct Registrar {
    is_over: Arc<Mutex<bool>>,
}

/// Starts the loops and waits for the first try of each.
pub async fn start(shared: &Arc<Shared>, group: &TaskGroup, lost: &Arc<Lost>) -> Registrar {
    let registrar = Registrar { is_over: Arc::default() };
    let servers = &shared.options.name_servers;
    let (tried, mut first_tries) = mpsc::channel(servers.len().max(1));
    for (index, server) in servers.iter().enumerate() {
        let task = Loop {
            shared: shared.clone(),
            server: server.clone(),
            index,
            is_over: registrar.is_over.clone(),
            changes: shared.registrations.subscribe(),
            lost: lost.0.subscribe(),
            failures: 0,
        };
        group.spawn(task.run(group.stop_signal(), tried.clone()));
    }
    drop(tried);
    while first_tries.recv().await.is_some() {}
    registrar
}

impl Registrar {
    /// Ends the registrations and takes this broker off every name server that answers in time.
    pub async fn unregister(&self, shared: &Arc<Shared>, timeout: Duration) {
        if std::mem::replace(&mut *self.is_over.lock(), true) {
            return;
        }
        let group = TaskGroup::new();
        for server in &shared.options.name_servers {
            let (shared, server) = (shared.clone(), server.clone());
            group.spawn(async move {
                let request = broker_fields(&shared, request_code::UNREGISTER_BROKER);
                if let Err(error) = shared.client.invoke(&server, request, timeout).await {
                    tracing::warn!("failed to unregister at name server {server}: {error}");
                }
            });
        }
        // Nothing in the group looks at its stop signal: this waits, for a little longer than each.
        let deadline = shared.clock.mono() + timeout + Duration::from_millis(100);
        group.shutdown(&shared.clock, deadline).await;
    }
}

/// The shortest time between two registrations at one name server.
const PAUSE_MIN: Duration = Duration::from_millis(100);

struct Loop {
    shared: Arc<Shared>,
    server: String,
    /// Where it stands among all.
    index: usize,
    is_over: Arc<Mutex<bool>>,
    changes: watch::Receiver<u64>,
    lost: watch::Receiver<u64>,
    failures: u32,
}

impl Loop {
    async fn run(mut self, mut stop: Stop, tried: mpsc::Sender<()>) {
        let mut alarm = Alarm::new(&self.shared.clock);
        let mut first = Some(tried);
        loop {
            // Changes up to here are in the next registration.
            let (changes, lost) = (self.changes.get(), self.lost.get());
            crate::rt::select! {
                _ = stop.wait() => break,
                () = self.register() => {}
            }
            first.take();
            // Not more often than this, however fast things change or connections end.
            let earliest = self.shared.clock.mono() + PAUSE_MIN;
            alarm.set(Some(earliest + self.pause()));
            crate::rt::select! {
                _ = stop.wait() => break,
                _ = alarm.ring() => continue,
                _ = self.changes.until(|now| *now != changes) => {}
                _ = self.lost.until(|now| *now != lost) => {}
            }
            crate::rt::select! {
                _ = stop.wait() => break,
                () = self.shared.clock.sleep_until(earliest) => {}
            }
        }
        self.note(u64::MAX, false);
    }

    /// A registration with so many changes of the topic table has ended.
    fn note(&self, changes: u64, is_told: bool) {
        let heard = &self.shared.told.0[self.index];
        let before = heard.get();
        let told = if is_told { before.told.max(changes) } else { before.told };
        heard.send(Heard { told, tried: before.tried.max(changes) });
    }

    fn pause(&self) -> Duration {
        let interval = self.shared.options.register_interval;
        match self.failures {
            0 => interval,
            n => (RETRY_MIN * (1 << (n - 1).min(6))).min(interval),
        }
    }

    async fn register(&mut self) {
        if *self.is_over.lock() {
            return;
        }
        let (request, changes) = registration(&self.shared);
        let timeout = self.shared.options.register_timeout;
        let answer = self.shared.client.invoke(&self.server, request, timeout).await;
        let is_told = match answer {
            Ok(answer) if answer.code == response_code::SUCCESS => {
                self.failures = 0;
                order_topics(&self.shared, &answer);
                note_master(&self.shared, &answer);
                true
            }
            Ok(answer) => {
                let remark = answer.remark.unwrap_or_default();
                self.fail(&format!("code {}: {remark}", answer.code));
                false
            }
            Err(error) => {
                self.fail(&error.to_string());
                false
            }
        };
        self.note(changes, is_told);
    }

    fn fail(&mut self, reason: &str) {
        // Said at the first failure and then ever more rarely.
        self.failures = self.failures.saturating_add(1);
        if self.failures.is_power_of_two() {
            tracing::warn!("failed to register at name server {}: {reason}", self.server);
        }
    }
}

fn broker_fields(shared: &Shared, code: i32) -> Command {
    let options = &shared.options;
    let port = shared.store_host().port();
    Command::request(code)
        .with_ext("brokerName", &options.topics.broker_name)
        .with_ext("brokerAddr", format!("{}:{port}", options.advertised_ip))
        .with_ext("clusterName", &options.topics.cluster_name)
        .with_ext("brokerId", options.id)
}

/// A registration, and how many changes of the topic table are in it.
/// Source: BrokerController#registerBrokerAll, BrokerOuterAPI#registerBroker (4.9.3).
fn registration(shared: &Shared) -> (Command, u64) {
    let (body, changes) = registration_body(shared);
    let body = body.to_string().into_bytes();
    let crc = crc32fast::hash(&body) & 0x7FFF_FFFF;
    let ha_port = match shared.replication.ha.port() {
        0 => shared.store_host().port().wrapping_add(1),
        port => port,
    };
    let request = broker_fields(shared, request_code::REGISTER_BROKER)
        .with_ext("haServerAddr", format!("{}:{ha_port}", shared.options.ha_ip))
        .with_ext("compressed", false)
        .with_ext("bodyCrc32", crc)
        .with_body(body);
    (request, changes)
}

fn registration_body(shared: &Shared) -> (Value, u64) {
    let core = shared.core.lock();
    let permission = core.live.permission;
    let read_only = shared.poisoned.get().is_some();
    let is_limited = permission & (perm::READ | perm::WRITE) != perm::READ | perm::WRITE;
    let mut table = Map::new();
    let (version, topics) = core.topics.announced();
    for (name, config) in topics {
        let mut config = config.clone();
        if is_limited {
            config.perm = permission;
        }
        if read_only {
            config.perm &= !perm::WRITE;
        }
        if let Ok(config) = serde_json::to_value(&config) {
            table.insert(name.to_string(), config);
        }
    }
    let body = json!({
        "filterServerList": [],
        "topicConfigSerializeWrapper": {
            // One that is read-only is news, whatever is saved.
            "dataVersion": if read_only { core.topics.version() } else { version },
            "topicConfigTable": table,
        },
    });
    (body, core.topics.saved())
}

/// The name server's answer tells a slave where its master is.
/// Source: BrokerController#doRegisterBrokerAll (4.9.3).
fn note_master(shared: &Shared, answer: &Command) {
    if !shared.replication.role.is_slave() {
        return;
    }
    let said = |name: &str| answer.get(name).filter(|addr| !addr.is_empty()).map(str::to_owned);
    if let Some(addr) = said("masterAddr") {
        shared.replication.master.send(Some(addr));
    }
    if let Some(addr) = said("haServerAddr")
        && shared.options.replication.master.is_none()
    {
        shared.replication.ha.set_master(Some(addr));
    }
}

/// The name server's answer names the ordered topics, when it knows any.
fn order_topics(shared: &Shared, answer: &Command) {
    if answer.body.is_empty() {
        return;
    }
    let Ok(table) = body::decode::<KvTable>(&answer.body) else { return };
    let ordered: BTreeSet<String> = table.table.into_keys().collect();
    let mut core = shared.core.lock();
    let before = core.topics.changes();
    core.topics.set_ordered(shared.clock.wall(), &ordered);
    if core.topics.changes() != before {
        shared.unsaved.notify_one();
    }
}
