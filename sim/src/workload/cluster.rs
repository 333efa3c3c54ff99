//! Name servers, brokers and clients: what they share, and how a run settles.

use super::filters::{self, Filters};
use super::pairs::{self, PairTerms};
use super::transactions;
use crate::history::{Fate, Id, Place, Reading};
use crate::oracle::calls::Calls;
use crate::oracle::court::Court;
use crate::plan::{MachinePlan, Plan, Role};
use crate::scenario::{FaultKind, Oracle};
use crate::world::{Program, World};
use hotfire::broker::options::TransactionOptions;
use hotfire::rt::sync::Mutex;
use hotfire::rt::time::{Clock, Duration};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

pub const NAME_SERVER_PORT: u16 = 9876;
pub const BROKER_PORT: u16 = 10911;
pub const HA_PORT: u16 = 10912;

/// Sends per producer that must be acked after the heal.
pub const SETTLE_SENDS: u64 = 2;
/// Sends per producer whose delivery is timed.
pub const PROMPT_SENDS: u64 = 4;
/// Once everything has settled, a message is delivered to a waiting pull within this.
pub const PROMPT: Duration = Duration::from_millis(2_000);

/// A broker has registered again this long after the heal: its largest interval, and the request.
const REGISTERED: Duration = Duration::from_millis(11_000);

/// How often it is looked whether slaves have caught up.
const LOOK: Duration = Duration::from_millis(100);

/// How long writing consumer offsets may take beyond its interval.
const OFFSETS_SLACK: Duration = Duration::from_millis(1_500);

/// How the load behaves now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Paced over the whole disturbance.
    Disturb,
    /// Everybody sends a few more, which must all be acked.
    Settle,
    /// And a few whose delivery is timed.
    Prompt,
    /// Nobody sends.
    Quiet,
}

/// The ends of queues, by topic and queue.
pub type Ends = BTreeMap<(String, u32), u64>;

/// What a run counts while it settles.
#[derive(Default)]
pub struct Progress {
    /// Messages that may still be sent while disturbed.
    pub budget: u64,
    pub settled: u64,
    /// Timed sends that every reader got in time.
    pub prompt: u64,
    /// Readers begin anew when this moves.
    pub reread: u64,
    /// Where each reader is.
    pub read_to: BTreeMap<Reading, u64>,
    /// Readers that got an answer in the present phase.
    pub answered: BTreeMap<Reading, Phase>,
    /// Per broker: the ends of its queues each time that it recovered.
    pub recoveries: BTreeMap<usize, Vec<Ends>>,
    /// Per broker: how it asks for transactions.
    pub check_terms: BTreeMap<usize, TransactionOptions>,
    /// Per broker: how often it writes consumer offsets.
    pub save_interval: BTreeMap<usize, Duration>,
    /// Per broker: when a queue without progress is stuck.
    pub stuck_after: BTreeMap<usize, Duration>,
    /// Per broker: how it replicates.
    pub pairs: BTreeMap<usize, PairTerms>,
    /// What a slave keeps beside the log was once that of its master, when all was quiet.
    pub audited: BTreeSet<usize>,
    /// Per broker: how long a lock lasts.
    pub lock_lifetime: BTreeMap<usize, Duration>,
}

impl Progress {
    /// How often a broker recovered.
    pub fn recoveries(&self, broker: usize) -> usize {
        self.recoveries.get(&broker).map_or(0, Vec::len)
    }

    /// The lowest end that a queue had when its broker recovered, but for the first `seen` times:
    /// what a later one found behind it may be new, like a delayed message delivered in between.
    pub fn lowest_end(&self, reading: &Reading, seen: usize) -> Option<u64> {
        let key = (reading.2.clone(), reading.3);
        let recoveries = self.recoveries.get(&reading.1)?.get(seen..)?;
        recoveries.iter().map(|ends| ends.get(&key).copied().unwrap_or(0)).min()
    }

    /// The queue's end when its broker last recovered; `None` when it had no message then.
    pub fn recovered_end(&self, reading: &Reading) -> Option<u64> {
        let last = self.recoveries.get(&reading.1)?.last()?;
        last.get(&(reading.2.clone(), reading.3)).copied()
    }
}

pub struct Shared {
    pub court: Court,
    pub plan: Plan,
    pub phase: Mutex<Phase>,
    pub progress: Mutex<Progress>,
    /// Taken after `progress` when both are.
    pub filters: Mutex<Filters>,
    pub calls: Mutex<Calls>,
}

#[derive(Clone)]
pub struct ClusterHouse(pub Arc<Shared>);

/// The address of a machine follows from its number.
pub fn ip(machine: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, machine as u8 + 1))
}

pub fn topic_name(n: u64) -> String {
    format!("topic-{n}")
}

