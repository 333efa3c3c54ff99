//! One machine, one store: producers and a reader in the store's own process.

mod keys;
mod operator;
mod reader;
mod rot;

use crate::history::{self, Fate, Grade, Id, Place};
use crate::oracle::court::{Court, ROOT};
use crate::oracle::files;
use crate::oracle::retention::Terms;
use crate::plan::{Fault, Load, Plan};
use crate::scenario::FaultKind;
use crate::trace;
use crate::world::{Boot, Program};
use hotfire::model::{PhysicalOffset, QueueId, TopicName};
use hotfire::rt::rng::Rng;
use hotfire::rt::sim::mark;
use hotfire::rt::sync::{Mutex, Notify};
use hotfire::rt::task::TaskGroup;
use hotfire::rt::time::{Clock, Duration};
use hotfire::store::retention::Rules;
use hotfire::store::{
    Append, AppendError, Appended, Arrival, BatchMember, FlushMode, LogPaths, Options, Outcome,
    Rejection, Store, StoreEvents, Ticket,
};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// How the load behaves now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Paced over the whole disturbance.
    Disturb,
    /// Everybody sends a few more, which must all be acked.
    Settle,
    /// Nobody sends.
    Quiet,
}

struct Shared {
    court: Court,
    plan: Plan,
    phase: Mutex<Phase>,
    /// Messages that may still be sent while disturbed.
    budget: Mutex<u64>,
    /// Sends of the settling that were acked.
    settled: Mutex<u64>,
    /// Where each queue's reader is in this generation.
    read_to: Mutex<BTreeMap<(String, u32), u64>>,
    store: Mutex<Option<Store>>,
    gates: Mutex<operator::Gates>,
    /// Topics that may still be deleted.
    deletions: Mutex<u64>,
    /// Bits were flipped: from now on the scrub may tell of rot.
    rotted: Mutex<bool>,
    /// Where the log of each machine begins, as its disk last said.
    log_start: Mutex<BTreeMap<usize, u64>>,
}

/// The whole load of a run on one store.
#[derive(Clone)]
pub struct StoreHouse(Arc<Shared>);

/// Sends per producer that must be acked after the heal.
const SETTLE_SENDS: u64 = 3;

/// How often an append is a batch.
const BATCH_CHANCE: f64 = 0.15;

impl StoreHouse {
    pub fn new(plan: &Plan) -> Self {
        StoreHouse(Arc::new(Shared {
            court: Court::new(plan),
            plan: plan.clone(),
            phase: Mutex::new(Phase::Disturb),
            budget: Mutex::new(plan.load.messages),
            settled: Mutex::default(),
            read_to: Mutex::default(),
            store: Mutex::default(),
            gates: Mutex::default(),
            deletions: Mutex::new(plan.load.deletions),
            rotted: Mutex::default(),
            log_start: Mutex::default(),
        }))
    }

    pub fn court(&self) -> &Court {
        &self.0.court
    }

    pub fn program(&self) -> Program {
        let house = self.clone();
        Arc::new(move |boot| {
            let house = house.clone();
            Box::pin(async move { house.run(boot).await })
        })
    }

    /// The process: open, serve producers and reader, stop.
    async fn run(&self, mut boot: Boot) {
        let options = self.options(boot.machine);
        let max = options.record_size_max_bytes;
        let group = TaskGroup::new();
        let listener = Arc::new(Listener {
            house: self.clone(),
            machine: boot.machine,
            generation: boot.generation,
            waiting: Mutex::default(),
            moved: Notify::new(),
            poisoned: Mutex::new(false),
        });
        let opening =
            Store::open(boot.disk.clone(), boot.clock.clone(), &group, options, listener.clone());
        let (store, report) = match opening.await {
            Ok(opened) => opened,
            Err(e) => {
                mark("store: could not open");
                trace::tell(&boot.name, format_args!("failed to open the store: {e}"));
                return;
            }
        };
        trace::tell(
            &boot.name,
            format_args!("store open, log ends at {}, cut {} bytes", report.end, report.cut_bytes),
        );
        if report.cut_reason.is_some() {
            mark("store: recovery met a torn record");
        }
        self.0.read_to.lock().clear();
        // The court's decoder ends where a record is bad; what rot may do is judged in `rot`.
        if !*self.0.rotted.lock() {
            self.0.court.on_open(boot.machine, boot.generation);
        }
        *self.0.store.lock() = Some(store.clone());
        self.serve(&group, &boot, &store, &listener, max);
        let poisoned = listener.until_poisoned();
        hotfire::rt::select! {
            _ = boot.stop.until(|stop| *stop) => {
                *self.0.store.lock() = None;
                let closed = store.shutdown().await;
                if closed.is_ok() {
                    listener.all_answered("an orderly stop");
                }
                match closed {
                    Ok(()) => trace::tell(&boot.name, format_args!("store closed in order")),
                    Err(e) => trace::tell(&boot.name, format_args!("failed to close: {e}")),
                }
            }
            () = poisoned => trace::tell(&boot.name, format_args!("store poisoned, process ends")),
        }
        *self.0.store.lock() = None;
    }

