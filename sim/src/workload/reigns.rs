//! A master and its slaves in the hands of operators, and producers who write to whom they hold
//! for the master.

mod operators;
mod producer;

use super::cluster::{ClusterHouse, HA_PORT, Phase, SETTLE_SENDS, ip};
use super::nodes::{self, Ended};
use super::pairs;
use super::ports::{Ports, Watcher};
use super::transactions::Members;
use crate::oracle::court::Court;
use crate::oracle::reign::{Ledger, Open, Reign};
use crate::plan::{MachinePlan, PairPlan, Plan, Role};
use crate::trace;
use crate::world::{Boot, Program};
use hotfire::broker::replication::Role as BrokerRole;
use hotfire::broker::{Error, Parts};
use hotfire::remoting::{Client, ClientOptions};
use hotfire::rt::rng::Rng;
use hotfire::rt::sync::Mutex;
use hotfire::rt::task::TaskGroup;
use hotfire::rt::time::{Clock, Duration};
use hotfire::store::Replicate;
use producer::Producer;
use std::sync::Arc;

/// A master that was replaced has heard of it by then: its largest interval, and the questions.
/// Units: microseconds.
const HEARD_US: u64 = 25_000_000;

/// What operators have told the broker of a machine.
#[derive(Clone, Copy, Debug)]
struct Card {
    is_master: bool,
}

/// What operators know.
struct Desk {
    cards: Vec<Card>,
    /// Who is to write.
    master: usize,
    /// Messages that may still be sent while disturbed.
    budget: u64,
    /// Sends that were acked after the heal.
    settled: u64,
    /// Sends that nobody has answered yet.
    open: u64,
}

struct Shared {
    /// What this has in common with any cluster: plan, court, phases, options.
    cluster: ClusterHouse,
    desk: Mutex<Desk>,
    /// Taken after `desk` when both are.
    ledger: Mutex<Ledger>,
}

#[derive(Clone)]
pub struct ReignHouse(Arc<Shared>);

impl ReignHouse {
    pub fn new(plan: &Plan) -> Self {
        let is_master = |m: &MachinePlan| m.role == Role::Broker;
        let cards = plan.machines.iter().map(|m| Card { is_master: is_master(m) }).collect();
        let master = plan.machines.iter().position(is_master).unwrap_or_default();
        let desk = Desk { cards, master, budget: plan.load.messages, settled: 0, open: 0 };
        ReignHouse(Arc::new(Shared {
            cluster: ClusterHouse::new(plan),
            desk: Mutex::new(desk),
            ledger: Mutex::default(),
        }))
    }

    pub fn court(&self) -> &Court {
        self.0.cluster.court()
    }

    fn plan(&self) -> &Plan {
        &self.0.cluster.0.plan
    }

    /// The machines of the one name.
    fn brokers(&self) -> Vec<usize> {
        let machines = &self.plan().machines;
        (0..machines.len()).filter(|n| machines[*n].pair.is_some()).collect()
    }

    pub fn program(&self, machine: &MachinePlan) -> Program {
        let (house, role) = (self.clone(), machine.role);
        Arc::new(move |boot| {
            let house = house.clone();
            match role {
                Role::NameServer => Box::pin(nodes::name_server(house.0.cluster.clone(), boot)),
                Role::Client => Box::pin(house.run_producers(boot)),
                _ => Box::pin(house.run_broker(boot)),
            }
        })
    }

    async fn run_broker(self, boot: Boot) {
        let cluster = self.0.cluster.clone();
        let Some(mut parts) = nodes::parts(&cluster, &boot).await else { return };
        let machine = boot.machine;
        let is_master = self.0.desk.lock().cards[machine].is_master;
        self.suit(machine, is_master, &mut parts);
        let process = (machine, boot.generation);
        let watcher = Box::new(self.clone());
        let net = Arc::new(Ports::new(boot.net.clone(), process, is_master, watcher));
        let is_fenced = match nodes::start(&cluster, &boot, net, parts).await {
            Ok(broker) => {
                let ended = nodes::live(cluster, boot, broker).await;
                if ended != Ended::Poisoned {
                    self.0.ledger.lock().in_order.insert(machine, process.1);
                }
                ended == Ended::Fenced
            }
            Err(error) => matches!(error, Error::Fenced { .. }),
        };
        if is_fenced {
            self.on_fenced(machine);
        }
    }

