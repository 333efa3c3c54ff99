//! Single records: by position, and by store time.

use super::cold_read::entries;
use crate::format::consume_queue_unit::QueueUnit;
use crate::format::message_unit::{self, Unit};
use crate::model::{PhysicalOffset, QueueKey, QueueOffset, WallMillis};
use crate::store::commit_log::LastRecord;
use crate::store::consume_queue::Slot;
use crate::store::read::QueueSlice;
use crate::store::shared::{Shared, bounds_of};
use bytes::Bytes;
use std::io;

/// Source: ConsumeQueue#getOffsetInQueueByTime (4.9.3).
/// Differs: all files are searched as one, the file's time of change plays no part.
pub async fn by_time(shared: &Shared, key: &QueueKey, at: WallMillis) -> io::Result<u64> {
    let (slot, bounds) = bounds_of(&shared.state.lock(), key);
    let Some(slot) = slot.filter(|_| bounds.end > 0) else { return Ok(0) };
    let (mut low, mut high) = (bounds.min, bounds.end);
    let mut left: Option<(u64, i64)> = None;
    let mut right: Option<(u64, i64)> = None;
    while low < high {
        let middle = low + (high - 1 - low) / 2;
        let unit = entry(shared, key, slot, middle).await?;
        let gone = unit.is_none_or(|u| u.is_blank() || u.physical_offset.0 < bounds.log_min);
        let Some(unit) = unit.filter(|_| !gone) else {
            low = middle + 1;
            continue;
        };
        let Some(stored) = stored_at(shared, &unit).await? else { return Ok(0) };
        if stored == at {
            return Ok(middle);
        } else if stored > at {
            high = middle;
            right = Some((middle, stored.0));
        } else {
            low = middle + 1;
            left = Some((middle, stored.0));
        }
    }
    Ok(match (left, right) {
        (None, None) => bounds.min,
        (Some((left, _)), None) => left,
        (None, Some((right, _))) => right,
        (Some((left, before)), Some((right, after))) => {
            let (before, after) = (at.0.abs_diff(before), after.abs_diff(at.0));
            if before > after { right } else { left }
        }
    })
}

pub async fn store_time_of(
    shared: &Shared,
    key: &QueueKey,
    offset: u64,
) -> io::Result<Option<WallMillis>> {
    match located(shared, key, offset).await? {
        Some(unit) => stored_at(shared, &unit).await,
        None => Ok(None),
    }
}

pub async fn is_cold(shared: &Shared, key: &QueueKey, offset: u64) -> io::Result<bool> {
    let unit = located(shared, key, offset).await?;
    let visible = shared.state.lock().flush.visible();
    let memory = shared.options.memory_size_bytes;
    Ok(unit.is_some_and(|unit| visible.saturating_sub(unit.physical_offset.0) > memory))
}

pub async fn slice(
    shared: &Shared,
    key: &QueueKey,
    from: u64,
    count: usize,
) -> io::Result<QueueSlice> {
    let (slot, bounds) = bounds_of(&shared.state.lock(), key);
    let (min, end) = (QueueOffset(bounds.min), QueueOffset(bounds.end));
    let left = usize::try_from(bounds.end.saturating_sub(from)).unwrap_or(usize::MAX);
    let units = match slot {
        Some(slot) if bounds.min <= from && left > 0 => {
            entries(shared, key, slot, from, count.min(left)).await?
        }
        _ => Vec::new(),
    };
    Ok(QueueSlice { min, end, units })
}

/// The entry of a visible message.
async fn located(shared: &Shared, key: &QueueKey, offset: u64) -> io::Result<Option<QueueUnit>> {
    let (slot, bounds) = bounds_of(&shared.state.lock(), key);
    match slot {
        Some(slot) if bounds.min <= offset && offset < bounds.end => {
            entry(shared, key, slot, offset).await
        }
        _ => Ok(None),
    }
}

async fn entry(
    shared: &Shared,
    key: &QueueKey,
    slot: Slot,
    offset: u64,
) -> io::Result<Option<QueueUnit>> {
    Ok(entries(shared, key, slot, offset, 1).await?.first().copied())
}

/// Source: CommitLog#pickupStoreTimestamp (4.9.3).
pub async fn stored_at(shared: &Shared, unit: &QueueUnit) -> io::Result<Option<WallMillis>> {
    let at = unit.physical_offset;
    Ok(match record_at(shared, at.0).await? {
        Some(bytes) => match message_unit::decode(&bytes, at, false) {
            Ok(Unit::Record(record)) => Some(record.store_timestamp()),
            _ => None,
        },
        None => None,
    })
}

/// The visible record that begins at `at`.
pub async fn record_at(shared: &Shared, at: u64) -> io::Result<Option<Bytes>> {
    let visible = shared.state.lock().visible();
    record_below(shared, at, visible).await
}