    /// Everybody who uses the store while it is open.
    fn serve(
        &self,
        group: &TaskGroup,
        boot: &Boot,
        store: &Store,
        listener: &Arc<Listener>,
        max: usize,
    ) {
        let machine = &self.0.plan.machines[boot.machine];
        let load = &self.0.plan.load;
        for n in 0..load.producers {
            let seed = machine.swarm ^ (boot.generation << 32) ^ (n << 8);
            let producer = Producer {
                house: self.clone(),
                store: store.clone(),
                listener: listener.clone(),
                clock: boot.clock.clone(),
                dice: Rng::from_seed(seed),
                max,
            };
            group.spawn(producer.run());
        }
        let shared = || (self.clone(), store.clone(), listener.clone(), boot.clock.clone());
        group.spawn(reader::read_all(shared()));
        group.spawn(keys::query_all(shared()));
        if load.deletions > 0 {
            let seed = machine.swarm ^ (boot.generation << 32) ^ 0xde1e7e;
            group.spawn(operator::run(shared(), Rng::from_seed(seed)));
        }
    }

    fn options(&self, machine: usize) -> Options {
        let plan = &self.0.plan.machines[machine];
        let mut options = Options::swarm(ROOT, &mut Rng::from_seed(plan.swarm));
        options.flush = if plan.sync_flush { FlushMode::Sync } else { FlushMode::Async };
        self.under_retention(machine, &mut options);
        let shape = (options.index_slots, options.index_entries);
        self.0.court.on_index_shape(machine, shape);
        options
    }

    /// Small files that do not live long. The same at every start of a machine.
    fn under_retention(&self, machine: usize, options: &mut Options) {
        let plan = &self.0.plan;
        if !plan.retention {
            return;
        }
        let mut dice = Rng::from_seed(plan.machines[machine].swarm ^ 0x5e7e_4710);
        // The oracle looks at one directory.
        options.commit_log = LogPaths::one(&format!("{ROOT}/commitlog"));
        options.segment_size_bytes = 512 * dice.between(16, 64);
        options.record_size_max_bytes = options.segment_size_bytes as usize - 8;
        options.queue_file_entries = dice.between(4, 60);
        let mut rules = Rules::swarm(&mut dice);
        if dice.chance(0.4) {
            rules.log_bytes_max = options.segment_size_bytes * dice.between(2, 6);
        }
        options.retention = rules.clone();
        let of_machine = |fault: &&Fault| fault.target == machine;
        let steps = plan.faults.iter().filter(of_machine).filter_map(|fault| {
            let step = (fault.at_ms * 1000, fault.amount);
            (fault.kind == FaultKind::ClockStep).then_some(step)
        });
        let ends = plan.faults.iter().filter(of_machine).filter_map(|fault| {
            let at_ms = fault.at_ms + fault.for_ms;
            (fault.kind == FaultKind::NoSpace).then_some(at_ms * 1000)
        });
        let segment_size = options.segment_size_bytes;
        let heal =
            plan.disturb_ms.max(plan.faults.iter().map(|f| f.at_ms + f.for_ms).max().unwrap_or(0));
        let relieved_us = ends.chain([heal * 1000]).collect();
        let mut steps: Vec<_> = steps.collect();
        steps.sort_unstable();
        let opened_us = Vec::new();
        let terms = Terms { rules, segment_size, steps, opened_us, relieved_us };
        self.0.court.on_terms(machine, terms);
    }

