//! The key index as memory knows it: its files, the slots and newest entries of the last one, and
//! how far the log is indexed. No file is touched here.
//!
//! Source: IndexService#buildIndex, IndexFile#putKey (4.9.3).
//! Differs: the index follows the log by a cursor of its own, so that a missing, torn or refused
//! piece is made again from the log whenever that is possible (W-32, W-35).

pub mod mark;
pub mod name;
pub mod slots;

use crate::format::index_file::{Header, IndexEntry, Shape, TopicHash, tokens};
use crate::format::message_unit::{self, DecodeError, Unit, View};
use crate::format::properties;
use crate::model::{PhysicalOffset, WallMillis, sys_flag};
use mark::{Cursor, Mark};
use slots::Slots;

/// Entries are written when so many wait. Units: entries of 20 bytes.
const PENDING_MAX: usize = 16 << 10;

/// A file and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexFile {
    /// Its name as a number: local time of its creation.
    pub name: u64,
    pub header: Header,
}

/// The file that entries are added to; its header is ahead of the disk's.
pub struct Active {
    pub file: IndexFile,
    pub slots: Slots,
    /// Entries from this one on are in memory alone.
    pub written: u32,
    pending: Vec<IndexEntry>,
}

impl Active {
    /// A file whose entries are all on disk, as `header` says. `slots` are those in memory.
    pub fn new(name: u64, header: Header, slots: Slots) -> Self {
        let file = IndexFile { name, header };
        Active { file, slots, written: header.count, pending: Vec::new() }
    }

    /// Adds an entry. Errors: the page of slots that must be loaded first.
    fn put(
        &mut self,
        shape: &Shape,
        hash: u32,
        at: PhysicalOffset,
        stored: WallMillis,
    ) -> Result<(), u32> {
        let slot = shape.slot_of(hash);
        let previous = self.slots.find(slot).ok_or(slots::page_of(slot))?;
        let header = &mut self.file.header;
        let seconds = header.seconds_of(stored);
        self.pending.push(IndexEntry { hash, physical: at, seconds, previous });
        self.slots.set(slot, header.count);
        header.on_entry(at, stored, previous == 0);
        Ok(())
    }

    /// The entry, when it is in memory.
    pub fn entry(&self, number: u32) -> Option<&IndexEntry> {
        self.pending.get(number.checked_sub(self.written)? as usize)
    }

    /// The entries that wait to be written, encoded, and the number of the first.
    pub fn run(&self) -> (u32, Vec<u8>) {
        let bytes = self.pending.iter().flat_map(IndexEntry::encode).collect();
        (self.written, bytes)
    }

    /// The `count` oldest entries that waited are in the file.
    pub fn on_run_written(&mut self, count: usize) {
        self.pending.drain(..count);
        self.written += count as u32;
    }
}

/// What must be done before the index can go on, or why it stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fed {
    /// Every visible record in the bytes was taken.
    All,
    /// What lies at the cursor is no record.
    Bad,
    /// The segment ends here.
    Blank,
    /// There is no file, or it is full.
    File,
    /// The record at the cursor has this many bytes.
    More(usize),
    /// This page of slots must be loaded.
    Page(u32),
    /// Entries must be written.
    Run,
}

pub struct Index {
    pub shape: Shape,
    /// Oldest first; the one that is written is not among them.
    pub sealed: Vec<IndexFile>,
    pub active: Option<Active>,
    /// What is indexed.
    pub cursor: Cursor,
    /// What was last written about it.
    pub mark: Mark,
    /// The files were looked at.
    pub ready: bool,
    /// Somebody waits for the cursor.
    pub asked: bool,
}

impl Index {
    /// Nothing is known yet.
    pub fn new(shape: Shape) -> Self {
        Index {
            shape,
            sealed: Vec::new(),
            active: None,
            cursor: Cursor::default(),
            mark: Mark::default(),
            ready: false,
            asked: false,
        }
    }

