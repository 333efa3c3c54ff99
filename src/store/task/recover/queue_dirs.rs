//! Queue files at the start: which there are, runs that are missing, and what is too much.

use super::listing;
use crate::disk::{Disk, File};
use crate::format::consume_queue_unit::{QueueUnit, SIZE};
use crate::model::{QueueId, QueueKey, TopicName, WallMillis};
use crate::rt::task::all;
use crate::store::error::Error;
use crate::store::options::Options;
use crate::store::queue_files::{self, Part};
use crate::store::recovery::{self, Rebuilt, Run};
use crate::store::snapshot::Row;
use crate::store::task::queue_file;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// The search for stale entries ends after so many zeros. Units: bytes.
const ZEROS_MAX: u64 = 64 << 10;

/// Files that are synced side by side: a journal takes them together. Units: files.
const SYNCS_AT_ONCE: usize = 64;

pub struct QueueDirs {
    disk: Arc<dyn Disk>,
    options: Options,
    /// The starts of the files of every queue, ascending. Units: bytes.
    pub files: BTreeMap<QueueKey, Vec<u64>>,
    /// Written and not yet synced.
    dirty: BTreeSet<(QueueKey, u64)>,
    /// Places of the log that cannot be read. Entries that point there are kept: nothing else
    /// knows them.
    pub rot: Vec<Range<u64>>,
    /// Entries that are in the files already are not written again, only synced.
    pub compares: bool,
    /// An earlier recovery may have cut queues and not synced that: it is done again.
    pub cuts_again: bool,
    /// Units: entries that were missing or wrong.
    pub repaired: u64,
}

impl QueueDirs {
    /// Errors: `Foreign` for a file with another name or length. Directories that are no queue are
    /// left alone, as in 4.9.
    pub async fn list(
        disk: &Arc<dyn Disk>,
        options: &Options,
        removed: &mut Vec<String>,
    ) -> Result<Self, Error> {
        let mut files = BTreeMap::new();
        let root = options.consume_queue_dir();
        let size = queue_files::file_size(options);
        for topic in listing::entries(&**disk, &root)?.into_iter().filter(|entry| entry.is_dir) {
            let dir = format!("{root}/{}", topic.name);
            let queues = listing::entries(&**disk, &dir)?;
            for queue in queues.into_iter().filter(|entry| entry.is_dir) {
                let Ok(id) = queue.name.parse::<u32>() else { continue };
                let key = QueueKey { topic: TopicName::new(&topic.name), queue: QueueId(id) };
                let dir = format!("{dir}/{}", queue.name);
                files.insert(key, listing::queue(&**disk, &dir, size, removed).await?);
            }
        }
        let (disk, options) = (disk.clone(), options.clone());
        Ok(QueueDirs {
            disk,
            options,
            files,
            dirty: BTreeSet::new(),
            rot: Vec::new(),
            compares: false,
            cuts_again: false,
            repaired: 0,
        })
    }

