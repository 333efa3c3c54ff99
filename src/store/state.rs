//! Everything the store knows while it runs, behind one lock: the machines, and how an event of
//! one reaches the others.

use super::append::{Append, AppendError, Appended, BatchMember, Outcome, Rejection, Ticket};
use super::commit_log::{CommitLog, LastRecord, Piece};
use super::consume_queue::{Queue, Queues, Slot};
use super::dispatch::{self, Entry};
use super::events::{Arrival, Stats};
use super::flush::Flush;
use super::intake::{Intake, IntakeError, Next};
use super::options::Options;
use super::recovery;
use super::replicas::SlaveReport;
use super::scrub::FoundRot;
use super::segment::{Dropped, Segments};
use super::snapshot::{NO_ENTRY, Row, TopicFloors};
use super::stall::Stall;
use super::tail_cache::TailCache;
use crate::format::floor::Floor;
use crate::format::message_unit::{self, Dispatch, Record, View};
use crate::model::{PhysicalOffset, QueueId, QueueKey, QueueOffset, TopicName, WallMillis};
use crate::model::{is_directory_name, sys_flag};
use crate::rt::time::{Duration, Mono};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

pub struct State {
    pub log: CommitLog,
    pub flush: Flush,
    pub queues: Queues,
    pub cache: TailCache,
    pub segments: Segments,
    /// Appended and not yet visible, in log order.
    entries: VecDeque<Entry>,
    /// Of every written piece its end and last record, oldest first; those below the synced
    /// watermark are dropped but for the newest.
    records: VecDeque<(u64, LastRecord)>,
    /// The next segment could not be allocated.
    pub no_space: bool,
    /// An append was refused for it.
    pub segment_asked: bool,
    pub poison: Option<Arc<str>>,
    pub stopping: bool,
    /// The log shall be synced now, whatever the interval.
    pub sync_asked: bool,
    /// The index is told when this becomes visible.
    pub index_wake: u64,
    pub derived_errors: u64,
    /// The floor that was last written.
    pub floor: Floor,
    /// Where the log ended in the snapshot that was last written; `None` when queues changed
    /// otherwise since.
    pub snapshot_at: Option<u64>,
    /// What the snapshot on disk says.
    pub saved: Saved,
    /// A snapshot is wanted now, not only when it is due.
    pub snapshot_asked: bool,
    /// Why appends are refused: the disk is too full.
    pub full: Option<Arc<str>>,
    /// Why appends are refused: the log cannot keep up.
    pub stall: Option<Stall>,
    pub longest_write: Duration,
    /// What is new about the slaves.
    pub slave_report: Option<SlaveReport>,
    /// The log, which is empty, shall begin here. Units: an offset, the start of a segment.
    pub begin_asked: Option<u64>,
    /// An operator wants expired files deleted now.
    pub deletion_asked: bool,
    /// An operator wants queue files deleted that are not needed.
    pub cleaning_asked: bool,
    /// Retention goes by these from now on.
    pub new_rules: Option<super::retention::Rules>,
    pub files_deleted: u64,
    /// A sync of queue files failed: what they hold is not known, and no snapshot may say more
    /// than the last one until recovery has written them again.
    pub queues_suspect: bool,
    pub topic_floors: TopicFloors,
    /// What the scrub found.
    pub rot: Vec<FoundRot>,
    /// Queue files written since they were last synced: (slot, start of the file in bytes).
    pub dirty_files: BTreeSet<(Slot, u64)>,
}

/// What the snapshot on disk says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Saved {
    /// Where the last record below it lies.
    pub last_at: u64,
    /// Where the log began.
    pub log_min: u64,
}