    /// All files, newest first.
    pub fn files(&self) -> impl Iterator<Item = IndexFile> + '_ {
        let active = self.active.iter().map(|active| active.file);
        active.chain(self.sealed.iter().rev().copied())
    }

    pub fn last_name(&self) -> u64 {
        self.files().map(|file| file.name).max().unwrap_or(0)
    }

    /// Takes the records of `bytes`, which lie at the cursor, as far as they end at or below
    /// `limit`. To be called again with the rest when what it asks for is done.
    pub fn feed(&mut self, mut bytes: &[u8], limit: u64) -> Fed {
        while self.cursor.at < limit && !bytes.is_empty() {
            let record = match message_unit::decode(bytes, PhysicalOffset(self.cursor.at), false) {
                Ok(Unit::Record(record)) => record,
                Ok(Unit::Blank { .. }) => return Fed::Blank,
                Err(DecodeError::Truncated { need, .. }) => return Fed::More(need),
                Ok(Unit::End) | Err(_) => return Fed::Bad,
            };
            let end = self.cursor.at + record.size() as u64;
            if end > limit {
                return Fed::All;
            }
            if let Err(needed) = self.put_keys(&record) {
                return needed;
            }
            self.cursor = Cursor { at: end, keys_done: 0 };
            bytes = &bytes[record.size()..];
        }
        Fed::All
    }

    /// Differs: 4.9.3 skips a record below the file's end; the cursor never goes back.
    fn put_keys(&mut self, record: &View<'_>) -> Result<(), Fed> {
        let Index { shape, active, cursor, .. } = self;
        for hash in hashes(record).skip(cursor.keys_done as usize) {
            let active = active.as_mut().filter(|a| a.file.header.count < shape.entries);
            let active = active.ok_or(Fed::File)?;
            if active.pending.len() >= PENDING_MAX {
                return Err(Fed::Run);
            }
            let (at, stored) = (record.physical_offset(), record.store_timestamp());
            active.put(shape, hash, at, stored).map_err(Fed::Page)?;
            cursor.keys_done += 1;
        }
        Ok(())
    }

    /// Whether disk and mark differ from what is known here.
    pub fn is_dirty(&self) -> bool {
        self.ready && self.mark != self.settled()
    }

    /// The mark of everything that is known here.
    pub fn settled(&self) -> Mark {
        let last = self.files().next();
        let (name, header) = last.map_or((0, Header::FIRST), |file| (file.name, file.header));
        Mark { name, header, cursor: self.cursor, writing: None }
    }

    /// Takes the leading files out whose records all lie below `physical`, never the last one.
    /// Source: IndexService#deleteExpiredFile (4.9.3).
    pub fn drop_below(&mut self, physical: u64) -> Vec<IndexFile> {
        let below = self.sealed.iter().take_while(|f| f.header.end_physical.0 < physical).count();
        let keep = usize::from(self.active.is_none()).min(self.sealed.len());
        self.sealed.drain(..below.min(self.sealed.len() - keep)).collect()
    }
}

/// The hashes of a record's keys, in the order of their entries: the unique key, then KEYS. None
/// for a rollback record.
pub fn hashes<'a>(record: &View<'a>) -> impl Iterator<Item = u32> + use<'a> {
    let rollback = sys_flag::is_rollback(record.sys_flag());
    let seen = if rollback { Default::default() } else { properties::look_at(record.properties()) };
    let topic = TopicHash::new(record.topic());
    let keys = tokens(seen.keys.unwrap_or_default());
    seen.unique_key.into_iter().chain(keys).map(move |key| topic.key(key))
}

/// Where the next record may begin, after `at`, where `bytes` lie and no record begins. Without a
/// trace of one it is near the end of `bytes`.
pub fn next_record(bytes: &[u8], at: u64) -> u64 {
    const AT_PHYSICAL: usize = 28;
    const NEEDED: usize = AT_PHYSICAL + 8;
    let is_record = |skip: &usize| {
        let magic = bytes[skip + 4..].first_chunk().map(|magic| u32::from_be_bytes(*magic));
        let own = bytes[skip + AT_PHYSICAL..].first_chunk().map(|own| u64::from_be_bytes(*own));
        magic == Some(message_unit::MAGIC) && own == Some(at + *skip as u64)
    };
    let end = (bytes.len() + 1).saturating_sub(NEEDED);
    let next = (1..end).find(is_record).unwrap_or(end.max(bytes.len().min(NEEDED)).max(1));
    at + next as u64
}

/// Whether a record has the key: what an entry only says by a hash.
/// Differs: 4.9.3 returns records of other keys with the same hash; its clients drop them.
pub fn has_key(record: &View<'_>, topic: &str, key: &str) -> bool {
    let seen = properties::look_at(record.properties());
    let is_key = |found: &[u8]| found == key.as_bytes() || String::from_utf8_lossy(found) == key;
    record.topic() == topic
        && (seen.unique_key.is_some_and(is_key)
            || tokens(seen.keys.unwrap_or_default()).any(is_key))
}

/// Where an entry's record lies in time, as far as the entry tells: whole seconds since the file's
/// first entry, and 0 also for whatever is older than that.
pub fn is_in_time(header: &Header, entry: &IndexEntry, begin: WallMillis, end: WallMillis) -> Time {
    let base = header.begin_timestamp.0;
    if base <= 0 {
        return Time::Within;
    }
    let oldest = base.saturating_add(i64::from(entry.seconds) * 1000);
    if oldest.saturating_add(999) < begin.0 && entry.seconds < i32::MAX {
        Time::Before
    } else if oldest > end.0 && entry.seconds > 0 {
        Time::After
    } else {
        Time::Within
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    Before,
    /// Perhaps: the record says.
    Within,
    After,
}

#[cfg(test)]
mod tests;