    /// What is too old or too much goes, even when nobody writes.
    async fn old_files_go(&self) -> Result<(), String> {
        let Some(terms) = self.0.court.terms(0) else { return Ok(()) };
        let disk = &self.0.court.world().machines()[0].disk;
        let dir = format!("{ROOT}/commitlog");
        let is_log = |path: &&String| files::log_base(path, &dir).is_some();
        let count = || disk.files().iter().filter(is_log).count() as u64;
        let (clock, queues) = (Clock::new(), self.0.plan.load.topics * self.0.plan.load.queues);
        let pace = terms.time_for(count(), queues);
        let wait = terms.rules.keep_for + pace + Duration::from_secs(40);
        clock.sleep_until(clock.mono() + wait).await;
        self.0.court.judge_removed(0);
        let files = count();
        let size = files.saturating_sub(1) * terms.segment_size;
        let max = terms.rules.log_bytes_max;
        if files > 3 && max > 0 && size > max {
            return Err(format!("the log has {size} bytes and more, at most {max} are wanted"));
        }
        let by_age = !terms.rules.delete_hours.is_empty() && terms.steps.is_empty();
        if files > 3 && by_age {
            return Err(format!("{files} files of the log are there, all but the newest are old"));
        }
        Ok(())
    }

    fn take_deletion(&self) -> bool {
        let mut left = self.0.deletions.lock();
        let may = *left > 0;
        *left = left.saturating_sub(1);
        may
    }

    fn set_phase(&self, phase: Phase) {
        *self.0.phase.lock() = phase;
        self.0.court.moved();
    }

    /// Everybody sends a few more and reads to the end.
    /// Errors: what did not come in time.
    pub async fn settle(&self, budget: Duration) -> Result<(), String> {
        let producers = self.0.plan.load.producers;
        self.set_phase(Phase::Settle);
        let done = || *self.0.settled.lock() >= producers * SETTLE_SENDS && self.all_read();
        let clock = Clock::new();
        let deadline = clock.mono() + budget;
        let in_time = clock.before(deadline, self.0.court.until(done)).await.is_some();
        self.set_phase(Phase::Quiet);
        if in_time {
            self.find_all(&clock, deadline).await?;
            return if self.0.plan.retention { self.old_files_go().await } else { Ok(()) };
        }
        let (settled, all) = (*self.0.settled.lock(), producers * SETTLE_SENDS);
        Err(format!(
            "{} ms after the heal {settled} of {all} sends are acked, reading is {}",
            budget.as_millis(),
            self.unread().map_or("at the end".into(), |what| format!("behind: {what}")),
        ))
    }

    /// A process that only reads has read everything.
    pub async fn reread(&self, budget: Duration) -> Result<(), String> {
        let clock = Clock::new();
        let deadline = clock.mono() + budget;
        let done = || self.0.store.lock().is_some() && self.all_read();
        match clock.before(deadline, self.0.court.until(done)).await {
            Some(()) => self.find_all(&clock, deadline).await,
            None => Err("a store without derived files is not read to its end".into()),
        }
    }

    /// Every queue was read to the end that the log's acked messages give it.
    fn all_read(&self) -> bool {
        self.unread().is_none()
    }

    /// The first acked message that its queue's reader has not come to.
    fn unread(&self) -> Option<String> {
        let (read_to, log_start) = (self.0.read_to.lock(), self.0.log_start.lock());
        self.0.court.history(|history| {
            history.sent.iter().filter(|sent| !sent.is_gone).find_map(|sent| {
                let Fate::Acked { place, .. } = sent.fate else { return None };
                let start = log_start.get(&place.machine).copied().unwrap_or(0);
                let key = (sent.topic.clone(), place.queue);
                let to = read_to.get(&key).copied().unwrap_or(0);
                (place.physical >= start && to <= place.queue_offset).then(|| {
                    let (topic, queue) = key;
                    format!("{topic}/{queue} to {to}, {} is acked", place.queue_offset)
                })
            })
        })
    }
}

/// An append that was accepted: all its messages share one outcome.
struct Waiting {
    members: Vec<(Id, Place)>,
    grade: Grade,
    settling: bool,
}

/// Hears what became of appends.
struct Listener {
    house: StoreHouse,
    machine: usize,
    generation: u64,
    /// Accepted, without an outcome yet, by ticket.
    waiting: Mutex<BTreeMap<Id, Waiting>>,
    moved: Notify,
    poisoned: Mutex<bool>,
}

impl StoreEvents for Listener {
    fn on_outcomes(&self, outcomes: &mut Vec<(Ticket, Outcome)>) {
        let power_losses = self.house.0.court.world().power_losses(self.machine);
        for (Ticket(id), outcome) in outcomes.drain(..) {
            let known = self.waiting.lock().remove(&id);
            let Some(Waiting { members, grade, settling }) = known else {
                let what = format!("an outcome {outcome:?} for {id}, which waits for none");
                self.house.0.court.world().violate("outcomes", what);
                continue;
            };
            if outcome == Outcome::Durable {
                self.house.0.court.world().note_ack(self.machine);
            }
            for (id, place) in members {
                self.told(id, outcome, place, grade, power_losses);
            }
            if settling && matches!(outcome, Outcome::Durable | Outcome::FlushTimeout) {
                *self.house.0.settled.lock() += 1;
            }
        }
        self.moved.notify_waiters();
        self.house.0.court.moved();
    }

