//! The queues: which offsets they hold, their newest entries, and what is not yet in files.
//!
//! Source: ConsumeQueue, CommitLog#topicQueueTable (4.9.3).

use super::snapshot::NO_ENTRY;
use crate::format::consume_queue_unit::QueueUnit;
use crate::model::{QueueId, QueueKey, TopicName};
use crate::rt::time::Mono;
use std::collections::{BTreeMap, VecDeque};

/// Names a queue in the table without its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(pub u32);

/// One queue. Entries below `base` are only in files, the others in memory too.
#[derive(Debug)]
pub struct Queue {
    pub key: QueueKey,
    /// The oldest entry whose record is still in the log.
    pub min: u64,
    /// The next offset to be given to an append.
    pub next: u64,
    /// One past the newest visible entry.
    pub end: u64,
    base: u64,
    /// Where the record of entry `base - 1` lies; `NO_ENTRY` when there is none.
    before: u64,
    memory: VecDeque<QueueUnit>,
    /// Entries below are in files.
    pub in_files: u64,
    /// Since when entries wait to be written.
    dirty_since: Option<Mono>,
    /// Where the record of entry `min` lies; 0 when that is not known.
    min_physical: u64,
    /// `min` as the snapshot on disk has it: recovery asks for no entry below.
    pub min_saved: u64,
    /// No file of the queue begins below. Units: bytes.
    pub files_from: u64,
}

/// What becomes of a queue's min when the log begins further on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Raise {
    Stays,
    /// The first entry that is kept, and where its record lies.
    To(u64, u64),
    /// It is one of these or the second, which is kept: the files must be asked.
    Within(u64, u64),
}

impl Queue {
    /// A queue whose entries are all in files; `last_physical` is where the newest record lies.
    pub fn new(key: QueueKey, min: u64, end: u64, last_physical: u64) -> Self {
        Queue {
            key,
            min,
            next: end,
            end,
            base: end,
            before: last_physical,
            memory: VecDeque::new(),
            in_files: end,
            dirty_since: None,
            min_physical: 0,
            min_saved: 0,
            files_from: 0,
        }
    }

    pub fn base(&self) -> u64 {
        self.base
    }

    /// The entries from `from` on, which is not below `base`.
    pub fn entries(&self, from: u64) -> impl Iterator<Item = &QueueUnit> {
        let skip = usize::try_from(from - self.base).unwrap_or(usize::MAX);
        self.memory.range(skip.min(self.memory.len())..)
    }

    pub fn unwritten(&self) -> usize {
        (self.end - self.in_files) as usize
    }

    /// The queue's end as it was when the log ended at `at`, and where its last record lies.
    /// Entries that are no longer in memory lie below every `at` that may be asked for (`trim`).
    pub fn end_at(&self, at: u64) -> (u64, u64) {
        let below = self.memory.partition_point(|unit| unit.physical_offset.0 < at);
        let last = below.checked_sub(1).and_then(|last| self.memory.get(last));
        (self.base + below as u64, last.map_or(self.before, |unit| unit.physical_offset.0))
    }

    fn goes_on(&self, at: u64) -> bool {
        let newest = self.memory.back().map_or(self.before, |unit| unit.physical_offset.0);
        self.next > self.end || (newest != NO_ENTRY && newest >= at)
    }

    /// What becomes of `min` when the log begins at `log_min`.
    pub fn raise(&self, log_min: u64) -> Raise {
        if self.min >= self.end || self.min_physical >= log_min {
            return Raise::Stays;
        }
        let kept = self.memory.partition_point(|unit| unit.physical_offset.0 < log_min);
        let at = self.memory.get(kept).map_or(log_min, |unit| unit.physical_offset.0);
        let first_kept = self.base + kept as u64;
        if kept > 0 || self.before == NO_ENTRY || self.before < log_min || self.min >= self.base {
            return Raise::To(first_kept.max(self.min), at);
        }
        Raise::Within(self.min, self.base - 1)
    }

    /// The log begins further on: entries below `min` are gone. Returns what `min` was.
    pub fn on_raised(&mut self, min: u64, physical: u64) -> u64 {
        assert!(min <= self.end, "a queue begins past its end");
        self.min_physical = physical;
        let before = self.min;
        self.min = before.max(min);
        before
    }

    /// Drops entries from memory that are in files and whose record lies below `at`.
    pub fn trim(&mut self, at: u64, count_max: usize) {
        for _ in 0..count_max {
            let old = self.memory.front().is_some_and(|unit| unit.physical_offset.0 < at);
            if !old || self.base >= self.in_files {
                return;
            }
            if let Some(unit) = self.memory.pop_front() {
                self.before = unit.physical_offset.0;
                self.base += 1;
            }
        }
    }
}