    fn io<'a>(&self, key: &'a QueueKey) -> impl Fn(io::Error) -> Error + use<'a> {
        let key = key.clone();
        move |e| Error::io(format!("consume queue {}/{}", key.topic, key.queue))(e)
    }

    fn open(&self, key: &QueueKey, base: u64) -> io::Result<Arc<dyn File>> {
        self.disk.open(&queue_files::path(&self.options, key, base))
    }

    fn has(&self, key: &QueueKey, base: u64) -> bool {
        self.files.get(key).is_some_and(|bases| bases.binary_search(&base).is_ok())
    }

    /// Where the last entry of a queue leads, looking at few places only: what is above a hole in
    /// the file does not count.
    pub fn last_physical(&self, key: &QueueKey) -> io::Result<Option<u64>> {
        let Some(base) = self.files.get(key).and_then(|bases| bases.last()) else {
            return Ok(None);
        };
        let file = self.open(key, *base)?;
        let (mut low, mut high) = (0, self.options.queue_file_entries);
        let entry = |n: u64| Ok(QueueUnit::decode(&file.read_at(n * SIZE as u64, SIZE)?));
        let is_there =
            |unit: io::Result<Option<QueueUnit>>| unit.map(|u| u.filter(|u| !u.is_empty()));
        while low < high {
            let middle = low + (high - low) / 2;
            match is_there(entry(middle))? {
                Some(_) => low = middle + 1,
                None => high = middle,
            }
        }
        let last = low.checked_sub(1).map(entry).transpose()?.flatten();
        Ok(last.filter(|unit| !unit.is_blank()).map(|unit| unit.physical_offset.0))
    }

    async fn entry(&self, key: &QueueKey, offset: u64) -> io::Result<Option<QueueUnit>> {
        let (base, at) = queue_files::place(&self.options, offset);
        if !self.has(key, base) {
            return Ok(None);
        }
        Ok(QueueUnit::decode(&self.open(key, base)?.read(at, SIZE).await?))
    }

    /// Whether the files hold the queue as the snapshot knew it: without a gap, and with its last
    /// entry. After an orderly stop too: what harms a file does not ask how its process ended.
    pub async fn is_as(&self, row: &Row) -> bool {
        if row.end <= row.min {
            return true;
        }
        let Some(bases) = self.files.get(&row.key) else { return false };
        let (low, _) = queue_files::place(&self.options, row.min);
        let (high, _) = queue_files::place(&self.options, row.end - 1);
        let size = queue_files::file_size(&self.options);
        if (low..=high).step_by(size as usize).any(|b| bases.binary_search(&b).is_err()) {
            return false;
        }
        let last = self.entry(&row.key, row.end - 1).await;
        // A lost entry is zeros, and zeros would be an entry for the record at 0 (W-28).
        let is_there = |unit: QueueUnit| !unit.is_empty() && !unit.is_blank();
        matches!(last, Ok(Some(unit)) if is_there(unit)
            && unit.physical_offset.0 == row.last_physical)
    }

    pub async fn write_run(&mut self, run: &Run) -> Result<(), Error> {
        for part in queue_files::parts(&self.options, run.from, run.units.len()) {
            let units = run.units[part.entries.clone()].to_vec();
            let written = self.write_part(&run.key, &part, units).await;
            written.map_err(self.io(&run.key))?;
            self.dirty.insert((run.key.clone(), part.base));
        }
        Ok(())
    }

    /// The files that the run filled, with their last entries.
    pub fn filled(&self, run: &Run) -> Vec<(u64, QueueUnit)> {
        let parts = queue_files::parts(&self.options, run.from, run.units.len());
        let last = |part: &Part| Some(run.units[queue_files::fills(&self.options, part)?]);
        parts.iter().filter_map(|part| Some((part.base, last(part)?))).collect()
    }

    /// Says when the last message of a full file was stored.
    pub fn date(&self, key: &QueueKey, base: u64, stored: WallMillis) -> Result<(), Error> {
        let file = self.open(key, base);
        file.and_then(|file| file.set_modified_ms(stored.0)).map_err(self.io(key))
    }

    async fn write_part(
        &mut self,
        key: &QueueKey,
        part: &Part,
        mut units: Vec<QueueUnit>,
    ) -> io::Result<()> {
        let bases = self.files.entry(key.clone()).or_default();
        let file = match bases.binary_search(&part.base) {
            Ok(place) => {
                let is_first = place == 0;
                let file = self.open(key, part.base)?;
                if is_first && part.at > 0 {
                    fill_blanks(&file, part.at).await?;
                }
                if units.iter().any(QueueUnit::is_blank) {
                    self.keep_rotten(&file, part.at, &mut units).await;
                }
                file
            }
            Err(place) => {
                let (disk, options) = (&*self.disk, &self.options);
                if bases.is_empty() {
                    queue_file::make_dirs(disk, options, key).await?;
                }
                bases.insert(place, part.base);
                queue_file::create(disk, options, key, part.base, part.at).await?
            }
        };
        let bytes = queue_files::encode(&units);
        if self.compares && file.read_at(part.at, bytes.len()).is_ok_and(|old| old == bytes) {
            return Ok(());
        }
        self.repaired += units.len() as u64;
        file.write_at(part.at, &bytes)
    }

    fn is_rotten(&self, unit: &QueueUnit) -> bool {
        let is_entry = !unit.is_empty() && !unit.is_blank();
        is_entry && self.rot.iter().any(|range| range.contains(&unit.physical_offset.0))
    }

    /// Where a record could not be read its old entry is better than none.
    async fn keep_rotten(&self, file: &Arc<dyn File>, at: u64, units: &mut [QueueUnit]) {
        let Ok(bytes) = file.read(at, units.len() * SIZE).await else { return };
        for (unit, old) in units.iter_mut().zip(queue_files::decode(&bytes)) {
            if unit.is_blank() && self.is_rotten(&old) {
                *unit = old;
            }
        }
    }

    /// Whether all of an entry was written, as far as that can be said without its record: a power
    /// loss may keep the first bytes of one that reaches into the next sector. Entries are written
    /// in order, so the next one of its file answers for it; the last one must end with a byte that
    /// is not zero.
    async fn is_whole(&self, key: &QueueKey, offset: u64, unit: &QueueUnit) -> bool {
        if unit.tags_code & 0xff != 0 {
            return true;
        }
        let places = [offset, offset + 1].map(|n| queue_files::place(&self.options, n).0);
        let next = self.entry(key, offset + 1).await.ok().flatten();
        let is_whole = places[0] == places[1] && next.is_some_and(|next| !next.is_empty());
        if !is_whole {
            crate::rt::probe!("store: an entry may be torn and its record cannot be read");
        }
        is_whole
    }

    /// Whether entries in the files tell of every byte of this part of the log.
    pub async fn cover(&self, range: Range<u64>) -> bool {
        let mut known = 0;
        for (key, bases) in &self.files {
            let (Some(first), Some(last)) = (bases.first(), bases.last()) else { continue };
            let size = queue_files::file_size(&self.options);
            let (mut low, mut high) = (first / SIZE as u64, (last + size) / SIZE as u64);
            while low < high {
                let middle = low + (high - low) / 2;
                let unit = self.entry(key, middle).await.ok().flatten();
                let below = |u: QueueUnit| !u.is_empty() && u.physical_offset.0 < range.start;
                if unit.is_some_and(|unit| unit.is_blank() || below(unit)) {
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
            while let Ok(Some(unit)) = self.entry(key, low).await
                && !unit.is_empty()
                && range.contains(&unit.physical_offset.0)
                && unit.end().0 <= range.end
                && self.is_whole(key, low, &unit).await
            {
                known += u64::from(unit.size);
                low += 1;
            }
        }
        known == range.end - range.start
    }

    /// Counts the entries before the first that was seen, and behind the last, whose records cannot
    /// be read: those are not gone, and their offsets were given.
    pub async fn count_rot(&self, key: &QueueKey, queue: &mut Rebuilt) {
        while !self.rot.is_empty()
            && let Ok(Some(unit)) = self.entry(key, queue.end).await
            && self.is_rotten(&unit)
        {
            crate::rt::probe!("store: a queue ends with entries of unreadable records");
            queue.end += 1;
            queue.last_physical = unit.physical_offset.0;
        }
        while !self.rot.is_empty()
            && let Some(before) = queue.first.checked_sub(1)
            && let Ok(Some(unit)) = self.entry(key, before).await
            && self.is_rotten(&unit)
        {
            crate::rt::probe!("store: a queue begins with entries of unreadable records");
            queue.first = before;
        }
    }

    /// The end of a queue that the scan saw no record of, and where its last record lies. Entries
    /// of records below `floor` were deleted with their topic: a power loss brought the file back,
    /// or it could not be removed (W-29).
    pub async fn own_end(
        &self,
        key: &QueueKey,
        scanned_from: u64,
        (log_first, floor): (u64, u64),
    ) -> Result<(u64, u64), Error> {
        let is_deleted = |unit: &QueueUnit| {
            !unit.is_empty() && !unit.is_blank() && unit.physical_offset.0 < floor
        };
        let counts = |unit: &QueueUnit| {
            !is_deleted(unit) && (unit.end().0 <= scanned_from || self.is_rotten(unit))
        };
        // A log that begins at 0 and is whole has a record for every offset that was given.
        let mut blanks_count = log_first > 0 || !self.rot.is_empty();
        let failed = self.io(key);
        for base in self.files.get(key).into_iter().flatten().rev() {
            let file = self.open(key, *base).map_err(&failed)?;
            let size = queue_files::file_size(&self.options) as usize;
            let entries = queue_files::decode(&file.read(0, size).await.map_err(&failed)?);
            let from = base / SIZE as u64;
            if entries.iter().any(is_deleted) {
                crate::rt::probe!("store: a queue of a deleted topic was still there (W-29)");
                blanks_count = false;
            }
            if let Some(end) = recovery::end_without_records(&entries, from, counts, blanks_count) {
                return Ok(end);
            }
        }
        Ok((0, crate::store::snapshot::NO_ENTRY))
    }

    /// The first offset below `end` whose record still is in the log; `end` when there is none.
    /// Source: ConsumeQueue#correctMinOffset (4.9.3). Differs: all files are looked at (W-31).
    pub async fn min(&self, key: &QueueKey, end: u64, log_min: u64) -> Result<u64, Error> {
        let first = self.files.get(key).and_then(|bases| bases.first()).copied();
        let Some(first) = first else { return Ok(end) };
        let (mut low, mut high) = ((first / SIZE as u64).min(end), end);
        while low < high {
            let middle = if low == first / SIZE as u64 { low } else { low + (high - low) / 2 };
            let unit = self.entry(key, middle).await.map_err(self.io(key))?;
            let there = |u: QueueUnit| !u.is_blank() && !u.is_empty();
            if unit.is_some_and(|u| there(u) && u.physical_offset.0 >= log_min) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Ok(low)
    }

    /// Removes what lies at or past `end`: whole files, and entries up to a stretch of zeros.
    /// Returns the number of bytes that were not zero.
    pub async fn cut(&mut self, key: &QueueKey, end: u64) -> Result<u64, Error> {
        let failed = self.io(key);
        let limit = end * SIZE as u64;
        let (base, mut at) = queue_files::place(&self.options, end);
        let bases = self.files.entry(key.clone()).or_default();
        let mut removed = 0;
        while let Some(last) = bases.last().copied()
            && last >= limit
        {
            let path = queue_files::path(&self.options, key, last);
            self.disk.remove(&path).map_err(&failed)?;
            bases.pop();
            removed += 1;
        }
        if removed > 0 {
            crate::rt::probe!("store: recovery removed queue files past the end");
            let dir = queue_files::dir(&self.options, key);
            self.disk.sync_dir(&dir).await.map_err(&failed)?;
        }
        if self.files.get(key).and_then(|bases| bases.last()) != Some(&base) || at == 0 {
            return Ok(0);
        }
        let file = self.open(key, base).map_err(&failed)?;
        let (size, mut cut) = (queue_files::file_size(&self.options), 0);
        while at < size {
            let len = ZEROS_MAX.min(size - at);
            let bytes = file.read_at(at, len as usize).map_err(&failed)?;
            let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            // Zeros that only memory has look like zeros on disk.
            let zeros = if self.cuts_again { bytes.len() } else { used };
            if zeros > 0 {
                file.write_at(at, &vec![0; zeros]).map_err(&failed)?;
                self.dirty.insert((key.clone(), base));
            }
            cut += used as u64;
            at += len;
            if used == 0 {
                if !self.cuts_again {
                    break;
                }
                // Holes were never written.
                at = file.next_data(at).map_err(&failed)?.unwrap_or(size);
            }
        }
        Ok(cut)
    }

    /// Removes the directories of deleted topics that a crash left.
    pub async fn remove_topic(&mut self, topic: &str) -> io::Result<()> {
        self.files.retain(|key, _| &*key.topic != topic);
        crate::store::task::delete::remove_dirs(&*self.disk, &self.options, topic)?;
        self.disk.sync_dir(&self.options.consume_queue_dir()).await
    }

    /// Durable on return: everything written here.
    pub async fn sync(&mut self) -> Result<(), Error> {
        let mut dirty: Vec<_> = std::mem::take(&mut self.dirty).into_iter().collect();
        dirty.retain(|(key, base)| self.has(key, *base));
        for some in dirty.chunks(SYNCS_AT_ONCE) {
            let mut syncs = Vec::new();
            for (key, base) in some {
                syncs.push(self.open(key, *base).map_err(self.io(key))?.sync_data());
            }
            for (done, (key, _)) in all(syncs).await.into_iter().zip(some) {
                done.map_err(self.io(key))?;
            }
        }
        Ok(())
    }
}

/// A crash may have come between a queue's first file and the blank entries before its first.
async fn fill_blanks(file: &Arc<dyn File>, before: u64) -> io::Result<()> {
    let old = queue_files::decode(&file.read(0, before as usize).await?);
    if old.iter().all(QueueUnit::is_empty) {
        file.write_at(0, &queue_files::blanks(before))?;
    }
    Ok(())
}
