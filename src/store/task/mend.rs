//! Entries that a queue file has lost are made again from the log, when a read meets the hole.
//!
//! A queue file has no checksum, but an entry that was written is never zeros. Recovery looks at
//! the end of every queue only, so that a start stays quick; holes further down are met here.
//! Differs: RocketMQ ends its recovery at a hole, or skips over it at every pull (W-23).

use super::cold_read::entries;
use super::{queue_file, search};
use crate::format::consume_queue_unit::{QueueUnit, SIZE};
use crate::format::message_unit::{self, Unit, View};
use crate::model::{PhysicalOffset, QueueKey, sys_flag};
use crate::rt::task::yield_now;
use crate::store::consume_queue::Slot;
use crate::store::dispatch;
use crate::store::queue_files;
use crate::store::shared::{Shared, bounds_of};
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

/// Entries looked at in one step.
const STEP_ENTRIES: u64 = 512;
/// What a disk writes whole or not at all. Units: bytes.
const SECTOR_SIZE: u64 = 512;
const EMPTY: QueueUnit = QueueUnit { physical_offset: PhysicalOffset(0), size: 0, tags_code: 0 };
/// Records looked at before other tasks run.
const TURN_RECORDS: u64 = 64;

/// What lies round a hole: entries that may be wrong, and where in the log their records are.
struct Hole {
    entries: Range<u64>,
    physical: Range<u64>,
}

/// Makes the entries round `at`, which is empty, what the log says. An entry whose record is not
/// found becomes blank: nobody looks for it again.
pub async fn mend(shared: &Shared, key: &QueueKey, slot: Slot, at: u64) -> io::Result<()> {
    let Some(hole) = hole(shared, key, slot, at).await? else { return Ok(()) };
    let found = search_log(shared, key, &hole).await?;
    let _permit = shared.queue_dirs.acquire().await.map_err(io::Error::other)?;
    if bounds_of(&shared.state.lock(), key).0 != Some(slot) {
        return Ok(()); // the topic was deleted meanwhile
    }
    // The hole shows until all else is on disk: a power loss may keep half of what is written.
    let mut shows = None;
    let mut next = hole.entries.start;
    while next < hole.entries.end {
        let count = STEP_ENTRIES.min(hole.entries.end - next);
        let mut units = entries(shared, key, slot, next, count as usize).await?;
        if units.is_empty() {
            break;
        }
        for (offset, unit) in (next..).zip(&mut units) {
            let was_empty = unit.is_empty();
            match found.get(&offset) {
                Some(right) => *unit = *right,
                None if unit.is_empty() => *unit = QueueUnit::BLANK,
                None => {}
            }
            if was_empty && shows.is_none() && is_in_one_sector(shared, offset) {
                shows = Some((offset, std::mem::replace(unit, EMPTY)));
            }
        }
        write(shared, key, slot, next, &units)?;
        next += units.len() as u64;
    }
    sync(shared, key, slot, &hole.entries).await?;
    if let Some((offset, unit)) = shows {
        write(shared, key, slot, offset, &[unit])?;
        sync(shared, key, slot, &(offset..offset + 1)).await?;
    }
    crate::rt::probe!("store: entries were made again from the log (W-23)");
    tracing::warn!(
        "consume queue {}/{} had lost entries {} to {}: made again from the log",
        key.topic,
        key.queue,
        hole.entries.start,
        hole.entries.end
    );
    shared.state.lock().derived_errors += 1;
    Ok(())
}