pub struct Queues {
    /// Units: entries; so many make a run that is written at once.
    run: usize,
    /// A slot is never used again, so that a task that still names it finds nothing.
    slots: Vec<Option<Queue>>,
    /// Sorted by queue id.
    by_topic: BTreeMap<TopicName, Vec<(QueueId, Slot)>>,
    count: usize,
    /// Units: entries that are not in files.
    unwritten: usize,
    /// Queues with unwritten entries, in the order in which the first of them came.
    dirty: VecDeque<(Slot, Mono)>,
    /// Queues with a full run.
    ready: VecDeque<Slot>,
}

impl Queues {
    pub fn new(run: usize) -> Self {
        Queues {
            run,
            slots: Vec::new(),
            by_topic: BTreeMap::new(),
            count: 0,
            unwritten: 0,
            dirty: VecDeque::new(),
            ready: VecDeque::new(),
        }
    }

    pub fn count(&self) -> usize {
        self.count
    }
    pub fn unwritten(&self) -> usize {
        self.unwritten
    }
    pub fn slot_count(&self) -> usize {
        self.slots.len()
    }

    pub fn find(&self, key: &QueueKey) -> Option<Slot> {
        self.find_slot(&key.topic, key.queue)
    }
    pub fn find_slot(&self, topic: &str, queue: QueueId) -> Option<Slot> {
        let queues = self.by_topic.get(topic)?;
        let at = queues.binary_search_by_key(&queue, |(id, _)| *id).ok()?;
        Some(queues[at].1)
    }

    pub fn get(&self, slot: Slot) -> Option<&Queue> {
        self.slots.get(slot.0 as usize)?.as_ref()
    }
    pub fn get_mut(&mut self, slot: Slot) -> Option<&mut Queue> {
        self.slots.get_mut(slot.0 as usize)?.as_mut()
    }

    /// Adds a queue that is not in the table.
    pub fn add(&mut self, queue: Queue) -> Slot {
        let queues = self.by_topic.entry(queue.key.topic.clone()).or_default();
        let at = match queues.binary_search_by_key(&queue.key.queue, |(id, _)| *id) {
            Ok(_) => panic!("queue {:?} is in the table twice", queue.key),
            Err(at) => at,
        };
        let slot = Slot(self.slots.len() as u32);
        queues.insert(at, (queue.key.queue, slot));
        self.slots.push(Some(queue));
        self.count += 1;
        slot
    }

    /// Every queue in order of topic and queue.
    pub fn iter(&self) -> impl Iterator<Item = (Slot, &Queue)> {
        let slots = self.by_topic.values().flatten();
        slots.filter_map(|(_, slot)| Some((*slot, self.get(*slot)?)))
    }

    /// Forgets one queue.
    pub fn remove_queue(&mut self, key: &QueueKey) -> Option<Slot> {
        let queues = self.by_topic.get_mut(&key.topic)?;
        let at = queues.binary_search_by_key(&key.queue, |(id, _)| *id).ok()?;
        let (_, slot) = queues.remove(at);
        if queues.is_empty() {
            self.by_topic.remove(&key.topic);
        }
        self.take(slot).map(|_| slot)
    }

    fn take(&mut self, slot: Slot) -> Option<Queue> {
        let queue = self.slots[slot.0 as usize].take()?;
        self.unwritten -= queue.unwritten();
        self.count -= 1;
        self.dirty.retain(|(dirty, _)| *dirty != slot);
        self.ready.retain(|ready| *ready != slot);
        Some(queue)
    }

    /// Whether a record of the topic lies at `at` or behind, or is under way.
    pub fn goes_on(&self, topic: &str, at: u64) -> bool {
        let slots = self.by_topic.get(topic).into_iter().flatten();
        slots.filter_map(|(_, slot)| self.get(*slot)).any(|queue| queue.goes_on(at))
    }

    /// Forgets the queues of a topic.
    pub fn remove_topic(&mut self, topic: &str) -> Vec<(Slot, Queue)> {
        let queues = self.by_topic.remove(topic).unwrap_or_default();
        let mut removed = Vec::new();
        for (_, slot) in queues {
            removed.extend(self.take(slot).map(|queue| (slot, queue)));
        }
        removed
    }

    /// A record became visible as entry `offset`. True when the writer of queue files should look:
    /// a run is full, or this is the only entry that waits.
    pub fn push(&mut self, slot: Slot, offset: u64, unit: QueueUnit, now: Mono) -> bool {
        let Some(queue) = self.slots.get_mut(slot.0 as usize).and_then(Option::as_mut) else {
            return false;
        };
        assert_eq!(offset, queue.end, "an entry does not follow the one before it");
        queue.memory.push_back(unit);
        queue.end += 1;
        self.unwritten += 1;
        if queue.dirty_since.is_none() {
            queue.dirty_since = Some(now);
            self.dirty.push_back((slot, now));
        }
        let full = queue.unwritten() == self.run;
        if full {
            self.ready.push_back(slot);
        }
        full || self.unwritten == 1
    }

