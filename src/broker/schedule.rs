//! When delayed messages are delivered, and how far each level has come.
//!
//! One queue of the schedule topic per level, one cursor per queue. Entries of a queue are taken
//! in order; a bounded number of them is handed to the store in one turn, and the cursor moves
//! past an entry only when the store has said that its delivery is kept. What was refused is
//! taken again, with all behind it, after a pause. `delayOffset.json` holds a state whose
//! deliveries are on disk: it never passes one that a power loss may take (W-57, W-58).
//!
//! Source: ScheduleMessageService (4.9.3).
//! Differs: progress counts what was delivered, not passes; a record that can never be delivered
//! is stepped over and said (W-60, W-61); queues of levels that left the table are delivered too
//! (W-59); a clock that steps back a little makes no message early.

pub mod rewrite;

use super::json_writer::JsonWriter;
use super::options::ScheduleOptions;
use super::tickets::Tickets;
use crate::format::consume_queue_unit::QueueUnit;
use crate::model::{QueueId, QueueOffset};
use crate::protocol::body::offset::DelayOffsets;
use crate::rt::time::{Duration, Mono, WallMillis};
use crate::store::QueueSlice;
use std::collections::{BTreeMap, VecDeque};

/// A message is looked at again so often while it waits: the wall clock may step.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// A deliver time further ahead than the level's delay and this comes from another clock, and the
/// message is due. Units: milliseconds. Source: #correctDeliverTimestamp (4.9.3), where it is 0.
const CLOCK_SLACK_MS: i64 = 1_000;
/// What could not be read is tried so often before the disk is asked whether it reads at all.
pub const READ_TRIES: u32 = 3;

/// What the driver reads next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    pub queue: QueueId,
    pub from: QueueOffset,
    /// Units: entries.
    pub count: usize,
}

/// An entry whose time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    pub offset: QueueOffset,
    pub unit: QueueUnit,
}

/// What a look at entries came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    pub due: Vec<Due>,
    /// Units: messages that retention deleted before they were delivered.
    pub lost: u64,
}

/// A delivery under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flight {
    Sent,
    /// Delivered, or stepped over.
    Done,
    Refused,
}

#[derive(Clone, Debug)]
struct Level {
    /// Units: milliseconds. `None` for a queue whose level is not in the table.
    delay_ms: Option<i64>,
    /// Everything below is delivered or stepped over.
    progress: u64,
    /// Those from `progress` on that were taken.
    flights: VecDeque<Flight>,
    /// One past the newest entry, as far as it is known.
    end: u64,
    /// The same as arrivals told it since the driver began to read; 0 when none came.
    arrived: u64,
    /// When the first entry that is not taken is due, while it is known.
    head: Option<WallMillis>,
    /// `None`: an arrival or an outcome says when.
    look_at: Option<Mono>,
    /// The driver reads now.
    is_read: bool,
    /// How often in a row nothing went on.
    failures: u32,
    /// How often in a row the next entry could not be read.
    read_failures: u32,
}

impl Level {
    fn new(delay_ms: Option<i64>) -> Self {
        Level {
            delay_ms,
            progress: 0,
            flights: VecDeque::new(),
            end: 0,
            arrived: 0,
            head: None,
            look_at: Some(Mono::default()),
            is_read: false,
            failures: 0,
            read_failures: 0,
        }
    }

    fn next(&self) -> u64 {
        self.progress + self.flights.len() as u64
    }

    /// Source: ScheduleMessageService#correctDeliverTimestamp (4.9.3).
    fn is_due(&self, at: WallMillis, now: WallMillis) -> bool {
        let latest = self.delay_ms.map(|delay| now.0.saturating_add(delay + CLOCK_SLACK_MS));
        at <= now || latest.is_some_and(|latest| at.0 > latest)
    }

    /// Neither read nor under way: the next ones may be taken.
    fn is_free(&self) -> bool {
        !self.is_read && self.flights.is_empty()
    }

    fn is_late(&self, now: Mono) -> bool {
        self.is_free() && self.look_at.is_some_and(|at| at <= now)
    }

    fn is_settled(&self) -> bool {
        !self.flights.contains(&Flight::Sent)
    }

    /// The cursor follows what is done; what was refused is taken again with all behind it.
    fn settle(&mut self) {
        while self.flights.front() == Some(&Flight::Done) {
            self.flights.pop_front();
            self.progress += 1;
        }
        if self.is_settled() && !self.flights.is_empty() {
            if self.flights.contains(&Flight::Done) {
                crate::rt::probe!("schedule: delivered behind a refused one, and again");
            }
            self.flights.clear();
        }
    }
}

