//! A read that must wait for files.

use super::{mend, queue_file};
use crate::disk::File;
use crate::format::consume_queue_unit::{QueueUnit, SIZE};
use crate::format::message_unit::MAGIC;
use crate::model::{QueueKey, QueueOffset};
use crate::store::consume_queue::Slot;
use crate::store::options::ReadMode;
use crate::store::queue_files;
use crate::store::read::{ReadLimits, ReadResult, ReadStatus};
use crate::store::select::{Bounds, Selection, select};
use crate::store::shared::{Shared, bounds_of};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;

/// Records this close to each other are fetched in one read. Units: bytes.
const GAP_MAX: u64 = 4096;

/// The same for views, of which what lies between costs nothing but its pages. Units: bytes.
const VIEW_GAP_MAX: u64 = 16 << 10;

/// And one read is not longer, unless a record is. Units: bytes.
const RUN_SIZE_MAX: u64 = 1 << 20;

/// A planned read; run it off the hot path.
pub struct ColdRead {
    shared: Arc<Shared>,
    key: QueueKey,
    slot: Slot,
    from: u64,
    limits: ReadLimits,
}

impl fmt::Debug for ColdRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ColdRead({:?} from {})", self.key, self.from)
    }
}

impl ColdRead {
    pub(in crate::store) fn new(
        shared: Arc<Shared>,
        key: QueueKey,
        slot: Slot,
        from: u64,
        limits: ReadLimits,
    ) -> Self {
        ColdRead { shared, key, slot, from, limits }
    }

    /// The answer when everything it needs is in the page cache. Nothing waits here.
    pub(in crate::store) fn now(&self, filter: &dyn Fn(i64) -> bool) -> Option<ReadResult> {
        let mut count = self.first_count();
        let (bounds, picked) = loop {
            let entries = match entry_source(&self.shared, &self.key, self.slot, self.from, count) {
                Ok(EntrySource::Memory(units)) => units,
                Ok(EntrySource::File(file, at, size)) => {
                    let units = queue_files::decode(&file.read_now(at, size)?);
                    // A hole is mended by the read that may wait.
                    if units.iter().any(QueueUnit::is_empty) {
                        return None;
                    }
                    units
                }
                Err(_) => return None,
            };
            match self.choose(&entries, count, filter) {
                Choice::Answer(answer) => return Some(answer),
                Choice::Picked(bounds, picked) => break (bounds, picked),
                Choice::More => count = self.scan_count(),
            }
        };
        let mut parts = Parts::default();
        for run in runs(&self.shared, &picked.picked).ok()? {
            let bytes = match self.shared.options.read_mode {
                ReadMode::Map => run.file.view_now(run.offset, run.len)?,
                ReadMode::Pread => run.file.read_now(run.offset, run.len)?,
            };
            parts.add(run.at, &bytes, run.units);
        }
        Some(self.answer(&bounds, picked, parts))
    }

    /// Errors: the device's. Only this read fails; another range may be readable.
    pub async fn run(self, filter: &(dyn Fn(i64) -> bool + Sync)) -> io::Result<ReadResult> {
        let (mut count, mut mended) = (self.first_count(), false);
        loop {
            let entries = entries(&self.shared, &self.key, self.slot, self.from, count).await?;
            if !mended && let Some(at) = self.hole_in(&entries) {
                mended = true;
                mend::mend(&self.shared, &self.key, self.slot, at).await?;
                continue;
            }
            let (bounds, mut picked) = match self.choose(&entries, count, &|code| filter(code)) {
                Choice::Answer(answer) => return Ok(answer),
                Choice::Picked(bounds, picked) => (bounds, picked),
                Choice::More => {
                    count = self.scan_count();
                    continue;
                }
            };
            let parts = match records(&self.shared, &picked.picked).await {
                Ok(parts) => parts,
                Err(_) => {
                    let (parts, readable) = one_by_one(&self.shared, &picked.picked).await?;
                    let limits = ReadLimits { count: readable };
                    let (options, code) = (&self.shared.options, |code| filter(code));
                    picked = select(&bounds, options, &limits, self.from, entries.iter(), &code);
                    parts
                }
            };
            return Ok(self.answer(&bounds, picked, parts));
        }
    }

    /// The first entry that was written and is lost.
    fn hole_in(&self, entries: &[QueueUnit]) -> Option<u64> {
        let at = self.from + entries.iter().position(QueueUnit::is_empty)? as u64;
        let bounds = bounds_of(&self.shared.state.lock(), &self.key).1;
        (bounds.min <= at && at < bounds.end).then_some(at)
    }

    /// Entries looked at first: as many as can be taken when all match.
    fn first_count(&self) -> usize {
        self.limits.count.min(self.shared.options.read_hot_count_max).max(1)
    }

    /// Entries looked at when the first did not fill the answer.
    fn scan_count(&self) -> usize {
        self.shared.options.read_scan_max.max(self.limits.count)
    }

