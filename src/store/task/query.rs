//! Queries by key.
//!
//! Source: DefaultMessageStore#queryMessage, IndexFile#selectPhyOffset (4.9.3).
//! Differs: a record is returned only when it has the key and its own store time lies in the
//! range; no file and no chain is given up for its times alone, which a clock step makes wrong;
//! a record is returned once.

use super::index_files;
use super::search::record_at;
use crate::format::index_file::{ENTRY_SIZE, IndexEntry, SLOT_SIZE, Shape, TopicHash};
use crate::format::message_unit::{self, Unit};
use crate::model::{PhysicalOffset, WallMillis};
use crate::rt::task::yield_now;
use crate::store::index::{IndexFile, Time, has_key, is_in_time};
use crate::store::query::{Queried, Query};
use crate::store::shared::Shared;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io;

/// Entries are read in blocks of so many: about a page.
const BLOCK_ENTRIES: u32 = 200;

/// A chain is left after so many entries in a row from before the range.
const OLD_MAX: u32 = 4096;

/// Steps between two chances for others.
const TURN_STEPS: u32 = 64;

/// Errors: the device's, when nothing was found because of it.
pub async fn by_key(shared: &Shared, query: &Query<'_>) -> io::Result<Queried> {
    caught_up(shared).await;
    let (files, shape) = {
        let index = shared.index.lock();
        (index.files().collect::<Vec<_>>(), index.shape)
    };
    let newest = files.first().map(|file| file.header);
    let mut walk = Walk {
        shared,
        query,
        shape,
        hash: TopicHash::new(query.topic).key(query.key.as_bytes()),
        found: BTreeMap::new(),
        size: 0,
        steps: 0,
        block: (0, 0, Bytes::new()),
        failed: None,
    };
    for file in &files {
        if walk.is_done() {
            break;
        }
        if let Err(error) = walk.file(file).await {
            walk.failed(error);
        }
    }
    let complete = walk.steps < shared.options.query_steps_max && walk.failed.is_none();
    let records: Vec<Bytes> = walk.found.into_values().rev().collect();
    match walk.failed {
        Some(error) if records.is_empty() => Err(error),
        _ => Ok(Queried {
            records,
            last_timestamp: newest.map_or(WallMillis(0), |header| header.end_timestamp),
            last_physical: newest.map_or(PhysicalOffset(0), |header| header.end_physical),
            complete,
        }),
    }
}

/// Waits until what is visible now is indexed; not for ever.
async fn caught_up(shared: &Shared) {
    if !shared.options.index_enabled {
        return;
    }
    let target = shared.state.lock().flush.visible();
    let until = shared.clock.mono() + shared.options.query_wait;
    let wait = async {
        loop {
            let moved = shared.index_moved.notified();
            let mut moved = std::pin::pin!(moved);
            moved.as_mut().enable();
            {
                let mut index = shared.index.lock();
                let is_there = index.ready && index.cursor.at >= target;
                if is_there || shared.state.lock().poison.is_some() {
                    return;
                }
                index.asked = true;
            }
            shared.index_work.notify_one();
            moved.await;
        }
    };
    if shared.clock.before(until, wait).await.is_none() {
        crate::rt::probe!("store: a query did not wait for the index any longer");
        let at = shared.index.lock().cursor.at;
        tracing::warn!("a query is answered from an index that ends at {at}, the log at {target}");
    }
}

struct Walk<'a> {
    shared: &'a Shared,
    query: &'a Query<'a>,
    shape: Shape,
    hash: u32,
    /// By physical offset.
    found: BTreeMap<u64, Bytes>,
    /// Units: bytes found.
    size: usize,
    /// Entries looked at, files too.
    steps: u32,
    /// The file, the number of the first entry, and the bytes that were read last.
    block: (u64, u32, Bytes),
    failed: Option<io::Error>,
}