    fn on_arrivals(&self, _: &[Arrival]) {
        self.moved.notify_waiters();
    }

    fn on_poison(&self, reason: &str) {
        mark("store: poisoned");
        trace::event(
            &self.house.0.plan.machines[self.machine].name,
            format_args!("poisoned: {reason}"),
        );
        self.all_answered("the poison");
        *self.poisoned.lock() = true;
        self.moved.notify_waiters();
    }
}

impl Listener {
    fn told(&self, id: Id, outcome: Outcome, place: Place, grade: Grade, power_losses: u64) {
        let fate = match outcome {
            Outcome::Durable => {
                Fate::Acked { grade, place, power_losses, generation: self.generation }
            }
            Outcome::Rejected(
                Rejection::NoSpace | Rejection::SegmentLate | Rejection::Stalled { .. },
            ) => Fate::Refused,
            // No store here is that of a SYNC_MASTER.
            Outcome::NoSlave | Outcome::SlaveTimeout => Fate::Unknown,
            Outcome::FlushTimeout | Outcome::Rejected(Rejection::Poisoned) => Fate::Unknown,
        };
        trace::event(
            &self.house.0.plan.machines[self.machine].name,
            format_args!("message {id} at {}: {outcome:?}", place.physical),
        );
        let told = self.house.0.court.history(|h| h.on_fate(id, fate));
        self.house.0.court.check("outcomes", told);
    }

    /// Of all accepted appends one outcome each has come by now.
    fn all_answered(&self, when: &str) {
        let waiting = self.waiting.lock();
        if let Some(id) = waiting.keys().next() {
            let what =
                format!("{} appends have no outcome after {when}, first {id}", waiting.len());
            self.house.0.court.world().violate("outcomes", what);
        }
    }

    /// No append to the topic waits for its outcome.
    async fn until_answered(&self, topic: &str) {
        loop {
            let moved = self.moved.notified();
            let mut moved = std::pin::pin!(moved);
            moved.as_mut().enable();
            let waits = self.house.0.court.history(|history| {
                let of_topic = |id: &Id| history.sent[*id as usize].topic == topic;
                self.waiting.lock().keys().any(of_topic)
            });
            if !waits {
                return;
            }
            moved.await;
        }
    }

    async fn until_poisoned(&self) {
        loop {
            let moved = self.moved.notified();
            let mut moved = std::pin::pin!(moved);
            moved.as_mut().enable();
            if *self.poisoned.lock() {
                return;
            }
            moved.await;
        }
    }
}

pub fn topic_name(n: u64) -> String {
    format!("topic-{n}")
}

struct Producer {
    house: StoreHouse,
    store: Store,
    listener: Arc<Listener>,
    clock: Clock,
    dice: Rng,
    /// The largest record.
    max: usize,
}

impl Producer {
    async fn run(mut self) {
        let load = self.house.0.plan.load.clone();
        let pace_us = self.house.0.plan.disturb_ms * 1000 * load.producers / load.messages.max(1);
        loop {
            let phase = *self.house.0.phase.lock();
            let gap_us = match phase {
                Phase::Disturb => {
                    let mut budget = self.house.0.budget.lock();
                    if *budget > 0 {
                        *budget -= 1;
                        drop(budget);
                        self.send(&load, false);
                    }
                    // Bursts now and then: batches must get their chance.
                    if self.dice.chance(0.4) { 0 } else { self.dice.below(pace_us * 3 + 1) }
                }
                // What is refused or comes too late is sent again, as a producer does.
                Phase::Settle if *self.house.0.settled.lock() < load.producers * SETTLE_SENDS => {
                    self.send(&load, true);
                    200_000
                }
                Phase::Settle | Phase::Quiet => 1_000_000,
            };
            self.wait_for_window(&load).await;
            if gap_us > 0 {
                let until = self.clock.mono() + Duration::from_micros(gap_us);
                // A phase that changes cuts the pause short.
                let moved = async {
                    while *self.house.0.phase.lock() == phase {
                        self.house.0.court.next_move().await;
                    }
                };
                self.clock.before(until, moved).await;
            }
        }
    }