    /// Selects from the first `count` entries of the read, or from fewer when a file ends.
    fn choose(&self, entries: &[QueueUnit], count: usize, filter: &dyn Fn(i64) -> bool) -> Choice {
        let shared = &self.shared;
        let bounds = bounds_of(&shared.state.lock(), &self.key).1;
        if let Some(answer) = bounds.outside(self.from) {
            return Choice::Answer(answer);
        }
        let picked =
            select(&bounds, &shared.options, &self.limits, self.from, entries.iter(), filter);
        let all_taken = picked.next == self.from + count as u64;
        if all_taken && picked.picked.len() < self.first_count() && count < self.scan_count() {
            return Choice::More;
        }
        if picked.picked.is_empty() && picked.next == self.from {
            return Choice::Answer(bounds.empty(ReadStatus::OffsetFoundNull, self.next_file()));
        }
        Choice::Picked(bounds, picked)
    }

    fn answer(&self, bounds: &Bounds, picked: Selection, parts: Parts) -> ReadResult {
        // What was deleted meanwhile is no error.
        let log_min = self.shared.state.lock().segments.first();
        let kept = picked.picked.iter().filter(|unit| unit.physical_offset.0 >= log_min);
        if parts.count < kept.count() {
            crate::rt::probe!("store: a queue entry did not lead to its record");
            self.shared.state.lock().derived_errors += 1;
        }
        let mut answer = answer(bounds, picked, (parts.parts, parts.size, parts.count));
        if answer.count == 0 && answer.status == ReadStatus::Found {
            answer.status = ReadStatus::MessageWasRemoving;
        }
        answer
    }

    /// The first entry of the next queue file. Source: ConsumeQueue#rollNextFile (4.9.3).
    fn next_file(&self) -> u64 {
        let per_file = self.shared.options.queue_file_entries;
        self.from + per_file - self.from % per_file
    }
}

/// What a look at some entries comes to.
enum Choice {
    /// No record is needed.
    Answer(ReadResult),
    Picked(Bounds, Selection),
    /// Too few of them matched: more are to be looked at.
    More,
}

pub(in crate::store) fn answer(
    bounds: &Bounds,
    selected: Selection,
    (messages, size, count): (Vec<Bytes>, usize, usize),
) -> ReadResult {
    ReadResult {
        status: selected.status,
        next: QueueOffset(selected.next),
        min: QueueOffset(bounds.min),
        max: QueueOffset(bounds.end),
        messages,
        count,
        size,
        suggest_slave: selected.suggest_slave,
    }
}

/// Where entries are read from.
enum EntrySource {
    Memory(Vec<QueueUnit>),
    /// The file, where in it, and how much. Units: bytes.
    File(Arc<dyn File>, u64, usize),
}

fn entry_source(
    shared: &Shared,
    key: &QueueKey,
    slot: Slot,
    from: u64,
    count: usize,
) -> io::Result<EntrySource> {
    let none = Ok(EntrySource::Memory(Vec::new()));
    let in_files = {
        let state = shared.state.lock();
        let Some(queue) = state.queues.get(slot) else { return none };
        if from >= queue.base() {
            let units = queue.entries(from).take(count).copied();
            return Ok(EntrySource::Memory(units.collect()));
        }
        queue.in_files
    };
    let options = &shared.options;
    let (base, at) = queue_files::place(options, from);
    let left = queue_files::file_size(options) - at;
    let count = (count as u64).min(in_files - from).min(left / SIZE as u64);
    match queue_file::open(shared, key, slot, base) {
        Ok(file) => Ok(EntrySource::File(file, at, count as usize * SIZE)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => none,
        Err(e) => Err(e),
    }
}

/// Visible entries of a queue from `from` on, at most `count`: from memory, or those of one file.
pub(in crate::store) async fn entries(
    shared: &Shared,
    key: &QueueKey,
    slot: Slot,
    from: u64,
    count: usize,
) -> io::Result<Vec<QueueUnit>> {
    match entry_source(shared, key, slot, from, count)? {
        EntrySource::Memory(units) => Ok(units),
        EntrySource::File(file, at, size) => {
            let bytes = match file.read_now(at, size) {
                Some(bytes) => bytes,
                None => file.read(at, size).await?,
            };
            Ok(queue_files::decode(&bytes))
        }
    }
}

/// Records as parts of a reply.
#[derive(Default)]
struct Parts {
    parts: Vec<Bytes>,
    size: usize,
    count: usize,
}

impl Parts {
    fn append(&mut self, later: Parts) {
        self.parts.extend(later.parts);
        self.size += later.size;
        self.count += later.count;
    }

    /// Adds the records of `run`, which `bytes` from `at` on hold. One that is not where its entry
    /// says is left out.
    fn add(&mut self, at: u64, bytes: &Bytes, run: &[QueueUnit]) {
        let mut joined: Option<(usize, usize)> = None;
        for unit in run {
            let start = (unit.physical_offset.0 - at) as usize;
            let end = start + unit.size as usize;
            if !is_record(&bytes[start..end], unit) {
                continue;
            }
            self.size += unit.size as usize;
            self.count += 1;
            joined = match joined {
                Some((from, to)) if to == start => Some((from, end)),
                other => {
                    self.parts.extend(other.map(|(from, to)| bytes.slice(from..to)));
                    Some((start, end))
                }
            };
        }
        self.parts.extend(joined.map(|(from, to)| bytes.slice(from..to)));
    }
}

/// Size, magic and physical offset are those of the entry.
fn is_record(bytes: &[u8], unit: &QueueUnit) -> bool {
    let field = |at: usize, expected: &[u8]| bytes.get(at..at + expected.len()) == Some(expected);
    field(0, &unit.size.to_be_bytes())
        && field(4, &MAGIC.to_be_bytes())
        && field(28, &unit.physical_offset.0.to_be_bytes())
}

/// Records that are fetched in one read.
struct Run<'a> {
    file: Arc<dyn File>,
    /// Where the first begins in the log, and in its file.
    at: u64,
    offset: u64,
    /// Units: bytes.
    len: usize,
    units: &'a [QueueUnit],
}

