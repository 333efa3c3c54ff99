//! A read that must wait for files.

use super::queue_file;
use crate::format::consume_queue_unit::{QueueUnit, SIZE};
use crate::format::message_unit::MAGIC;
use crate::model::{QueueKey, QueueOffset};
use crate::store::consume_queue::Slot;
use crate::store::queue_files;
use crate::store::read::{ReadLimits, ReadResult, ReadStatus};
use crate::store::select::{Bounds, Selection, select};
use crate::store::shared::{Shared, bounds_of};
use bytes::Bytes;
use std::fmt;
use std::io;
use std::sync::Arc;

/// Records this close to each other are fetched in one read. Units: bytes.
const GAP_MAX: u64 = 4096;

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

    /// Errors: the device's. Only this read fails; another range may be readable.
    pub async fn run(self, filter: &(dyn Fn(i64) -> bool + Sync)) -> io::Result<ReadResult> {
        let shared = &self.shared;
        let count = shared.options.read_scan_max.max(self.limits.count);
        let entries = entries(shared, &self.key, self.slot, self.from, count).await?;
        let bounds = bounds_of(&shared.state.lock(), &self.key).1;
        if let Some(answer) = bounds.outside(self.from) {
            return Ok(answer);
        }
        let options = &shared.options;
        let picked =
            select(&bounds, options, &self.limits, self.from, entries.iter(), &|code| filter(code));
        if picked.picked.is_empty() && picked.next == self.from {
            return Ok(bounds.empty(ReadStatus::OffsetFoundNull, self.next_file()));
        }
        let parts = records(shared, &picked.picked).await?;
        if parts.count < picked.picked.len() {
            crate::rt::probe!("store: a queue entry did not lead to its record");
            shared.state.lock().derived_errors += 1;
        }
        let mut answer = answer(&bounds, picked, (parts.parts, parts.size, parts.count));
        if answer.count == 0 && answer.status == ReadStatus::Found {
            answer.status = ReadStatus::MessageWasRemoving;
        }
        Ok(answer)
    }

    /// The first entry of the next queue file. Source: ConsumeQueue#rollNextFile (4.9.3).
    fn next_file(&self) -> u64 {
        let per_file = self.shared.options.queue_file_entries;
        self.from + per_file - self.from % per_file
    }
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

/// Visible entries of a queue from `from` on, at most `count`: from memory, or those of one file.
pub(in crate::store) async fn entries(
    shared: &Shared,
    key: &QueueKey,
    slot: Slot,
    from: u64,
    count: usize,
) -> io::Result<Vec<QueueUnit>> {
    let in_files = {
        let state = shared.state.lock();
        let Some(queue) = state.queues.get(slot) else { return Ok(Vec::new()) };
        if from >= queue.base() {
            return Ok(queue.entries(from).take(count).copied().collect());
        }
        queue.in_files
    };
    let options = &shared.options;
    let (base, at) = queue_files::place(options, from);
    let left = queue_files::file_size(options) - at;
    let count = (count as u64).min(in_files - from).min(left / SIZE as u64);
    let file = match queue_file::open(shared, key, slot, base) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    Ok(queue_files::decode(&file.read(at, count as usize * SIZE).await?))
}

/// Records as parts of a reply.
#[derive(Default)]
struct Parts {
    parts: Vec<Bytes>,
    size: usize,
    count: usize,
}

impl Parts {
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

/// Fetches the records of `units`; neighbours come in one read.
async fn records(shared: &Shared, units: &[QueueUnit]) -> io::Result<Parts> {
    let mut parts = Parts::default();
    let mut rest = units;
    while let Some(first) = rest.first() {
        let at = first.physical_offset.0;
        let (base, end_of_file) = {
            let state = shared.state.lock();
            let base = state.segments.base_of(at);
            (base, (base + state.segments.size()).min(state.flush.visible()))
        };
        let near = |pair: &[QueueUnit]| {
            let (before, after) = (pair[0].end().0, pair[1].physical_offset.0);
            before <= after && after - before <= GAP_MAX && pair[1].end().0 <= end_of_file
        };
        let count = 1 + rest.windows(2).take_while(|pair| near(pair)).count();
        let (run, later) = rest.split_at(count);
        rest = later;
        let end = run[count - 1].end().0;
        if end > end_of_file || !shared.state.lock().segments.holds(at) {
            continue;
        }
        let file = shared.state.lock().segments.file(&*shared.disk, at)?;
        let bytes = file.read(at - base, (end - at) as usize).await?;
        parts.add(at, &bytes, run);
    }
    Ok(parts)
}