/// The same without a disk; `None` also when memory does not hold it.
pub fn record_in_memory(shared: &Shared, at: u64) -> Option<Bytes> {
    let state = shared.state.lock();
    let head = state.cache.find(at, 4, &mut 0)?;
    let size = head.first_chunk::<4>().map_or(0, |size| u32::from_be_bytes(*size));
    if at.saturating_add(u64::from(size)) > state.visible() {
        return None;
    }
    let bytes = state.cache.find(at, size as usize, &mut 0)?;
    drop(state);
    let found = message_unit::decode(&bytes, PhysicalOffset(at), false);
    let is_record = matches!(found, Ok(Unit::Record(record)) if record.size() == bytes.len());
    is_record.then_some(bytes)
}

/// When the visible record that begins at `at` was stored; `None` when none begins there.
pub async fn stored_at_offset(shared: &Shared, at: u64) -> io::Result<Option<WallMillis>> {
    let found = record_at(shared, at).await?;
    Ok(found.and_then(|bytes| match message_unit::decode(&bytes, PhysicalOffset(at), false) {
        Ok(Unit::Record(record)) => Some(record.store_timestamp()),
        _ => None,
    }))
}

/// The first entry of a queue whose record lies at `log_min` or behind, and where. Everything below
/// `low` is gone, entry `high` is not.
/// Source: ConsumeQueue#correctMinOffset (4.9.3). Differs: all files are searched (W-31).
pub async fn first_kept(
    shared: &Shared,
    key: &QueueKey,
    slot: Slot,
    (low, high): (u64, u64),
    log_min: u64,
) -> io::Result<(u64, u64)> {
    /// Entries read at a time: damaged ones are stepped over.
    const STEP: u64 = 64;
    let (mut low, mut high, mut physical) = (low, high, log_min);
    while low < high {
        let middle = low + (high - low) / 2;
        let mut at = middle;
        let mut kept = None;
        while at < high && kept.is_none() {
            let count = STEP.min(high - at);
            let found = entries(shared, key, slot, at, count as usize).await?;
            if found.is_empty() {
                // The file is not there: nothing in it can be read.
                let per_file = shared.options.queue_file_entries;
                at = high.min(at + per_file - at % per_file);
                kept = Some(false);
                break;
            }
            let real = found.iter().position(|unit| !unit.is_blank() && !unit.is_empty());
            at += real.unwrap_or(found.len()) as u64;
            kept = real.map(|real| found[real].physical_offset.0 >= log_min);
            if let (Some(true), Some(real)) = (kept, real) {
                physical = found[real].physical_offset.0;
            } else if kept.is_some() {
                at += 1;
            }
        }
        if kept == Some(false) { low = at } else { high = middle }
    }
    Ok((low, physical))
}

/// The record that begins at `at` and ends at or below `limit`.
pub async fn record_below(shared: &Shared, at: u64, limit: u64) -> io::Result<Option<Bytes>> {
    let Some(size) = fetch(shared, at, 4, limit).await? else { return Ok(None) };
    let size = size.first_chunk::<4>().map_or(0, |size| u32::from_be_bytes(*size));
    let Some(bytes) = fetch(shared, at, size as usize, limit).await? else { return Ok(None) };
    let is_record = matches!(
        message_unit::decode(&bytes, PhysicalOffset(at), false),
        Ok(Unit::Record(record)) if record.size() == bytes.len()
    );
    Ok(is_record.then_some(bytes))
}

/// Bytes of the log; `None` when the range does not lie within one segment below `limit`.
async fn fetch(shared: &Shared, at: u64, size: usize, limit: u64) -> io::Result<Option<Bytes>> {
    let (base, file) = {
        let mut state = shared.state.lock();
        let base = state.segments.base_of(at);
        let end = at.saturating_add(size as u64);
        if end > limit.min(base + state.segments.size()) || !state.segments.holds(at) {
            return Ok(None);
        }
        if let Some(bytes) = state.cache.find(at, size, &mut 0) {
            return Ok(Some(bytes));
        }
        (base, state.segments.file(&*shared.disk, at)?)
    };
    file.read(at - base, size).await.map(Some)
}

/// Where the last record below `end` begins, and its CRC-32. `None` when it cannot be said.
pub async fn checksum(
    shared: &Shared,
    last: Option<LastRecord>,
    end: u64,
) -> io::Result<Option<(u64, u32)>> {
    let Some(last) = last else { return Ok((end == 0).then_some((end, 0))) };
    let bytes = record_below(shared, last.at, end).await?;
    Ok(bytes.map(|bytes| (last.at, crc32fast::hash(&bytes))))
}