impl Run<'_> {
    async fn read(&self, mode: ReadMode) -> io::Result<Bytes> {
        match mode {
            ReadMode::Map => self.file.view(self.offset, self.len).await,
            ReadMode::Pread => self.file.read(self.offset, self.len).await,
        }
    }
}

/// The runs of `units`. What is not in the log, or reaches past a file's end, is in none.
fn runs<'a>(shared: &Shared, units: &'a [QueueUnit]) -> io::Result<Vec<Run<'a>>> {
    let mut state = shared.state.lock();
    let (size, visible) = (state.segments.size(), state.flush.visible());
    let gap_max = match shared.options.read_mode {
        ReadMode::Map => VIEW_GAP_MAX,
        ReadMode::Pread => GAP_MAX,
    };
    let mut runs = Vec::new();
    let mut rest = units;
    while let Some(first) = rest.first() {
        let at = first.physical_offset.0;
        let base = state.segments.base_of(at);
        let limit = (base + size).min(visible);
        let near = |pair: &[QueueUnit]| {
            let (before, after) = (pair[0].end().0, pair[1].physical_offset.0);
            let end = pair[1].end().0;
            before <= after && after - before <= gap_max && end <= limit.min(at + RUN_SIZE_MAX)
        };
        let count = 1 + rest.windows(2).take_while(|pair| near(pair)).count();
        let (units, later) = rest.split_at(count);
        rest = later;
        let end = units[count - 1].end().0;
        if end > limit || !state.segments.holds(at) {
            continue;
        }
        let file = state.segments.file(&*shared.disk, at)?;
        runs.push(Run { file, at, offset: at - base, len: (end - at) as usize, units });
    }
    Ok(runs)
}

/// Fetches the records of `units`.
async fn records(shared: &Shared, units: &[QueueUnit]) -> io::Result<Parts> {
    let mut parts = Parts::default();
    for run in runs(shared, units)? {
        parts.add(run.at, &run.read(shared.options.read_mode).await?, run.units);
    }
    Ok(parts)
}

/// The record of each of these entries, which are neither blank nor empty; `None` for one that is
/// not where its entry says. Neighbours are fetched together.
/// Errors: the device's, for any of them.
pub(in crate::store) async fn each_record(
    shared: &Shared,
    units: &[QueueUnit],
) -> io::Result<Vec<Option<Bytes>>> {
    let mut found = BTreeMap::new();
    for run in runs(shared, units)? {
        let bytes = run.read(shared.options.read_mode).await?;
        for unit in run.units {
            let start = (unit.physical_offset.0 - run.at) as usize;
            let record = bytes.slice(start..start + unit.size as usize);
            if is_record(&record, unit) {
                found.insert(unit.physical_offset, record);
            }
        }
    }
    Ok(units.iter().map(|unit| found.get(&unit.physical_offset).cloned()).collect())
}

/// A read over several records failed: those before the unreadable one, and how many of `units`
/// that is.
/// Errors: that of the first record.
async fn one_by_one(shared: &Shared, units: &[QueueUnit]) -> io::Result<(Parts, usize)> {
    crate::rt::probe!("store: a record could not be read");
    let mut parts = Parts::default();
    for (count, unit) in units.iter().enumerate() {
        match records(shared, std::slice::from_ref(unit)).await {
            Ok(one) => parts.append(one),
            Err(error) if count == 0 => return Err(error),
            Err(_) => return Ok((parts, count)),
        }
    }
    Ok((parts, units.len()))
}