    /// The part that operators gave it.
    fn suit(&self, machine: usize, is_master: bool, parts: &mut Parts) {
        let Some(pair) = &self.plan().machines[machine].pair else { return };
        let (told, master) = (&mut parts.broker.replication, self.0.desk.lock().master);
        if !told.allowed.is_empty() {
            told.allowed = self.brokers().into_iter().map(ip).collect();
        }
        let mut dice = Rng::from_seed(self.plan().machines[machine].swarm ^ 0x0004_e165);
        let timeout = Duration::from_millis(dice.between(100, 3_000));
        told.role = match (is_master, pair.is_sync_master) {
            (false, _) => BrokerRole::Slave,
            (true, true) => BrokerRole::SyncMaster,
            (true, false) => BrokerRole::AsyncMaster,
        };
        // Of two slaves one is not told again when the other takes over.
        let is_told = !is_master && self.is_told(pair) && master != machine;
        told.master = is_told.then(|| format!("{}:{HA_PORT}", ip(master)));
        let waits = told.role == BrokerRole::SyncMaster;
        parts.store.replicate = waits.then_some(Replicate { timeout, fall_behind_max: 256 << 20 });
        if dice.chance(0.3) {
            // Much of the log is not on disk for long, as with 4.9's own values.
            let flush_ms = dice.between(1_000, 5_000);
            parts.store.flush_interval = Duration::from_millis(flush_ms);
            parts.store.flush_thorough_interval = Duration::from_millis(flush_ms * 2);
        }
        // A log that begins late has not all that was acked.
        told.stream.starts_at_last_file = false;
        // All that is cut off is kept.
        parts.store.cut_size_max_bytes = 1 << 30;
        // A master has number 0 whoever it is; the first one gets another when it is none.
        let own = if pair.id == 0 { self.brokers().len() as i64 } else { pair.id as i64 };
        parts.broker.id = if is_master { 0 } else { own };
    }

    /// Its operators tell a slave where its master is.
    fn is_told(&self, pair: &PairPlan) -> bool {
        pair.knows_master && self.brokers().len() == 2
    }

    async fn run_producers(self, mut boot: Boot) {
        let group = TaskGroup::new();
        let members = Members::start(&self.0.cluster, &boot, &group, self.brokers());
        for n in 0..self.plan().load.producers {
            let machine = &self.plan().machines[boot.machine];
            let mut dice = Rng::from_seed(machine.swarm ^ (boot.generation << 20) ^ n);
            let options = ClientOptions::swarm(&mut dice);
            let client = Client::new(&boot.net, &boot.clock, &group, options, None);
            let (house, clock, members) = (self.clone(), boot.clock.clone(), members.clone());
            group.spawn(Producer { house, client, clock, members, n }.run(dice));
        }
        boot.stop.until(|stop| *stop).await;
        group.stop();
    }

    /// Sends go through, everybody has the master's log, and only one writes.
    pub async fn settle(&self, budget: Duration) -> Result<(), String> {
        madsim::time::sleep(Duration::from_micros(HEARD_US)).await;
        self.appoint().await;
        self.0.cluster.enter_phase(Phase::Settle);
        let wanted = self.plan().load.producers * SETTLE_SENDS;
        self.within(budget, || self.0.desk.lock().settled >= wanted).await.map_err(|()| {
            let settled = self.0.desk.lock().settled;
            format!("after the heal {settled} of {wanted} sends are acked")
        })?;
        self.0.cluster.enter_phase(Phase::Quiet);
        {
            let mut desk = self.0.desk.lock();
            let master = desk.master;
            desk.cards.iter_mut().enumerate().for_each(|(n, card)| card.is_master = n == master);
        }
        let is_quiet = || self.0.desk.lock().open == 0;
        self.within(budget, is_quiet).await.map_err(|()| "a send has no end".to_owned())?;
        self.delivered(budget).await?;
        self.alike(budget).await
    }