/// A state that is written once everything below `end` of the log is on disk.
#[derive(Clone, Debug)]
struct Held {
    end: u64,
    changes: u64,
    text: String,
}

/// The cursors of all levels.
#[derive(Debug)]
pub struct Schedule {
    options: ScheduleOptions,
    levels_ms: Vec<i64>,
    /// By queue.
    levels: BTreeMap<u32, Level>,
    /// Rows of the file that are no level and no queue.
    others: BTreeMap<i32, i64>,
    /// Queue and offset by ticket.
    flights: Tickets<(u32, u64)>,
    /// The queue that was looked at last.
    last: u32,
    changes: u64,
    saved: u64,
    held: Option<Held>,
}

impl Schedule {
    pub fn new(options: &ScheduleOptions, levels_ms: &[i64]) -> Self {
        let level = |(queue, delay): (usize, &i64)| (queue as u32, Level::new(Some(*delay)));
        Schedule {
            options: options.clone(),
            levels_ms: levels_ms.to_vec(),
            levels: levels_ms.iter().enumerate().map(level).collect(),
            others: BTreeMap::new(),
            flights: Tickets::default(),
            last: 0,
            changes: 0,
            saved: 0,
            held: None,
        }
    }

    /// Takes the queues of the schedule topic as they are after recovery, and what the file says.
    /// A cursor outside of its queue is moved into it. Returns how many were.
    /// Source: ScheduleMessageService#correctDelayOffset (4.9.3).
    pub fn restore(
        &mut self,
        file: DelayOffsets,
        queues: impl Iterator<Item = (QueueId, QueueOffset, QueueOffset)>,
    ) -> usize {
        let mut rows = file.offset_table;
        let mut corrected = 0;
        for (queue, min, end) in queues {
            let level = self.levels.entry(queue.0).or_insert_with(|| Level::new(None));
            let row = i32::try_from(queue.0 + 1).ok().and_then(|row| rows.remove(&row));
            let row = row.map_or(0, |at| u64::try_from(at).unwrap_or(0));
            level.progress = row.clamp(min.0, end.0.max(min.0));
            level.end = end.0;
            corrected += usize::from(level.progress != row && row > 0);
        }
        // A queue that is gone begins at 0 again.
        let is_known =
            |row: &i32| u32::try_from(*row - 1).is_ok_and(|q| self.levels.contains_key(&q));
        corrected += rows.iter().filter(|(row, at)| is_known(row) && **at > 0).count();
        rows.retain(|row, _| !is_known(row));
        self.others = rows;
        self.changes += u64::from(corrected > 0);
        corrected
    }

    /// How far a master was, on a slave, which delivers nothing itself.
    /// Source: SlaveSynchronize#syncDelayOffset (4.9.3).
    pub fn take_over(
        &mut self,
        file: DelayOffsets,
        queues: impl Iterator<Item = (QueueId, QueueOffset, QueueOffset)>,
    ) {
        let before: Vec<_> = self.table().collect();
        self.restore(file, queues);
        if self.table().collect::<Vec<_>>() != before {
            self.changes += 1;
        }
    }

    /// The level that a message with this DELAY is kept at; `None` for one that is not delayed.
    pub fn level_of(&self, delay: i32) -> Option<u32> {
        rewrite::clamp(delay, self.levels_ms.len())
    }

    /// Queues that hold messages of a level which is not in the table.
    pub fn unknown_queues(&self) -> impl Iterator<Item = QueueId> {
        let unknown = |(queue, level): (&u32, &Level)| {
            (level.delay_ms.is_none() && level.progress < level.end).then_some(QueueId(*queue))
        };
        self.levels.iter().filter_map(unknown)
    }

    /// A message became visible in a queue of the schedule topic. True: the driver should look.
    pub fn on_arrival(&mut self, queue: QueueId, end: QueueOffset, now: Mono) -> bool {
        let level = self.levels.entry(queue.0).or_insert_with(|| Level::new(None));
        level.end = level.end.max(end.0);
        level.arrived = end.0;
        let is_idle = level.look_at.is_none() && level.is_free();
        if is_idle {
            level.look_at = Some(now);
        }
        is_idle
    }

    pub fn next_deadline(&self) -> Option<Mono> {
        self.levels.values().filter(|level| level.is_free()).filter_map(|level| level.look_at).min()
    }

