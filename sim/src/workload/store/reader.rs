//! The reader of the store workload, and what it checks of every read.

use super::{Listener, StoreHouse, topic_name};
use crate::history::{self, Grade, History, Seen};
use crate::oracle::court::ROOT;
use crate::oracle::{files, judge, retention};
use crate::scenario::FaultKind;
use hotfire::model::{QueueId, QueueKey, QueueOffset, TopicName};
use hotfire::rt::rng::Rng;
use hotfire::rt::sim::mark;
use hotfire::rt::time::{Clock, Duration};
use hotfire::store::{Read, ReadLimits, ReadResult, ReadStatus, Store};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Results that are kept for a while.
const SLOW_READS: usize = 8;

/// What a task of the load works with.
pub type Shared = (StoreHouse, Store, Arc<Listener>, Clock);

/// Reads every queue to its end, again and again, and now and then something old.
pub async fn read_all((house, store, listener, clock): Shared) {
    let load = house.0.plan.load.clone();
    let sync = house.0.plan.machines[listener.machine].sync_flush;
    let mut rounds = Rounds {
        house: house.clone(),
        store: store.clone(),
        listener: listener.clone(),
        grade: if sync { Grade::Synced } else { Grade::Written },
        dice: Rng::from_seed(house.0.plan.seed ^ listener.generation),
        next: BTreeMap::new(),
        slow: VecDeque::new(),
        mins: BTreeMap::new(),
    };
    let mut epochs: BTreeMap<u64, u64> = BTreeMap::new();
    loop {
        // From now on a read may give a record that rotted: its reader has to check it.
        if *house.0.rotted.lock() {
            return;
        }
        if let Some(rot) = store.rot().first() {
            house.0.court.world().violate("scrub", format!("nothing rotted, it tells of {rot}"));
            return;
        }
        look_at_deletions(&house, &listener);
        let mut found = false;
        for topic in 0..load.topics {
            let epoch = house.0.gates.lock().epoch(&topic_name(topic));
            if epochs.insert(topic, epoch).is_some_and(|before| before != epoch) {
                rounds.next.retain(|(of, _), _| *of != topic);
            }
            for queue in 0..load.queues as u32 {
                match rounds.visit(topic, queue, epoch).await {
                    Ok(moved) => found |= moved,
                    Err(what) => {
                        house.0.court.world().violate("reading", what);
                        return;
                    }
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

/// One reader of all queues, in one generation of the store.
struct Rounds {
    house: StoreHouse,
    store: Store,
    listener: Arc<Listener>,
    grade: Grade,
    dice: Rng,
    next: BTreeMap<(u64, u32), u64>,
    /// What slow consumers still wait for: views must stay as they are.
    slow: VecDeque<Vec<bytes::Bytes>>,
    mins: BTreeMap<(u64, u32), u64>,
}

impl Rounds {
    /// Reads a queue once; says whether it came further.
    /// Errors: what was read must not be.
    async fn visit(&mut self, topic: u64, queue: u32, epoch: u64) -> Result<bool, String> {
        let house = &self.house;
        let at = self.next.entry((topic, queue)).or_default();
        let from = if *at > 0 && self.dice.chance(0.1) { self.dice.below(*at) } else { *at };
        let name = topic_name(topic);
        if house.0.gates.lock().is_closed(&name) {
            return Ok(false);
        }
        let key = QueueKey { topic: TopicName::new(&name), queue: QueueId(queue) };
        let limits = ReadLimits { count: self.dice.between(1, 40) as usize };
        let read = match self.store.read(&key, QueueOffset(from), &limits, &|_| true) {
            Read::Ready(result) => result,
            Read::Cold(cold) => match cold.run(&|_| true).await {
                Ok(result) => result,
                Err(error) => {
                    mark("store: cold read failed");
                    check_error((house, self.listener.machine), &name, queue, from, &error);
                    return Ok(false);
                }
            },
        };
        if house.0.gates.lock().epoch(&name) != epoch {
            return Ok(false); // deleted while it was read
        }
        let mut found = false;
        let min = self.mins.entry((topic, queue)).or_default();
        let place = (house, self.listener.machine, name.as_str(), queue);
        if let Some(to) = judge_bounds(place, from, &read, min, &self.store)
            && from == *at
        {
            (*at, found) = (to, true);
        }
        if read.status != ReadStatus::Found {
            return Ok(found);
        }
        self.slow.push_back(read.messages.clone());
        if self.slow.len() > SLOW_READS {
            self.slow.pop_front();
        }
        let (listener, grade) = (&*self.listener, self.grade);
        let reader = Reader { house, listener, grade, topic: &name, queue };
        let got = reader.take(from, &read.messages)?;
        if from + got > *at {
            *at = from + got;
            found = true;
            house.0.read_to.lock().insert((name, queue), *at);
        }
        Ok(found)
    }
}

fn look_at_deletions(house: &StoreHouse, listener: &Listener) {
    if !house.0.plan.retention {
        return;
    }
    let (court, machine) = (&house.0.court, listener.machine);
    court.judge_removed(machine);
    let start = court.log_start(machine);
    house.0.log_start.lock().insert(machine, start);
}

/// A reader is led past nothing that is kept. Gives the offset that it is sent to: behind what went
/// with its segment, or with a deleted topic of the same name.
fn judge_bounds(
    place: (&StoreHouse, usize, &str, u32),
    from: u64,
    read: &ReadResult,
    min: &mut u64,
    store: &Store,
) -> Option<u64> {
    let (house, machine, topic, queue) = place;
    let court = &house.0.court;
    let mut start = 0;
    if house.0.plan.retention {
        judge_min(place, read, min, store);
        // The oldest file is about to go.
        let size = court.terms(machine).map_or(0, |terms| terms.segment_size);
        start = court.log_start(machine) + size;
    }
    let led = match read.status {
        ReadStatus::OffsetTooSmall
        | ReadStatus::MessageWasRemoving
        | ReadStatus::OffsetFoundNull => read.next.0,
        _ => return None,
    };
    mark("retention: a reader was led past what is gone");
    let range = from..led;
    let kept = court.history(|h| retention::nothing_kept(h, (machine, topic, queue), range, start));
    court.check("retention", kept);
    let mut read_to = house.0.read_to.lock();
    let known = read_to.entry((topic.to_owned(), queue)).or_default();
    *known = (*known).max(led);
    Some(led)
}

/// A queue's min never goes back and is never behind the log's start.
fn judge_min(
    (house, machine, topic, queue): (&StoreHouse, usize, &str, u32),
    read: &ReadResult,
    min: &mut u64,
    store: &Store,
) {
    let court = &house.0.court;
    if read.min.0 < *min {
        let what = format!("{topic}/{queue}: the min goes back from {min} to {}", read.min);
        court.world().violate("retention", what);
    }
    *min = read.min.0;
    let key = QueueKey { topic: TopicName::new(topic), queue: QueueId(queue) };
    let now = store.min_offset(&key).0;
    // A queue file that cannot be read keeps its queue's min where it is for a while.
    let faults = &house.0.plan.faults;
    if faults.iter().all(|fault| fault.kind != FaultKind::ReadErrors) {
        let (place, start) = ((machine, topic, queue), court.log_start(machine));
        let raised = court.history(|h| retention::min_is_raised(h, place, now, start));
        court.check("retention", raised);
    }
}

/// A read may fail only for its first record: an unreadable one further on ends it earlier.
fn check_error(
    (house, machine): (&StoreHouse, usize),
    topic: &str,
    queue: u32,
    from: u64,
    error: &std::io::Error,
) {
    let world = house.0.court.world();
    let (disk, dir) = (&world.machines()[machine].disk, format!("{ROOT}/commitlog"));
    let is_first =
        |r: &&files::Record| r.topic == topic && r.queue == queue && r.queue_offset == from;
    let log = files::log(disk, &dir);
    let Some(first) = log.records.iter().find(is_first) else { return };
    let Some((path, at)) = files::place(disk, &dir, first.physical) else { return };
    if !disk.may_fail_at(&path, at..at + first.size as usize) {
        let what = format!("{topic}/{queue}: {from} can be read, and its read failed: {error}");
        world.violate("isolation", what);
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
                let start = match self.house.0.plan.retention {
                    true => self.house.0.court.log_start(self.listener.machine),
                    false => 0,
                };
                if record.queue_offset > at && start > 0 {
                    let place = (self.listener.machine, self.topic, self.queue);
                    retention::nothing_kept(history, place, at..record.queue_offset, start)?;
                    at = record.queue_offset;
                }
                if record.queue_offset != at {
                    return Err(format!(
                        "{}/{}: asked for {at}, got offset {}",
                        self.topic, self.queue, record.queue_offset
                    ));
                }
                let generation = self.listener.generation;
                let (grade, physical) = (self.grade, record.physical);
                let seen = Seen { id, grade, power_losses, generation, physical };
                let slot = (self.listener.machine, self.topic.to_owned(), self.queue, at);
                history.on_read(slot, seen)?;
                at += 1;
            }
        }
        Ok(at - from)
    }
}