    /// Appends a message, or now and then a batch; true when it was accepted.
    fn send(&mut self, load: &Load, settling: bool) -> bool {
        let topic = topic_name(self.dice.below(load.topics));
        let queue = self.dice.below(load.queues) as u32;
        if self.house.0.gates.lock().is_closed(&topic) {
            return false;
        }
        let batch = !settling && self.dice.chance(BATCH_CHANCE);
        let count = if batch { self.dice.between(1, 6) } else { 1 };
        // The batch must fit where one record does.
        let room = (self.max / count as usize).saturating_sub(300 + load.padding_max as usize);
        let (from, to) = load.body_bytes;
        let court = &self.house.0.court;
        let members: Vec<(Id, Vec<u8>, Vec<u8>)> = (0..count)
            .map(|_| {
                let size = (self.dice.between(from, to) as usize).min(room);
                court.history(|h| {
                    let id = h.on_send(&topic, Some(queue), size);
                    let properties = history::properties(id, load.padding_max);
                    h.sent[id as usize].properties = Some(properties.clone());
                    (id, history::body(id, size), properties)
                })
            })
            .collect();
        let ids: Vec<Id> = members.iter().map(|member| member.0).collect();
        let wait = settling || !self.dice.chance(load.no_wait);
        let host: SocketAddr = ([10, 0, 0, 1], 10911).into();
        let name = TopicName::new(&topic);
        let append = Append {
            topic: &name,
            queue: QueueId(queue),
            flag: 0,
            sys_flag: 0,
            born_timestamp: self.clock.wall(),
            born_host: host,
            store_host: host,
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body: &members[0].1,
            properties: &members[0].2,
            tags_code: None,
            wait,
            ticket: Ticket(ids[0]),
        };
        let mut places = Vec::new();
        let taken = if batch {
            let member = |member| {
                let (_, body, properties): &(Id, Vec<u8>, Vec<u8>) = member;
                BatchMember { flag: 0, body, properties, tags_code: None }
            };
            let members: Vec<BatchMember<'_>> = members.iter().map(member).collect();
            self.store.append_batch(&append, &members, &mut places)
        } else {
            self.store.append(&append).inspect(|at| places.push(at.physical))
        };
        match taken {
            Ok(at) => {
                let sync = self.house.0.plan.machines[self.listener.machine].sync_flush;
                let grade = if sync && wait { Grade::Synced } else { Grade::Written };
                self.accepted(&ids, &at, &places, queue, grade, settling);
                true
            }
            Err(e) => {
                self.refused(&ids, &e);
                false
            }
        }
    }

    fn accepted(
        &self,
        ids: &[Id],
        at: &Appended,
        places: &[PhysicalOffset],
        queue: u32,
        grade: Grade,
        settling: bool,
    ) {
        let fits =
            |p: &PhysicalOffset| (at.physical.0..at.physical.0 + at.size as u64).contains(&p.0);
        if places.len() != ids.len()
            || places.first() != Some(&at.physical)
            || !places.iter().all(fits)
        {
            let what = format!("a batch of {} lies at {places:?}, from {at:?}", ids.len());
            self.house.0.court.world().violate("outcomes", what);
        }
        let machine = self.listener.machine;
        let place = |(n, physical): (usize, &PhysicalOffset)| Place {
            machine,
            queue,
            queue_offset: at.queue_offset.0 + n as u64,
            physical: physical.0,
        };
        let members = ids.iter().copied().zip(places.iter().enumerate().map(place)).collect();
        let waiting = Waiting { members, grade, settling };
        self.listener.waiting.lock().insert(ids[0], waiting);
    }

    fn refused(&self, ids: &[Id], error: &AppendError) {
        let court = &self.house.0.court;
        for id in ids {
            let noted = court.history(|h| h.on_fate(*id, Fate::Refused));
            court.check("outcomes", noted);
        }
        match error {
            AppendError::NoSpace { .. } => mark("store: append refused, no space"),
            AppendError::DiskFull(_) => mark("store: append refused, the disk is too full"),
            AppendError::Stalled(_) => mark("store: append refused, the log is stalled"),
            AppendError::Busy { .. } => mark("store: append refused, busy"),
            AppendError::Poisoned(_) | AppendError::Stopped => {}
            AppendError::EmptyBatch
            | AppendError::Illegal(_)
            | AppendError::Queues(..)
            | AppendError::Size { .. } => {
                court.world().violate("outcomes", format!("a legal append: {error}"));
            }
        }
    }

    async fn wait_for_window(&self, load: &Load) {
        let window = (load.window * load.producers) as usize;
        loop {
            let moved = self.listener.moved.notified();
            let mut moved = std::pin::pin!(moved);
            moved.as_mut().enable();
            if self.listener.waiting.lock().len() < window {
                return;
            }
            moved.await;
        }
    }
}