    /// The next queue to read, each in its turn; `on_turn_end` ends the look.
    pub fn next_look(&mut self, now: Mono, wall: WallMillis) -> Option<Look> {
        let (options, last) = (&self.options, self.last);
        let mut order: Vec<(&u32, &mut Level)> =
            self.levels.iter_mut().filter(|(_, level)| level.is_late(now)).collect();
        let pivot = order.partition_point(|(queue, _)| **queue <= last);
        order.rotate_left(pivot);
        for (queue, level) in order {
            if let Some(at) = level.head
                && !level.is_due(at, wall)
            {
                level.look_at = Some(now + wait(at, wall));
                continue;
            }
            (level.head, level.look_at, level.is_read) = (None, None, true);
            level.arrived = 0;
            self.last = *queue;
            let from = QueueOffset(level.next());
            return Some(Look { queue: QueueId(*queue), from, count: options.turn_count_max });
        }
        None
    }

    /// The entries that the look found. What is due is to be read and sent in this order, and each
    /// one told: `on_sent`, `on_stepped_over`, or `on_refused`, behind which nothing is sent.
    pub fn on_entries(
        &mut self,
        look: &Look,
        slice: &QueueSlice,
        now: Mono,
        wall: WallMillis,
    ) -> Turn {
        let (count_max, size_max) = (self.options.turn_count_max, self.options.turn_bytes_max);
        let mut turn = Turn::default();
        let Some(level) = self.levels.get_mut(&look.queue.0) else { return turn };
        // A store whose log failed shows less than it did: what is hidden is not to be looked for.
        level.end = slice.end.0.max(level.arrived);
        if look.from < slice.min || look.from > slice.end {
            // Retention took what was not delivered, or the queue began anew.
            turn.lost = slice.min.0.saturating_sub(look.from.0);
            level.progress = look.from.0.clamp(slice.min.0, slice.end.0.max(slice.min.0));
            level.end = slice.end.0;
            self.changes += 1;
            level.look_at = Some(now);
            return turn;
        }
        let mut size = 0;
        for (offset, unit) in (look.from.0..).zip(&slice.units) {
            let at = WallMillis(unit.tags_code);
            let is_real = !unit.is_blank() && !unit.is_empty();
            if is_real && !level.is_due(at, wall) {
                level.head = Some(at);
                level.look_at = Some(now + wait(at, wall));
                break;
            }
            let unit_size = if is_real { unit.size as usize } else { 0 };
            if turn.due.len() >= count_max || (size > 0 && size + unit_size > size_max) {
                break;
            }
            size += unit_size;
            turn.due.push(Due { offset: QueueOffset(offset), unit: *unit });
        }
        if slice.units.is_empty() && look.from < slice.end {
            // Its file is not there; the next start makes it again.
            level.failures += 1;
            level.look_at = Some(now + pause(&self.options, level.failures));
        }
        turn
    }

    /// The store took a delivery: its outcome comes with this ticket.
    pub fn on_sent(&mut self, queue: QueueId, due: &Due) {
        self.flights.insert((queue.0, due.offset.0));
        if let Some(level) = self.levels.get_mut(&queue.0) {
            level.flights.push_back(Flight::Sent);
        }
    }

    /// The ticket that the next `on_sent` uses.
    pub fn next_ticket(&self) -> u64 {
        self.flights.next()
    }

    /// A record that can never be delivered is left behind.
    pub fn on_stepped_over(&mut self, queue: QueueId) {
        if let Some(level) = self.levels.get_mut(&queue.0) {
            level.failures = 0;
            level.flights.push_back(Flight::Done);
        }
    }

    /// What comes next cannot be read or sent now. Returns how often in a row.
    pub fn on_refused(&mut self, queue: QueueId, now: Mono) -> u32 {
        let Some(level) = self.levels.get_mut(&queue.0) else { return 0 };
        level.failures = level.failures.saturating_add(1);
        level.head = None;
        level.look_at = Some(now + pause(&self.options, level.failures));
        level.failures
    }

    /// What comes next could be read.
    pub fn on_read(&mut self, queue: QueueId) {
        if let Some(level) = self.levels.get_mut(&queue.0) {
            level.read_failures = 0;
        }
    }

    /// What comes next cannot be read now. Returns how often in a row nothing went on.
    pub fn on_unreadable(&mut self, queue: QueueId, now: Mono) -> u32 {
        if let Some(level) = self.levels.get_mut(&queue.0) {
            level.read_failures = level.read_failures.saturating_add(1);
        }
        self.on_refused(queue, now)
    }

