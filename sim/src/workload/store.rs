//! One machine, one store: producers and a reader in the store's own process.

use crate::history::{self, Fate, Grade, History, Id, Place, Seen};
use crate::oracle::court::{Court, ROOT};
use crate::oracle::{files, judge};
use crate::plan::{Load, Plan};
use crate::trace;
use crate::world::{Boot, Program};
use hotfire::model::{QueueId, QueueKey, QueueOffset, TopicName};
use hotfire::rt::rng::Rng;
use hotfire::rt::sim::mark;
use hotfire::rt::sync::{Mutex, Notify};
use hotfire::rt::task::TaskGroup;
use hotfire::rt::time::{Clock, Duration};
use hotfire::store::{
    Append, AppendError, Arrival, FlushMode, Options, Outcome, Read, ReadLimits, ReadStatus,
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
}

/// The whole load of a run on one store.
#[derive(Clone)]
pub struct StoreHouse(Arc<Shared>);

/// Sends per producer that must be acked after the heal.
const SETTLE_SENDS: u64 = 3;

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
        let machine = &self.0.plan.machines[boot.machine];
        let mut options = Options::swarm(ROOT, &mut Rng::from_seed(machine.swarm));
        options.flush = if machine.sync_flush { FlushMode::Sync } else { FlushMode::Async };
        let max = options.record_size_max_bytes;
        let group = TaskGroup::new();
        let listener = Arc::new(Listener {
            house: self.clone(),
            machine: boot.machine,
            generation: boot.generation,
            places: Mutex::default(),
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
        self.0.court.on_open(boot.machine, boot.generation);
        *self.0.store.lock() = Some(store.clone());
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
        group.spawn(read_all(self.clone(), store.clone(), listener.clone(), boot.clock.clone()));
        let poisoned = listener.until_poisoned();
        hotfire::rt::select! {
            _ = boot.stop.until(|stop| *stop) => {
                *self.0.store.lock() = None;
                match store.shutdown().await {
                    Ok(()) => trace::tell(&boot.name, format_args!("store closed in order")),
                    Err(e) => trace::tell(&boot.name, format_args!("failed to close: {e}")),
                }
            }
            () = poisoned => trace::tell(&boot.name, format_args!("store poisoned, process ends")),
        }
        *self.0.store.lock() = None;
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
            return Ok(());
        }
        let (settled, all) = (*self.0.settled.lock(), producers * SETTLE_SENDS);
        Err(format!(
            "{} ms after the heal {settled} of {all} sends are acked, reading is {}",
            budget.as_millis(),
            if self.all_read() { "at the end" } else { "behind" },
        ))
    }

    /// A process that only reads has read everything.
    pub async fn reread(&self, budget: Duration) -> Result<(), String> {
        let clock = Clock::new();
        let deadline = clock.mono() + budget;
        let done = || self.0.store.lock().is_some() && self.all_read();
        match clock.before(deadline, self.0.court.until(done)).await {
            Some(()) => Ok(()),
            None => Err("a store without derived files is not read to its end".into()),
        }
    }

    /// Every queue was read to the end that the log's acked messages give it.
    fn all_read(&self) -> bool {
        let read_to = self.0.read_to.lock();
        self.0.court.history(|history| {
            history.sent.iter().all(|sent| match sent.fate {
                Fate::Acked { place, .. } => {
                    let key = (sent.topic.clone(), place.queue);
                    read_to.get(&key).is_some_and(|to| *to > place.queue_offset)
                }
                _ => true,
            })
        })
    }
}

/// Hears what became of appends.
struct Listener {
    house: StoreHouse,
    machine: usize,
    generation: u64,
    /// Accepted, without an outcome yet.
    places: Mutex<BTreeMap<Id, (Place, Grade, bool)>>,
    moved: Notify,
    poisoned: Mutex<bool>,
}

impl StoreEvents for Listener {
    fn on_outcomes(&self, outcomes: &mut Vec<(Ticket, Outcome)>) {
        let power_losses = self.house.0.court.world().power_losses(self.machine);
        for (Ticket(id), outcome) in outcomes.drain(..) {
            let known = self.places.lock().remove(&id);
            let Some((place, grade, settling)) = known else {
                let what = format!("an outcome {outcome:?} for {id}, which waits for none");
                self.house.0.court.world().violate("outcomes", what);
                continue;
            };
            let fate = match outcome {
                Outcome::Durable => {
                    self.house.0.court.world().note_ack(self.machine);
                    let generation = self.generation;
                    Fate::Acked { grade, place, power_losses, generation }
                }
                Outcome::Rejected(Rejection::NoSpace | Rejection::SegmentLate) => Fate::Refused,
                Outcome::FlushTimeout | Outcome::Rejected(Rejection::Poisoned) => Fate::Unknown,
            };
            trace::event(
                &self.house.0.plan.machines[self.machine].name,
                format_args!("message {id} at {}: {outcome:?}", place.physical),
            );
            let told = self.house.0.court.history(|h| h.on_fate(id, fate));
            self.house.0.court.check("outcomes", told);
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
        *self.poisoned.lock() = true;
        self.moved.notify_waiters();
    }
}

impl Listener {
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