impl Walk<'_> {
    fn is_done(&self) -> bool {
        let options = &self.shared.options;
        self.found.len() >= self.query.count_max
            || self.size >= options.query_size_max_bytes
            || self.steps >= options.query_steps_max
    }

    fn failed(&mut self, error: io::Error) {
        tracing::warn!("a query could not read: {error}");
        self.shared.state.lock().derived_errors += 1;
        self.failed.get_or_insert(error);
    }

    /// Follows the chain of the key's slot, newest entry first.
    async fn file(&mut self, file: &IndexFile) -> io::Result<()> {
        self.steps += 1;
        let (mut number, mut old) = (self.slot(file).await?, 0);
        let (begin, end) = (self.query.begin, self.query.end);
        while number > 0 && number < file.header.count && old < OLD_MAX && !self.is_done() {
            self.steps += 1;
            if self.steps.is_multiple_of(TURN_STEPS) {
                yield_now().await;
            }
            let Some(entry) = self.entry(file, number).await? else { break };
            // The first entry's time counts from the end of the file before.
            let time = match number {
                1 => Time::Within,
                _ => is_in_time(&file.header, &entry, begin, end),
            };
            match time {
                Time::Within if entry.hash == self.hash => {
                    old = 0;
                    if let Err(error) = self.record(entry.physical).await {
                        self.failed(error);
                    }
                }
                Time::Before => old += 1,
                Time::Within | Time::After => {}
            }
            // A chain goes backwards; one that does not is torn.
            number = if entry.previous < number { entry.previous } else { 0 };
        }
        Ok(())
    }

    async fn slot(&self, file: &IndexFile) -> io::Result<u32> {
        let slot = self.shape.slot_of(self.hash);
        {
            let index = self.shared.index.lock();
            let active = index.active.as_ref().filter(|active| active.file.name == file.name);
            if let Some(known) = active.and_then(|active| active.slots.find(slot)) {
                return Ok(known);
            }
        }
        let handle = index_files::open(self.shared, file.name)?;
        let bytes = handle.read(self.shape.slot_at(slot), SLOT_SIZE).await?;
        Ok(bytes.first_chunk().map_or(0, |slot| u32::from_be_bytes(*slot)))
    }

    async fn entry(&mut self, file: &IndexFile, number: u32) -> io::Result<Option<IndexEntry>> {
        let mut limit = file.header.count;
        if let Some(active) = &self.shared.index.lock().active
            && active.file.name == file.name
        {
            if let Some(entry) = active.entry(number) {
                return Ok(Some(*entry));
            }
            limit = active.written;
        }
        let (name, first, bytes) = &self.block;
        let in_block = number.checked_sub(*first).filter(|_| *name == file.name);
        let at = |skip: u32| skip as usize * ENTRY_SIZE;
        if let Some(entry) = in_block.and_then(|skip| bytes.get(at(skip)..at(skip + 1))) {
            return Ok(IndexEntry::decode(entry));
        }
        // The entries before it: a chain goes there.
        let first = number.saturating_sub(BLOCK_ENTRIES - 1).max(1);
        let count = limit.min(number + 1).saturating_sub(first);
        let handle = index_files::open(self.shared, file.name)?;
        let bytes = handle.read(self.shape.entry_at(first), at(count)).await?;
        self.block = (file.name, first, bytes);
        let entry = self.block.2.get(at(number - first)..);
        Ok(entry.and_then(IndexEntry::decode))
    }

    /// Takes the record when it is what was asked for.
    async fn record(&mut self, at: PhysicalOffset) -> io::Result<()> {
        if self.found.contains_key(&at.0) {
            return Ok(());
        }
        let Some(bytes) = record_at(self.shared, at.0).await? else { return Ok(()) };
        let Ok(Unit::Record(record)) = message_unit::decode(&bytes, at, false) else {
            return Ok(());
        };
        let stored = record.store_timestamp();
        let in_time = self.query.begin <= stored && stored <= self.query.end;
        if in_time && has_key(&record, self.query.topic, self.query.key) {
            self.size += bytes.len();
            self.found.insert(at.0, bytes);
        }
        Ok(())
    }
}