    /// How often in a row what comes next could not be read: refusals of the store do not count.
    pub fn read_failures(&self, queue: QueueId) -> u32 {
        self.levels.get(&queue.0).map_or(0, |level| level.read_failures)
    }

    /// Everything of the look was told. True: there is more to look at now.
    pub fn on_turn_end(&mut self, queue: QueueId, now: Mono) -> bool {
        let Some(level) = self.levels.get_mut(&queue.0) else { return false };
        level.is_read = false;
        let before = level.progress;
        level.settle();
        self.changes += u64::from(level.progress != before);
        let is_more = level.next() < level.end;
        if level.flights.is_empty() && level.look_at.is_none() && is_more {
            level.look_at = Some(now);
        }
        level.look_at.is_some_and(|at| at <= now)
    }

    /// The store says what became of a delivery. `is_kept`: it is in the log and will be visible,
    /// even if no sync has covered it yet. True: the driver should look.
    pub fn on_outcome(&mut self, ticket: u64, is_kept: bool, now: Mono) -> bool {
        let Some((queue, offset)) = self.flights.take(ticket) else { return false };
        let Some(level) = self.levels.get_mut(&queue) else { return false };
        let at = offset.checked_sub(level.progress).and_then(|at| usize::try_from(at).ok());
        let Some(flight) = at.and_then(|at| level.flights.get_mut(at)) else { return false };
        *flight = if is_kept { Flight::Done } else { Flight::Refused };
        level.failures = if is_kept { 0 } else { level.failures.saturating_add(1) };
        let before = level.progress;
        level.settle();
        self.changes += u64::from(level.progress != before);
        if !is_kept {
            level.head = None;
            level.look_at = Some(now + pause(&self.options, level.failures));
        }
        if !level.is_free() {
            return false;
        }
        if level.look_at.is_none() && level.next() < level.end {
            level.look_at = Some(now);
        }
        level.look_at.is_some()
    }

    /// How far each level is: level, next offset, end of its queue.
    pub fn rows(&self) -> impl Iterator<Item = (u32, u64, u64)> {
        let is_told = |level: &Level| level.progress > 0 || level.end > 0;
        let told = self.levels.iter().filter(move |(_, level)| is_told(level));
        told.map(|(queue, level)| (queue + 1, level.progress, level.end))
    }

    fn table(&self) -> impl Iterator<Item = (i64, i64)> {
        let moved = self.levels.iter().filter(|(_, level)| level.progress > 0);
        let rows = moved.map(|(q, l)| (i64::from(*q) + 1, i64::try_from(l.progress).unwrap_or(0)));
        rows.chain(self.others.iter().map(|(row, at)| (i64::from(*row), *at)))
    }

    /// The text of `delayOffset.json`.
    pub fn to_json(&self) -> String {
        let mut out = JsonWriter::new();
        out.open(None);
        out.int_map("offsetTable", self.table());
        out.close();
        out.finish()
    }

    /// The text that may be saved now and the change it holds; `None` when there is no news, or
    /// when what there is may still be lost. `written` and `synced` are positions of the log.
    pub fn to_save(&mut self, written: u64, synced: u64) -> Option<(u64, String)> {
        let is_news = self.saved < self.changes;
        if is_news && (synced >= written || self.held.is_none()) {
            self.held = Some(Held { end: written, changes: self.changes, text: self.to_json() });
        }
        let held = self.held.as_ref().filter(|held| held.end <= synced)?;
        Some((held.changes, held.text.clone()))
    }

    /// Something waits only for the log to be synced.
    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// The number of the newest change.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    pub fn on_saved(&mut self, changes: u64) {
        self.saved = self.saved.max(changes);
        if self.held.as_ref().is_some_and(|held| held.changes <= changes) {
            self.held = None;
        }
    }
}

fn wait(at: WallMillis, now: WallMillis) -> Duration {
    let ms = u64::try_from(at.0.saturating_sub(now.0)).unwrap_or(0);
    Duration::from_millis(ms).min(LOOK_INTERVAL)
}

/// Grows from the first pause to the longest one.
fn pause(options: &ScheduleOptions, failures: u32) -> Duration {
    let factor = 1 << failures.saturating_sub(1).min(16);
    options.retry_pause.saturating_mul(factor).min(options.retry_pause_max)
}

#[cfg(test)]
mod tests;