impl State {
    pub fn new(
        log: CommitLog,
        flush: Flush,
        queues: Queues,
        cache: TailCache,
        segments: Segments,
        last: Option<LastRecord>,
    ) -> Self {
        let end = log.end();
        State {
            log,
            flush,
            queues,
            cache,
            segments,
            entries: VecDeque::new(),
            records: last.map(|last| (end, last)).into_iter().collect(),
            no_space: false,
            segment_asked: false,
            poison: None,
            stopping: false,
            sync_asked: false,
            index_wake: 0,
            derived_errors: 0,
            floor: Floor::default(),
            snapshot_at: None,
            saved: Saved::default(),
            snapshot_asked: false,
            full: None,
            stall: None,
            longest_write: Duration::ZERO,
            slave_report: None,
            begin_asked: None,
            deletion_asked: false,
            cleaning_asked: false,
            new_rules: None,
            files_deleted: 0,
            queues_suspect: false,
            topic_floors: TopicFloors::default(),
            rot: Vec::new(),
            dirty_files: BTreeSet::new(),
        }
    }

    pub fn append(
        &mut self,
        options: &Options,
        append: &Append<'_>,
        now: WallMillis,
    ) -> Result<Appended, AppendError> {
        let mut record = record_of(append, now);
        let size = message_unit::check(&record)?;
        let at = self.admit(options, size)?;
        let slot = self.slot_for(options, append)?;
        self.log.roll_for(size);
        let code = append.tags_code;
        let tags_code = dispatch::tags_code(
            append.topic,
            code,
            record.properties,
            now,
            &options.delay_levels_ms,
        );
        let queue_offset = self.push(&mut record, size, slot, tags_code);
        self.flush.on_accepted(self.log.end(), append.ticket, append.wait);
        Ok(Appended {
            physical: PhysicalOffset(at),
            queue_offset: QueueOffset(queue_offset),
            store_timestamp: now,
            size,
        })
    }