impl ClusterHouse {
    pub fn new(plan: &Plan) -> Self {
        let progress = Progress { budget: plan.load.messages, ..Progress::default() };
        ClusterHouse(Arc::new(Shared {
            court: Court::new(plan),
            plan: plan.clone(),
            phase: Mutex::new(Phase::Disturb),
            progress: Mutex::new(progress),
            filters: Mutex::default(),
            calls: Mutex::default(),
        }))
    }

    pub fn court(&self) -> &Court {
        &self.0.court
    }

    pub fn world(&self) -> &World {
        self.0.court.world()
    }

    pub fn program(&self, machine: &MachinePlan) -> Program {
        let (house, role) = (self.clone(), machine.role);
        Arc::new(move |boot| {
            let house = house.clone();
            match role {
                Role::NameServer => Box::pin(super::nodes::name_server(house, boot)),
                Role::Broker | Role::Slave | Role::Store => {
                    Box::pin(super::nodes::broker(house, boot))
                }
                Role::Client => Box::pin(super::client::run(house, boot)),
            }
        })
    }

    pub fn machines(&self, role: Role) -> Vec<usize> {
        let machines = &self.0.plan.machines;
        (0..machines.len()).filter(|n| machines[*n].role == role).collect()
    }

    /// A slave has its master's name.
    pub fn broker_name(&self, machine: usize) -> String {
        let machines = &self.0.plan.machines;
        let named = machines[machine].pair.as_ref().map_or(machine, |pair| pair.master);
        machines[named].name.clone()
    }

    /// The machine whose broker has this name; of a pair, the master's.
    pub fn broker_machine(&self, name: &str) -> Option<usize> {
        self.0.plan.machines.iter().position(|m| m.name == name)
    }

    /// Whether this broker's state files can always be written: then offsets must be kept.
    pub fn keeps_offsets(&self, broker: usize) -> bool {
        let plan = &self.0.plan;
        let disk_trouble = plan
            .faults
            .iter()
            .any(|f| f.target == broker && f.kind != FaultKind::Stall && f.kind.is_disk_trouble());
        // Where the log's tail may be lost, so may the end that an offset points to.
        let tail_lost = !plan.machines[broker].sync_flush && self.world().power_losses(broker) > 0;
        plan.oracles.contains(&Oracle::OffsetsKept) && !disk_trouble && !tail_lost
    }

    /// A commit this near before a crash may be forgotten. Units: microseconds.
    pub fn offsets_near_us(&self, broker: usize) -> u64 {
        let progress = self.0.progress.lock();
        let interval = progress.save_interval.get(&broker).copied().unwrap_or_default();
        (interval + OFFSETS_SLACK).as_micros() as u64
    }

    pub fn name_servers(&self) -> Vec<String> {
        let addr = |n: usize| format!("{}:{NAME_SERVER_PORT}", ip(n));
        self.machines(Role::NameServer).into_iter().map(addr).collect()
    }

    pub fn phase(&self) -> Phase {
        *self.0.phase.lock()
    }

    pub fn enter_phase(&self, phase: Phase) {
        *self.0.phase.lock() = phase;
        crate::trace::tell("world", format_args!("phase {phase:?}"));
        self.0.court.moved();
    }

    fn producers(&self) -> u64 {
        self.machines(Role::Client).len() as u64 * self.0.plan.load.producers
    }

    /// Sends go through and everybody has read everything; then delivery is prompt.
    /// Errors: what did not come in time.
    pub async fn settle(&self, budget: Duration) -> Result<(), String> {
        // A name server that lost its table knows a broker again when that one registers anew;
        // until then a client that asks it may forget the broker.
        madsim::time::sleep(REGISTERED).await;
        self.enter_phase(Phase::Settle);
        let sends = self.producers() * SETTLE_SENDS;
        let done = || {
            self.0.progress.lock().settled >= sends
                && self.all_read()
                && self.all_answered(Phase::Settle)
        };
        self.within(budget, done).await.map_err(|()| {
            let settled = self.0.progress.lock().settled;
            format!("after the heal {settled} of {sends} sends are acked{}", self.behind())
        })?;
        self.caught_up(budget).await?;
        self.enter_phase(Phase::Prompt);
        let sends = self.producers() * PROMPT_SENDS;
        let done = || self.0.progress.lock().prompt >= sends && self.all_read();
        self.within(budget, done).await.map_err(|()| {
            let prompt = self.0.progress.lock().prompt;
            format!("settled, and then {prompt} of {sends} sends are delivered{}", self.behind())
        })?;
        self.enter_phase(Phase::Quiet);
        self.caught_up(budget).await?;
        let slaves = self.machines(Role::Slave);
        let done = || self.0.progress.lock().audited.len() == slaves.len();
        self.within(budget, done).await.map_err(|()| {
            let audited = self.0.progress.lock().audited.clone();
            let slow = slaves.iter().find(|slave| !audited.contains(slave));
            format!("what machine {slow:?} keeps beside the log is not that of its master")
        })?;
        if self.0.plan.load.transactional > 0.0 {
            // Of what nobody knows to be stored, all is asked for until then.
            madsim::time::sleep(transactions::ENDED).await;
        }
        Ok(())
    }