/// From the last entry before `at` that leads to its record to the first one after it.
async fn hole(shared: &Shared, key: &QueueKey, slot: Slot, at: u64) -> io::Result<Option<Hole>> {
    let (min, log_min, end, visible) = {
        let state = shared.state.lock();
        let Some(queue) = state.queues.get(slot) else { return Ok(None) };
        // What is in memory is right, and written from there.
        let end = queue.in_files.min(queue.base());
        (queue.min, state.segments.first(), end, state.flush.visible())
    };
    let mut hole = Hole { entries: min..end, physical: log_min..visible };
    let mut before = at;
    'down: while before > min {
        let from = before.saturating_sub(STEP_ENTRIES).max(min);
        // A read ends with its file.
        let mut units = Vec::new();
        while from + (units.len() as u64) < before {
            let have = from + units.len() as u64;
            let more = entries(shared, key, slot, have, (before - have) as usize).await?;
            if more.is_empty() {
                break 'down;
            }
            units.extend(more);
        }
        for (n, unit) in units.iter().enumerate().rev() {
            let offset = from + n as u64;
            if leads(shared, key, offset, unit).await? {
                hole.entries.start = offset;
                hole.physical.start = unit.physical_offset.0;
                break 'down;
            }
        }
        before = from;
    }
    let mut after = at;
    'up: while after < end {
        let count = STEP_ENTRIES.min(end - after) as usize;
        let units = entries(shared, key, slot, after, count).await?;
        if units.is_empty() {
            break;
        }
        for (offset, unit) in (after..).zip(&units) {
            if leads(shared, key, offset, unit).await? {
                hole.entries.end = offset;
                hole.physical.end = unit.physical_offset.0;
                break 'up;
            }
        }
        after += units.len() as u64;
    }
    Ok(Some(hole))
}

/// Whether an entry leads to the record of its queue and offset.
async fn leads(shared: &Shared, key: &QueueKey, offset: u64, unit: &QueueUnit) -> io::Result<bool> {
    if unit.is_empty() || unit.is_blank() {
        return Ok(false);
    }
    let at = unit.physical_offset;
    let Some(bytes) = search::record_at(shared, at.0).await? else { return Ok(false) };
    Ok(matches!(
        message_unit::decode(&bytes, at, false),
        // Half an entry may be lost where a page ends: all of it is compared.
        Ok(Unit::Record(record)) if unit_of(shared, &record, at) == *unit
            && record.topic() == &*key.topic
            && record.queue_id() == key.queue
            && record.queue_offset().0 == offset
    ))
}

/// The entries of the queue's records in a part of the log.
async fn search_log(
    shared: &Shared,
    key: &QueueKey,
    hole: &Hole,
) -> io::Result<BTreeMap<u64, QueueUnit>> {
    let (floor, size) = {
        let state = shared.state.lock();
        (state.topic_floors.of(&key.topic), state.segments.size())
    };
    let mut found = BTreeMap::new();
    let mut at = hole.physical.start;
    let mut looked = 0;
    while at < hole.physical.end {
        looked += 1;
        if looked % TURN_RECORDS == 0 {
            yield_now().await;
        }
        let Some(bytes) = search::record_at(shared, at).await? else {
            // The rest of a segment is blank, or cannot be read.
            at += size - at % size;
            continue;
        };
        if let Ok(Unit::Record(record)) = message_unit::decode(&bytes, PhysicalOffset(at), false)
            && at >= floor
            && record.topic() == &*key.topic
            && record.queue_id() == key.queue
            && sys_flag::is_queued(record.sys_flag())
        {
            let unit = unit_of(shared, &record, PhysicalOffset(at));
            found.insert(record.queue_offset().0, unit);
        }
        at += bytes.len() as u64;
    }
    Ok(found)
}

fn unit_of(shared: &Shared, record: &View<'_>, at: PhysicalOffset) -> QueueUnit {
    let dispatch = record.dispatch();
    QueueUnit {
        physical_offset: at,
        size: record.size() as u32,
        tags_code: dispatch::tags_code_of(&dispatch, &shared.options.delay_levels_ms),
    }
}

fn write(
    shared: &Shared,
    key: &QueueKey,
    slot: Slot,
    from: u64,
    units: &[QueueUnit],
) -> io::Result<()> {
    for part in queue_files::parts(&shared.options, from, units.len()) {
        let file = queue_file::open(shared, key, slot, part.base)?;
        shared.state.lock().dirty_files.insert((slot, part.base));
        file.write_at(part.at, &queue_files::encode(&units[part.entries.clone()]))?;
    }
    Ok(())
}

fn is_in_one_sector(shared: &Shared, offset: u64) -> bool {
    let (_, at) = queue_files::place(&shared.options, offset);
    at / SECTOR_SIZE == (at + SIZE as u64 - 1) / SECTOR_SIZE
}

/// Durable on return: these entries.
async fn sync(shared: &Shared, key: &QueueKey, slot: Slot, entries: &Range<u64>) -> io::Result<()> {
    let count = (entries.end - entries.start) as usize;
    for part in queue_files::parts(&shared.options, entries.start, count) {
        queue_file::open(shared, key, slot, part.base)?.sync_data().await?;
    }
    Ok(())
}