    /// When the oldest unwritten entries are due, if they wait at most since `since`.
    pub fn dirty_since(&mut self) -> Option<Mono> {
        while let Some((slot, since)) = self.dirty.front().copied() {
            if self.get(slot).is_some_and(|queue| queue.dirty_since == Some(since)) {
                return Some(since);
            }
            self.dirty.pop_front();
        }
        None
    }

    /// A queue whose entries are to be written now: a full run, or one that waits since `until`.
    pub fn take_due(&mut self, until: Option<Mono>) -> Option<Slot> {
        while let Some(slot) = self.ready.pop_front() {
            if self.get(slot).is_some_and(|queue| queue.unwritten() > 0) {
                return Some(slot);
            }
        }
        let since = self.dirty_since()?;
        if until.is_none_or(|until| since > until) {
            return None;
        }
        self.dirty.pop_front().map(|(slot, _)| slot)
    }

    /// The unwritten entries of a queue, at most `count_max`, and the offset of the first.
    pub fn run(&mut self, slot: Slot, count_max: usize) -> (u64, Vec<QueueUnit>) {
        let Some(queue) = self.get_mut(slot) else { return (0, Vec::new()) };
        queue.dirty_since = None;
        let from = queue.in_files;
        (from, queue.entries(from).take(count_max).copied().collect())
    }

    /// Entries below `end` are in files.
    pub fn on_run_written(&mut self, slot: Slot, end: u64, now: Mono) {
        let Some(queue) = self.slots.get_mut(slot.0 as usize).and_then(Option::as_mut) else {
            return;
        };
        let wrote = end > queue.in_files;
        self.unwritten -= (end - queue.in_files) as usize;
        queue.in_files = end;
        if queue.unwritten() > 0 && queue.dirty_since.is_none() {
            queue.dirty_since = Some(now);
            self.dirty.push_back((slot, now));
            if queue.unwritten() >= self.run && wrote {
                self.ready.push_back(slot);
            }
        }
    }

    /// The run could not be written: it is tried again later.
    pub fn on_run_failed(&mut self, slot: Slot, now: Mono) {
        let end = self.get(slot).map(|queue| queue.in_files);
        if let Some(end) = end {
            self.on_run_written(slot, end, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PhysicalOffset;
    use crate::store::snapshot::NO_ENTRY;

    fn unit(at: u64) -> QueueUnit {
        QueueUnit { physical_offset: PhysicalOffset(at), size: 10, tags_code: 0 }
    }
    fn key(topic: &str, queue: u32) -> QueueKey {
        QueueKey { topic: TopicName::new(topic), queue: QueueId(queue) }
    }

    #[test]
    fn entries_leave_memory_only_when_they_are_in_files() {
        let mut queues = Queues::new(3);
        let slot = queues.add(Queue::new(key("T", 0), 0, 5, 0));
        for n in 0..4 {
            queues.push(slot, 5 + n, unit(n * 10), Mono(n));
        }
        queues.get_mut(slot).unwrap().trim(100, 9);
        assert_eq!(queues.get(slot).unwrap().base(), 5);
        assert_eq!(queues.take_due(Some(Mono(0))), Some(slot));
        let (from, run) = queues.run(slot, 3);
        assert_eq!((from, run.len()), (5, 3));
        queues.on_run_written(slot, 8, Mono(9));
        assert_eq!(queues.unwritten(), 1);
        let queue = queues.get_mut(slot).unwrap();
        assert_eq!(queue.end_at(20), (7, 10));
        queue.trim(20, 9);
        assert_eq!(queue.base(), 7);
        assert_eq!(queue.end_at(20), (7, 10));
        // What is left is due in its turn.
        assert_eq!(queues.dirty_since(), Some(Mono(9)));
        assert_eq!(queues.take_due(Some(Mono(8))), None);
        assert_eq!(queues.take_due(Some(Mono(9))), Some(slot));
    }

    #[test]
    fn a_removed_topic_leaves_nothing_behind() {
        let mut queues = Queues::new(3);
        let a = queues.add(Queue::new(key("A", 3), 0, 0, NO_ENTRY));
        queues.push(a, 0, unit(0), Mono(0));
        assert_eq!(queues.remove_topic("A").len(), 1);
        assert_eq!((queues.count(), queues.unwritten()), (0, 0));
        assert_eq!(queues.take_due(Some(Mono(9))), None);
        assert_eq!(queues.find(&key("A", 3)), None);
        let b = queues.add(Queue::new(key("B", 0), 0, 0, NO_ENTRY));
        assert_ne!(b, a);
    }
}