    fn send(&mut self, load: &Load, settling: bool) -> bool {
        let plan = &self.house.0.plan;
        let topic = topic_name(self.dice.below(load.topics));
        let queue = self.dice.below(load.queues) as u32;
        let (from, to) = load.body_bytes;
        let size = self.dice.between(from, to) as usize;
        let size = size.min(self.max.saturating_sub(300));
        let wait = settling || !self.dice.chance(load.no_wait);
        let id = self.house.0.court.history(|h| h.on_send(&topic, Some(queue), size));
        let host: SocketAddr = ([10, 0, 0, 1], 10911).into();
        let name = TopicName::new(&topic);
        let (body, properties) = (history::body(id, size), history::properties(id));
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
            body: &body,
            properties: &properties,
            tags_code: None,
            wait,
            ticket: Ticket(id),
        };
        let sync = plan.machines[self.listener.machine].sync_flush;
        let grade = if sync && wait { Grade::Synced } else { Grade::Written };
        match self.store.append(&append) {
            Ok(at) => {
                let place = Place {
                    machine: self.listener.machine,
                    queue,
                    queue_offset: at.queue_offset.0,
                    physical: at.physical.0,
                };
                self.listener.places.lock().insert(id, (place, grade, settling));
                true
            }
            Err(e) => {
                let noted = self.house.0.court.history(|h| h.on_fate(id, Fate::Refused));
                self.house.0.court.check("outcomes", noted);
                match e {
                    AppendError::NoSpace { .. } => mark("store: append refused, no space"),
                    AppendError::Busy { .. } => mark("store: append refused, busy"),
                    AppendError::Poisoned(_) | AppendError::Stopped => {}
                    AppendError::EmptyBatch
                    | AppendError::Illegal(_)
                    | AppendError::Queues(..)
                    | AppendError::Size { .. } => {
                        self.house
                            .0
                            .court
                            .world()
                            .violate("outcomes", format!("a legal append: {e}"));
                    }
                }
                false
            }
        }
    }

    async fn wait_for_window(&self, load: &Load) {
        let window = (load.window * load.producers) as usize;
        loop {
            let moved = self.listener.moved.notified();
            let mut moved = std::pin::pin!(moved);
            moved.as_mut().enable();
            if self.listener.places.lock().len() < window {
                return;
            }
            moved.await;
        }
    }
}

/// Reads every queue to its end, again and again, and now and then something old.
async fn read_all(house: StoreHouse, store: Store, listener: Arc<Listener>, clock: Clock) {
    let load = house.0.plan.load.clone();
    let sync = house.0.plan.machines[listener.machine].sync_flush;
    let grade = if sync { Grade::Synced } else { Grade::Written };
    let mut dice = Rng::from_seed(house.0.plan.seed ^ listener.generation);
    let mut next: BTreeMap<(u64, u32), u64> = BTreeMap::new();
    loop {
        let mut found = false;
        for topic in 0..load.topics {
            for queue in 0..load.queues as u32 {
                let at = next.entry((topic, queue)).or_default();
                let from = if *at > 0 && dice.chance(0.1) { dice.below(*at) } else { *at };
                let name = topic_name(topic);
                let key = QueueKey { topic: TopicName::new(&name), queue: QueueId(queue) };
                let limits = ReadLimits { count: dice.between(1, 40) as usize };
                let read = match store.read(&key, QueueOffset(from), &limits, &|_| true) {
                    Read::Ready(result) => result,
                    Read::Cold(cold) => match cold.run(&|_| true).await {
                        Ok(result) => result,
                        Err(_) => {
                            mark("store: cold read failed");
                            continue;
                        }
                    },
                };
                if read.status != ReadStatus::Found {
                    continue;
                }
                let reader =
                    Reader { house: &house, listener: &listener, grade, topic: &name, queue };
                let got = match reader.take(from, &read.messages) {
                    Ok(got) => got,
                    Err(what) => {
                        house.0.court.world().violate("reading", what);
                        return;
                    }
                };
                if from + got > *at {
                    *at = from + got;
                    found = true;
                    house.0.read_to.lock().insert((name, queue), *at);
                }
            }
        }
        house.0.court.moved();
        if !found {
            // A read that failed is tried again even when nothing arrives.
            let until = clock.mono() + Duration::from_millis(700);
            clock.before(until, listener.moved.notified()).await;
        }
    }
}

struct Reader<'a> {
    house: &'a StoreHouse,
    listener: &'a Listener,
    grade: Grade,
    topic: &'a str,
    queue: u32,
}

impl Reader<'_> {
    /// Checks what a read returned; says how many messages it was.
    fn take(&self, from: u64, messages: &[bytes::Bytes]) -> Result<u64, String> {
        self.house.0.court.history(|history| self.take_into(history, from, messages))
    }

    fn take_into(
        &self,
        history: &mut History,
        from: u64,
        messages: &[bytes::Bytes],
    ) -> Result<u64, String> {
        let mut at = from;
        let power_losses = self.house.0.court.world().power_losses(self.listener.machine);
        for bytes in messages {
            for record in files::split(bytes)? {
                let id = history::id_in(&record.properties)
                    .ok_or_else(|| format!("a record without a number at {}", record.physical))?;
                judge::is_what_was_sent(&record, id, history)?;
                if record.queue_offset != at {
                    return Err(format!(
                        "{}/{}: asked for {at}, got offset {}",
                        self.topic, self.queue, record.queue_offset
                    ));
                }
                let generation = self.listener.generation;
                let seen = Seen { id, grade: self.grade, power_losses, generation };
                let slot = (self.listener.machine, self.topic.to_owned(), self.queue, at);
                history.on_read(slot, seen)?;
                at += 1;
            }
        }
        Ok(at - from)
    }
}