    /// Every slave has the whole log of its master.
    async fn caught_up(&self, budget: Duration) -> Result<(), String> {
        let clock = Clock::new();
        let deadline = clock.mono() + budget;
        loop {
            let behind = self.court().slave_behind();
            if behind.is_none() || self.world().violation().is_some() {
                return Ok(());
            }
            if clock.mono() >= deadline {
                let (slave, end, want) = behind.unwrap_or_default();
                return Err(format!("slave {slave} ends at {end}, its master at {want}"));
            }
            madsim::time::sleep(LOOK).await;
        }
    }

    /// A master is gone for good: its slaves serve all that it said they have.
    pub async fn settle_without(&self, budget: Duration) -> Result<(), String> {
        madsim::time::sleep(REGISTERED).await;
        self.enter_phase(Phase::Quiet);
        self.within(budget, || self.all_read()).await.map_err(|()| {
            format!("without their master the slaves do not serve all{}", self.behind())
        })
    }

    /// After a restart without derived files everything can be read again.
    pub async fn reread(&self, budget: Duration) -> Result<(), String> {
        {
            let mut progress = self.0.progress.lock();
            progress.read_to.clear();
            progress.reread += 1;
            self.0.filters.lock().forget_given();
        }
        self.court().history(|history| {
            history.delivered.clear();
            history.discarded.clear();
        });
        self.within(budget, || self.all_read()).await.map_err(|()| {
            format!("brokers without derived files: not all is read{}", self.behind())
        })
    }

    async fn within(&self, budget: Duration, holds: impl Fn() -> bool) -> Result<(), ()> {
        let clock = Clock::new();
        let deadline = clock.mono() + budget;
        clock.before(deadline, self.0.court.until(holds)).await.ok_or(())
    }

    /// What the first reader behind lacks.
    fn behind(&self) -> String {
        match self.first_unread() {
            Some((client, id)) => format!(", client {client} has not read message {id}"),
            None => match self.first_unanswered() {
                Some((client, broker, topic, queue)) => format!(
                    ", all is read, but client {client} got no answer for {topic}/{queue} from \
                     machine {broker}"
                ),
                None => ", all is read".to_owned(),
            },
        }
    }

    fn first_unread(&self) -> Option<(usize, u64)> {
        let clients = self.machines(Role::Client);
        let progress = self.0.progress.lock();
        self.0.court.history(|history| {
            for (id, sent) in history.sent.iter().enumerate() {
                let Fate::Acked { place, .. } = sent.fate else { continue };
                for client in &clients {
                    if let Some(transaction) = history.transactions.get(&(id as u64)) {
                        if !transactions::has_ended(transaction, history, *client, id as u64) {
                            return Some((*client, id as u64));
                        }
                        continue;
                    }
                    if sent.fails > 0 && !history.ended.contains(&(*client, id as u64)) {
                        return Some((*client, id as u64));
                    }
                    if sent.is_timed && self.court().delays(place.machine).clock_steps {
                        // Its time may be minutes away.
                        continue;
                    }
                    if sent.level > 0 || sent.is_timed {
                        if !history.delivered.contains(&(*client, id as u64)) {
                            return Some((*client, id as u64));
                        }
                        continue;
                    }
                    let key = (*client, place.machine, sent.topic.clone(), place.queue);
                    let is_lost = self.0.plan.lost_master == Some(place.machine);
                    if !is_lost && !self.has_read(&progress, &key, id as Id, place) {
                        return Some((*client, id as u64));
                    }
                }
                if !pairs::slaves_read(self, &progress, sent, place) {
                    return Some((place.machine, id as u64));
                }
            }
            None
        })
    }

    /// Whether a reader was given a message; one that its selector does not select is none.
    pub fn has_read(&self, progress: &Progress, key: &Reading, id: Id, place: Place) -> bool {
        let (plan, at) = (&self.0.plan, place.queue_offset);
        if plan.load.filters {
            let turn = filters::turn(plan, key.0);
            return self.0.filters.lock().has(plan, key, turn, id, at);
        }
        progress.read_to.get(key).is_some_and(|to| *to > at)
    }

    pub fn all_read(&self) -> bool {
        self.first_unread().is_none()
    }

    fn all_answered(&self, phase: Phase) -> bool {
        let progress = self.0.progress.lock();
        progress.answered.values().all(|p| *p >= phase)
    }

    /// A reader without an answer since the heal.
    fn first_unanswered(&self) -> Option<Reading> {
        let progress = self.0.progress.lock();
        let mut all = progress.answered.iter();
        all.find(|(_, phase)| **phase < Phase::Settle).map(|(reading, _)| reading.clone())
    }
}