    /// What was delayed has come, and transactions have ended, also those of a master that is none
    /// any more.
    async fn delivered(&self, budget: Duration) -> Result<(), String> {
        let (clock, court) = (Clock::new(), self.court());
        let deadline = clock.mono() + budget;
        let master = self.0.desk.lock().master;
        while let Err(what) = court.has_delivered(master) {
            if court.world().violation().is_some() {
                return Ok(());
            }
            if clock.mono() >= deadline {
                return Err(format!("at machine {master}, which is master: {what}"));
            }
            madsim::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Every log ends where the master's does. Errors: one does not in time.
    async fn alike(&self, budget: Duration) -> Result<(), String> {
        let (clock, court) = (Clock::new(), self.court());
        let deadline = clock.mono() + budget;
        loop {
            let master = self.0.desk.lock().master;
            let want = court.log_end(master);
            let behind = self.brokers().into_iter().find(|n| court.log_end(*n) != want);
            let Some(behind) = behind else { return Ok(()) };
            if court.world().violation().is_some() {
                return Ok(());
            }
            if clock.mono() >= deadline {
                let end = court.log_end(behind);
                return Err(format!(
                    "machine {behind} ends at {end}, its master {master} at {want}"
                ));
            }
            madsim::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// After a start without derived files and without Hotfire's own.
    pub async fn reread(&self, budget: Duration) -> Result<(), String> {
        let world = self.court().world();
        let is_open = |n: &usize| {
            let open = self.0.ledger.lock().open.get(n).copied();
            open.is_some_and(|open| open.generation == world.generation(*n))
        };
        let all = self.brokers();
        self.within(budget, || all.iter().all(is_open))
            .await
            .map_err(|()| "a broker without its derived files does not listen".to_owned())?;
        self.alike(budget).await
    }

    async fn within(&self, budget: Duration, holds: impl Fn() -> bool) -> Result<(), ()> {
        let clock = Clock::new();
        let deadline = clock.mono() + budget;
        clock.before(deadline, self.court().until(holds)).await.ok_or(())
    }

    /// Once everybody has stopped.
    pub fn check_end(&self) {
        let master = self.0.desk.lock().master;
        let mut others = self.brokers();
        others.retain(|n| *n != master);
        self.court().check_reigns(&mut self.0.ledger.lock(), master, &others);
    }
}

impl Watcher for ReignHouse {
    fn on_ready(&self, ports: &Ports) {
        self.court().on_open(ports.machine, ports.generation);
        if ports.is_master {
            let reign = Reign {
                machine: ports.machine,
                generation: ports.generation,
                since_us: trace::now_us(),
            };
            let mut others = self.brokers();
            let wait = pairs::catch_up_wait(&self.0.cluster, ports.machine);
            let mut ledger = self.0.ledger.lock();
            let process = (ports.machine, ports.generation);
            let start = ledger.start(process, ports.started_us, wait.as_micros() as u64);
            let is_slave = |n: &usize| ledger.open.get(n).is_some_and(|open| !open.is_master);
            others.retain(|n| *n != ports.machine && is_slave(n));
            self.court().on_reign(&mut ledger, reign, start, &others);
        }
    }

    fn on_listening(&self, ports: &Ports) {
        let (generation, is_master) = (ports.generation, ports.is_master);
        let (started_us, since_us) = (ports.started_us, trace::now_us());
        let open = Open { generation, started_us, since_us, is_master };
        let mut ledger = self.0.ledger.lock();
        ledger.open.insert(ports.machine, open);
        if !is_master {
            ledger.slave_us.entry(ports.machine).or_default().push(since_us);
        }
        drop(ledger);
        self.court().moved();
    }
}