    pub fn append_batch(
        &mut self,
        options: &Options,
        shared: &Append<'_>,
        members: &[BatchMember<'_>],
        now: WallMillis,
        places: &mut Vec<PhysicalOffset>,
    ) -> Result<Appended, AppendError> {
        let base = record_of(shared, now);
        let mut total = 0;
        for member in members {
            total += message_unit::check(&member_of(&base, member))?;
        }
        if members.is_empty() {
            return Err(AppendError::EmptyBatch);
        }
        let at = self.admit(options, total)?;
        let slot = self.slot_for(options, shared)?;
        self.log.roll_for(total);
        let mut first = None;
        for member in members {
            let mut record = member_of(&base, member);
            let levels = &options.delay_levels_ms;
            let raw = member.properties;
            let tags_code = dispatch::tags_code(shared.topic, member.tags_code, raw, now, levels);
            let size = message_unit::encoded_size(&record);
            places.push(PhysicalOffset(self.log.end()));
            let offset = self.push(&mut record, size, slot, tags_code);
            first.get_or_insert(offset);
        }
        self.flush.on_accepted(self.log.end(), shared.ticket, shared.wait);
        Ok(Appended {
            physical: PhysicalOffset(at),
            queue_offset: QueueOffset(first.unwrap_or(0)),
            store_timestamp: now,
            size: total,
        })
    }

    /// Several messages in a row and in one segment, with the outcome of the last one. None is
    /// taken unless all are.
    pub fn append_all(
        &mut self,
        options: &Options,
        appends: &[Append<'_>],
        now: WallMillis,
    ) -> Result<Vec<Appended>, AppendError> {
        let last = appends.last().ok_or(AppendError::EmptyBatch)?;
        self.is_open()?;
        let total = self.fit(options, appends)?;
        self.has_room(options, total)?;
        let mut slots = Vec::with_capacity(appends.len());
        for append in appends {
            slots.push(self.slot_for(options, append)?);
        }
        self.log.roll_for(total);
        let mut all = Vec::with_capacity(appends.len());
        for (append, slot) in appends.iter().zip(slots) {
            let mut record = record_of(append, now);
            let (raw, levels) = (record.properties, &options.delay_levels_ms);
            let tags_code = dispatch::tags_code(append.topic, append.tags_code, raw, now, levels);
            let size = message_unit::encoded_size(&record);
            let physical = PhysicalOffset(self.log.end());
            let queue_offset = QueueOffset(self.push(&mut record, size, slot, tags_code));
            all.push(Appended { physical, queue_offset, store_timestamp: now, size });
        }
        self.flush.on_accepted(self.log.end(), last.ticket, last.wait);
        Ok(all)
    }

    /// Whether records of these appends, in a row, have sizes and forms that can be taken, and how
    /// many bytes they have.
    pub fn fit(&self, options: &Options, appends: &[Append<'_>]) -> Result<usize, AppendError> {
        let mut total = 0;
        for append in appends {
            let size = message_unit::check(&record_of(append, WallMillis(0)))?;
            self.size_fits(options, size)?;
            total += size;
        }
        let max = self.log.record_size_max();
        if total > max { Err(AppendError::Size { size: total, max }) } else { Ok(total) }
    }

    fn size_fits(&self, options: &Options, size: usize) -> Result<(), AppendError> {
        let max = options.record_size_max_bytes.min(self.log.record_size_max());
        if size > max { Err(AppendError::Size { size, max }) } else { Ok(()) }
    }

    /// Whether `size` more bytes may be taken, and where they will lie.
    fn admit(&self, options: &Options, size: usize) -> Result<u64, AppendError> {
        self.is_open()?;
        self.size_fits(options, size)?;
        self.has_room(options, size)
    }

    fn is_open(&self) -> Result<(), AppendError> {
        match &self.poison {
            Some(reason) => Err(AppendError::Poisoned(reason.clone())),
            None if self.stopping => Err(AppendError::Stopped),
            None => Ok(()),
        }
    }

    fn has_room(&self, options: &Options, size: usize) -> Result<u64, AppendError> {
        if let Some(why) = &self.full {
            return Err(AppendError::DiskFull(why.clone()));
        }
        if let Some(stall) = self.stall {
            return Err(AppendError::Stalled(stall));
        }
        let (pending, max) = (self.log.pending(), options.pending_size_max_bytes);
        let unwritten = self.queues.unwritten();
        if pending > max || unwritten > options.queue_entries_unwritten_max {
            return Err(AppendError::Busy { pending, max });
        }
        let at = self.log.place(size);
        if self.no_space && at >= self.segments.end() {
            return Err(AppendError::NoSpace { size: options.segment_size_bytes });
        }
        Ok(at)
    }

    /// The queue that the record enters, made when it is new; `None` for records that enter none.
    fn slot_for(
        &mut self,
        options: &Options,
        append: &Append<'_>,
    ) -> Result<Option<Slot>, AppendError> {
        if !sys_flag::is_queued(append.sys_flag) {
            return Ok(None);
        }
        if let Some(slot) = self.queues.find_slot(append.topic, append.queue) {
            return Ok(Some(slot));
        }
        if self.queues.count() >= options.queues_max {
            return Err(AppendError::Queues(options.queues_max));
        }
        Ok(Some(self.add_queue(append.topic.clone(), append.queue)))
    }

    fn add_queue(&mut self, topic: TopicName, queue: QueueId) -> Slot {
        self.queues.add(Queue::new(QueueKey { topic, queue }, 0, 0, NO_ENTRY))
    }

    /// Encodes one record at the log's end. Returns its queue offset.
    fn push(
        &mut self,
        record: &mut Record<'_>,
        size: usize,
        slot: Option<Slot>,
        tags_code: i64,
    ) -> u64 {
        let at = self.log.end();
        let queue_offset = match slot.and_then(|slot| self.queues.get_mut(slot)) {
            Some(queue) => {
                queue.next += 1;
                queue.next - 1
            }
            None => 0,
        };
        record.queue_offset = QueueOffset(queue_offset);
        record.physical_offset = PhysicalOffset(at);
        let store_timestamp = record.store_timestamp;
        self.log.push(size, store_timestamp, |out| message_unit::encode(record, out));
        self.entries.push_back(Entry { at, size: size as u32, slot, queue_offset, tags_code });
        queue_offset
    }

    /// Takes whole units of a master's log, at most about `size_max` bytes.
    /// Errors: units before the one that failed are taken.
    pub fn take_in(
        &mut self,
        options: &Options,
        intake: &mut Intake,
        size_max: u64,
    ) -> Result<(), IntakeError> {
        let until = intake.at().saturating_add(size_max);
        while intake.at() < until {
            self.is_open()?;
            let end = self.log.end();
            if end != intake.at() {
                let (end, at) = (PhysicalOffset(end), PhysicalOffset(intake.at()));
                return Err(IntakeError::Moved { end, at });
            }
            match intake.next()? {
                Next::Nothing => return Ok(()),
                Next::Blank => {
                    self.log.end_segment();
                    intake.consume_blank();
                }
                Next::Record(view) => {
                    self.has_room(options, view.size())?;
                    let (entry, stored) = self.entry_of(options, &view)?;
                    self.log.push_whole(intake.consume(entry.size as usize), stored);
                    self.entries.push_back(entry);
                }
            }
        }
        Ok(())
    }

    /// What a record of a master's log, which is taken next, enters its queue with, and when it was
    /// stored. Its queue offset is believed as far as recovery believes it.
    fn entry_of(
        &mut self,
        options: &Options,
        view: &View<'_>,
    ) -> Result<(Entry, WallMillis), IntakeError> {
        let record = view.dispatch();
        let (at, size, offset) = (self.log.end(), view.size(), record.queue_offset.0);
        let (mut slot, mut queue_offset) = (None, 0);
        let is_queued = sys_flag::is_queued(record.sys_flag) && is_directory_name(record.topic);
        if is_queued && (record.queue_id.0 as usize) < options.queues_max {
            let (found, next) = self.replicated_slot(options, &record)?;
            if offset >= next {
                let is_near = offset - next <= recovery::GAP_MAX;
                (slot, queue_offset) = (Some(found), if is_near { offset } else { next });
            }
        }
        if let Some(queue) = slot.and_then(|slot| self.queues.get_mut(slot)) {
            queue.next = queue_offset + 1;
        }
        let tags_code = dispatch::tags_code_of(&record, &options.delay_levels_ms);
        let entry = Entry { at, size: size as u32, slot, queue_offset, tags_code };
        Ok((entry, record.store_timestamp))
    }

    /// The queue of a master's record, and the offset that it gives next.
    fn replicated_slot(
        &mut self,
        options: &Options,
        record: &Dispatch<'_>,
    ) -> Result<(Slot, u64), IntakeError> {
        let offset = record.queue_offset.0;
        if let Some(slot) = self.queues.find_slot(record.topic, record.queue_id) {
            let queue = self.queues.get(slot).expect("it was found");
            if offset == 0 && queue.next > 0 {
                return Err(IntakeError::BeganAnew(queue.key.clone()));
            }
            return Ok((slot, queue.next));
        }
        if self.queues.count() >= options.queues_max {
            return Err(AppendError::Queues(options.queues_max).into());
        }
        let first = if offset > recovery::QUEUE_OFFSET_MAX { 0 } else { offset };
        let key = QueueKey { topic: TopicName::new(record.topic), queue: record.queue_id };
        Ok((self.queues.add(Queue::new(key, first, first, NO_ENTRY)), first))
    }

    /// A piece is in the page cache.
    pub fn on_piece_written(&mut self, piece: Piece, out: &mut Vec<(Ticket, Outcome)>) {
        self.log.on_written(piece.bytes.len());
        self.flush.on_written(piece.end, out);
        if let Some(last) = piece.last_record {
            self.records.push_back((piece.end, last));
        }
        self.cache.push(piece, self.flush.visible());
    }

    /// Enters what became visible in its queues. True when the queue writer should look.
    pub fn dispatch(&mut self, now: Mono, out: &mut Vec<Arrival>) -> bool {
        let visible = self.flush.visible();
        dispatch::dispatch(&mut self.entries, visible, &mut self.queues, now, out)
    }

    /// Whether the index has waited for what is visible now; says so once.
    pub fn index_due(&mut self) -> bool {
        let due = self.flush.visible() >= self.index_wake;
        if due {
            self.index_wake = u64::MAX;
        }
        due
    }

    /// Takes back what was appended from `at`, the start of a missing segment, on.
    pub fn reject_from(&mut self, at: u64, why: Rejection, out: &mut Vec<(Ticket, Outcome)>) {
        self.log.reject_from(at);
        self.flush.reject_from(at, why, out);
        if self.topic_floors.cut_back_to(at) {
            crate::rt::probe!("store: a topic was deleted before what went ahead was refused");
        }
        while self.entries.back().is_some_and(|entry| entry.at >= at) {
            let entry = self.entries.pop_back().expect("the loop looked at it");
            if let Some(queue) = entry.slot.and_then(|slot| self.queues.get_mut(slot)) {
                queue.next = entry.queue_offset;
            }
        }
    }

    pub fn on_poison(&mut self, reason: &str, out: &mut Vec<(Ticket, Outcome)>) {
        self.poison = Some(reason.into());
        self.flush.on_poison(out);
    }

    /// The newest record known to be on disk, and up to where the log is.
    pub fn durable(&mut self) -> (u64, Option<LastRecord>) {
        let synced = self.flush.synced();
        let in_queues = self.entries.front().map_or(synced, |entry| entry.at.min(synced));
        while self.records.get(1).is_some_and(|(end, _)| *end <= in_queues) {
            self.records.pop_front();
        }
        let last = self.records.iter().take_while(|(end, _)| *end <= synced).last();
        (synced, last.map(|(_, last)| *last))
    }

    /// Up to where a snapshot of the queues may be taken, with the record that ends there: what is
    /// synced and is in its queue. A record that waits for a slave is synced and in no queue yet.
    pub fn snapshot_point(&mut self) -> (u64, Option<LastRecord>) {
        let (synced, last) = self.durable();
        match self.entries.front() {
            Some(entry) if entry.at < synced => {
                let in_queues = self.records.iter().take_while(|(end, _)| *end <= entry.at).last();
                in_queues.map_or((0, None), |(end, last)| (*end, Some(*last)))
            }
            _ => (synced, last),
        }
    }

    /// Everything below may be seen: of a poisoned log only what is known to be on disk.
    pub fn visible(&self) -> u64 {
        let visible = self.flush.visible();
        if self.poison.is_some() { visible.min(self.flush.synced()) } else { visible }
    }

    /// One past the newest entry of a queue that may be seen.
    pub fn end_of(&self, queue: &Queue) -> u64 {
        if self.poison.is_some() { queue.end_at(self.visible()).0 } else { queue.end }
    }

    /// Entries below are no longer needed in memory: their records left the tail cache, and no
    /// snapshot will be taken below.
    pub fn trim_below(&self) -> u64 {
        let in_queues = match self.entries.front() {
            Some(_) => self.records.front().map_or(0, |(end, _)| *end),
            None => u64::MAX,
        };
        self.cache.base().min(self.flush.synced()).min(self.flush.visible()).min(in_queues)
    }

    /// When the newest record that is written was stored.
    pub fn newest(&self) -> Option<WallMillis> {
        self.records.back().map(|(_, last)| last.store_timestamp)
    }

    pub fn last_record(&self) -> Option<u64> {
        self.records.back().map(|(_, last)| last.at)
    }

    /// The snapshot with these rows is on disk.
    pub fn on_snapshot(&mut self, at: u64, saved: Saved, rows: &[Row]) {
        self.snapshot_at = Some(at);
        self.saved = saved;
        for row in rows {
            let slot = self.queues.find(&row.key);
            if let Some(queue) = slot.and_then(|slot| self.queues.get_mut(slot)) {
                queue.min_saved = row.min.min(queue.min);
            }
        }
    }

    /// Files of the log that end here or below may be deleted: everything behind is synced, and so
    /// is a record that the next start finds its way by.
    pub fn deletable_below(&mut self) -> u64 {
        let (_, last) = self.durable();
        last.map_or(0, |last| self.segments.base_of(last.at))
    }

    /// Every queue with its min and max offset, in order of topic and queue.
    pub fn queue_rows(&self) -> Vec<(QueueKey, QueueOffset, QueueOffset)> {
        let row = |queue: &Queue| {
            (queue.key.clone(), QueueOffset(queue.min), QueueOffset(self.end_of(queue)))
        };
        self.queues.iter().map(|(_, queue)| row(queue)).collect()
    }

    /// Every queue as it was when the log ended at `at`, which is not above what is visible.
    pub fn rows_at(&self, at: u64) -> Vec<Row> {
        let row = |queue: &Queue| {
            let (end, last_physical) = queue.end_at(at);
            Row { key: queue.key.clone(), min: queue.min.min(end), end, last_physical }
        };
        self.queues.iter().map(|(_, queue)| row(queue)).collect()
    }

    /// An empty log begins at `at`, the start of a segment, instead. Returns the file that it had.
    pub fn begin_at(&mut self, at: u64) -> Option<Dropped> {
        self.log.begin_at(at);
        self.flush.begin_at(at);
        self.cache.begin_at(at);
        self.segments.begin_at(at)
    }

    /// Forgets one queue, also where records wait to become visible.
    pub fn remove_queue(&mut self, key: &QueueKey) -> Option<Slot> {
        let gone = self.queues.remove_queue(key)?;
        for entry in self.entries.iter_mut().filter(|entry| entry.slot == Some(gone)) {
            entry.slot = None;
        }
        self.dirty_files.retain(|(slot, _)| *slot != gone);
        self.snapshot_at = None;
        Some(gone)
    }

    /// Forgets a topic's queues, also where records wait to become visible.
    pub fn remove_topic(&mut self, topic: &str) -> Vec<(Slot, Queue)> {
        let removed = self.queues.remove_topic(topic);
        let is_gone = |slot: &Slot| removed.iter().any(|(gone, _)| gone == slot);
        for entry in &mut self.entries {
            entry.slot = entry.slot.filter(|slot| !is_gone(slot));
        }
        self.dirty_files.retain(|(slot, _)| !is_gone(slot));
        self.snapshot_at = None;
        removed
    }

    pub fn stats(&self) -> Stats {
        Stats {
            min: PhysicalOffset(self.segments.first()),
            end: PhysicalOffset(self.log.end()),
            written: PhysicalOffset(self.flush.written()),
            synced: PhysicalOffset(self.flush.synced()),
            visible: PhysicalOffset(self.flush.visible()),
            queues: self.queues.count(),
            no_space: self.no_space,
            full: self.full.clone(),
            stall: self.stall,
            longest_write: self.longest_write,
            files_deleted: self.files_deleted,
            poisoned: self.poison.is_some(),
            entries_unwritten: self.queues.unwritten(),
            indexed: PhysicalOffset(0),
            derived_errors: self.derived_errors,
            rot: self.rot.len(),
        }
    }
}

fn record_of<'a>(append: &Append<'a>, now: WallMillis) -> Record<'a> {
    Record {
        queue_id: append.queue,
        flag: append.flag,
        queue_offset: QueueOffset(0),
        physical_offset: PhysicalOffset(0),
        sys_flag: append.sys_flag,
        born_timestamp: append.born_timestamp,
        born_host: append.born_host,
        store_timestamp: now,
        store_host: append.store_host,
        reconsume_times: append.reconsume_times,
        prepared_transaction_offset: append.prepared_transaction_offset,
        body: append.body,
        topic: append.topic,
        properties: append.properties,
    }
}

fn member_of<'a>(shared: &Record<'a>, member: &BatchMember<'a>) -> Record<'a> {
    let BatchMember { flag, body, properties, .. } = *member;
    Record { flag, body, properties, ..*shared }
}
