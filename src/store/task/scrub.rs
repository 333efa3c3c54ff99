//! Makes block checksums of sealed segments and compares them later, slowly.
//!
//! Durable: a checksum file when it has its name. Nothing of RocketMQ's is written, whatever is
//! found: what to do about rot is the operator's decision.

use super::StoreStop;
use super::retention::close;
use crate::disk::{File, read_small, replace_small};
use crate::format::checksum::{self, BLOCK_SIZE, Checksums};
use crate::format::message_unit::View;
use crate::model::WallMillis;
use crate::rt::fault;
use crate::rt::time::{Duration, Mono};
use crate::store::scrub::{FoundRot, Job, Ledger, RECORDS_MAX, RottenRecord, Scrub};
use crate::store::segment;
use crate::store::shared::Shared;
use crate::store::walk::{BadPlace, Walk};
use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// A segment that could not be read or whose file could not be written waits for so many looks.
const PUT_OFF_LOOKS: u32 = 30;
/// Units: bytes of `hotfire/rot`.
const LEDGER_SIZE_MAX: u64 = 256 << 20;

const ADVICE: &str = "nothing was changed; copy this file from a slave or a backup while the \
                      broker is stopped, or let consumers pass these offsets; hotfire doctor \
                      --deep says more";

pub async fn run(shared: Arc<Shared>, mut stop: StoreStop) {
    let options = &shared.options;
    if options.scrub_rate_bytes == 0 {
        return;
    }
    let ledger = read_ledger(&shared);
    shared.state.lock().rot = ledger.rot.clone();
    let now = shared.clock.mono();
    let plan = Scrub::new(options.scrub_rate_bytes, options.scrub_interval, ledger, now);
    let mut scrubber = Scrubber { shared: shared.clone(), plan };
    crate::rt::select! {
        _ = stop.wait() => {}
        _ = scrubber.work() => {}
    }
}

struct Scrubber {
    shared: Arc<Shared>,
    plan: Scrub,
}

/// What one reading of a segment showed.
struct Reading {
    modified: WallMillis,
    sums: Vec<u32>,
    bad: Vec<BadPlace>,
    /// Blocks that differ from their checksums.
    differ: BTreeSet<usize>,
    /// Records that touch those, or that are bad themselves.
    touched: Vec<RottenRecord>,
}

impl Scrubber {
    /// Ends when the log is poisoned.
    async fn work(&mut self) {
        let shared = self.shared.clone();
        loop {
            if shared.state.lock().poison.is_some() {
                return;
            }
            self.look();
            while let Some(job) = self.plan.next(shared.clock.mono(), shared.clock.wall()) {
                self.carry_out(job).await;
                self.look();
            }
            let now = shared.clock.mono();
            let look = now + shared.options.scrub_look_interval;
            let next = self.plan.paced_until(now).map_or(look, |paced| paced.min(look));
            shared.clock.sleep_until(next).await;
        }
    }

    fn look(&mut self) {
        let (first, synced, size) = {
            let state = self.shared.state.lock();
            (state.segments.first(), state.flush.synced(), state.segments.size())
        };
        // What a sync has passed is never written again.
        let sealed = first..(synced - synced % size).max(first);
        self.plan.on_segments(sealed, size);
    }

    async fn carry_out(&mut self, job: Job) {
        let (base, done) = match job {
            Job::Make(base) => (base, self.make(base).await),
            Job::Compare(base) => (base, self.compare(base).await),
        };
        if let Err(error) = done {
            tracing::warn!("failed to scrub the commit log file at {base}: {error}");
            self.shared.state.lock().derived_errors += 1;
            let pause = self.shared.options.scrub_look_interval * PUT_OFF_LOOKS;
            self.plan.on_failed(base, self.shared.clock.mono() + pause);
        }
    }

    async fn make(&mut self, base: u64) -> io::Result<()> {
        let Some(read) = self.read(base, None).await? else { return Ok(()) };
        let size = self.shared.options.segment_size_bytes;
        let mut blocks: Vec<Option<u32>> = read.sums.iter().copied().map(Some).collect();
        for place in &read.bad {
            let touched = blocks_of(place.range.start - base..place.range.end - base);
            touched.for_each(|block| blocks[block] = None);
        }
        let made = self.shared.clock.wall();
        let checksums = Checksums { base, size, modified: read.modified, made, blocks };
        self.shared.disk.make_dir(&dir(&self.shared))?;
        let path = path(&self.shared, base);
        replace_small(&*self.shared.disk, &path, &checksums.encode()).await?;
        fault::point("store: checksums made").await;
        if self.shared.state.lock().segments.first() > base {
            // The segment went away meanwhile: nobody else will remove this file.
            return self.shared.disk.remove(&path);
        }
        self.plan.on_made(base);
        let found = read.bad.iter().map(|place| self.rot_of(base, place, &read.touched)).collect();
        self.tell(found).await
    }

    async fn compare(&mut self, base: u64) -> io::Result<()> {
        let size = self.shared.options.segment_size_bytes;
        let bytes = read_small(&*self.shared.disk, &path(&self.shared, base), checksum::SIZE_MAX);
        let known = match bytes {
            Ok(bytes) => Checksums::decode(&bytes, base, size),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        let Some(known) = known else {
            self.plan.on_no_checksums(base);
            return Ok(());
        };
        let file = self.open(base)?;
        if WallMillis(file.modified_ms()?) != known.modified {
            crate::rt::probe!("scrub: a sealed segment was written since");
            let path = self.segment_path(base);
            tracing::info!("{path} was written since its checksums were made: they are made again");
            self.plan.on_no_checksums(base);
            return Ok(());
        }
        let Some(read) = self.read(base, Some(&known)).await? else { return Ok(()) };
        let mut found = Vec::new();
        for run in runs(&read.differ) {
            let (from, to) = (run.start * BLOCK_SIZE, run.end * BLOCK_SIZE);
            let (from, to) = (base + from as u64, base + (to as u64).min(size));
            let what = "the bytes are not those whose checksum was made".to_owned();
            found.push(self.rot_of(base, &BadPlace { range: from..to, what }, &read.touched));
        }
        for place in &read.bad {
            let mut touched = blocks_of(place.range.start - base..place.range.end - base);
            if touched.any(|block| known.blocks[block].is_none()) {
                found.push(self.rot_of(base, place, &read.touched));
            }
        }
        self.plan.on_compared(base);
        self.tell(found).await
    }

    fn open(&self, base: u64) -> io::Result<Arc<dyn File>> {
        self.shared.disk.open(&self.segment_path(base))
    }

    fn segment_path(&self, base: u64) -> String {
        self.shared.state.lock().segments.path(base)
    }

    /// Reads a whole segment at the plan's pace. `None` when somebody wrote it meanwhile, or it
    /// went away.
    async fn read(&mut self, base: u64, known: Option<&Checksums>) -> io::Result<Option<Reading>> {
        let file = match self.open(base) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let read = self.read_all(base, &file, known).await;
        close(file).await; // it may have been deleted meanwhile
        read
    }

    async fn read_all(
        &mut self,
        base: u64,
        file: &Arc<dyn File>,
        known: Option<&Checksums>,
    ) -> io::Result<Option<Reading>> {
        let size = self.shared.options.segment_size_bytes;
        let mut walk = Walk::new(base, size);
        let mut read = Reading {
            modified: WallMillis(file.modified_ms()?),
            sums: Vec::new(),
            bad: Vec::new(),
            differ: BTreeSet::new(),
            touched: Vec::new(),
        };
        let mut at = 0;
        while at < size {
            if self.shared.state.lock().segments.first() > base {
                return Ok(None); // its space shall come back
            }
            let len = (size - at).min(BLOCK_SIZE as u64) as usize;
            let next = self.plan.on_read(self.shared.clock.mono(), len);
            let bytes = file.read(at, len).await?;
            let sum = checksum::crc(&bytes);
            let block = read.sums.len();
            if known.is_some_and(|known| known.blocks[block].is_some_and(|good| good != sum)) {
                read.differ.insert(block);
            }
            read.sums.push(sum);
            let Reading { bad, differ, touched, .. } = &mut read;
            walk.feed(&bytes, bad, &mut |record, is_good| {
                let from = record.physical_offset().0 - base;
                let range = from..from + record.size() as u64;
                if !is_good || blocks_of(range).any(|block| differ.contains(&block)) {
                    touched.push(rotten(record));
                }
            });
            at += len as u64;
            self.pause(next).await;
        }
        walk.finish(&mut read.bad);
        let same = WallMillis(file.modified_ms()?) == read.modified;
        Ok(same.then_some(read))
    }

    async fn pause(&self, until: Mono) {
        let clock = &self.shared.clock;
        // Short pauses are taken together.
        if until.since(clock.mono()) >= Duration::from_millis(100) {
            clock.sleep_until(until).await;
        }
    }

    fn rot_of(&self, base: u64, place: &BadPlace, touched: &[RottenRecord]) -> FoundRot {
        let overlaps = |r: &&RottenRecord| {
            r.physical < place.range.end && place.range.start < r.physical + r.size
        };
        FoundRot {
            path: self.segment_path(base),
            base,
            from: place.range.start - base,
            to: place.range.end - base,
            what: place.what.clone(),
            records: touched.iter().filter(overlaps).take(RECORDS_MAX).cloned().collect(),
            found_ms: self.shared.clock.wall().0,
        }
    }

    /// Says what is new, and keeps it with how far the pass is.
    async fn tell(&mut self, found: Vec<FoundRot>) -> io::Result<()> {
        for place in found {
            if self.plan.ledger.add(place.clone()) {
                crate::rt::probe!("scrub: found rot");
                tracing::error!("{place}; {ADVICE}");
            }
        }
        self.shared.state.lock().rot = self.plan.ledger.rot.clone();
        let text = serde_json::to_vec_pretty(&self.plan.ledger).map_err(io::Error::other)?;
        replace_small(&*self.shared.disk, &ledger_path(&self.shared), &text).await
    }
}

fn rotten(record: &View<'_>) -> RottenRecord {
    RottenRecord {
        physical: record.physical_offset().0,
        size: record.size() as u64,
        topic: record.topic().to_owned(),
        queue: record.queue_id().0,
        queue_offset: record.queue_offset().0,
    }
}

/// The blocks that a range of a segment touches.
fn blocks_of(range: Range<u64>) -> Range<usize> {
    let size = BLOCK_SIZE as u64;
    (range.start / size) as usize..range.end.div_ceil(size) as usize
}

/// Neighbours together.
fn runs(blocks: &BTreeSet<usize>) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for block in blocks {
        match runs.last_mut() {
            Some(run) if run.end == *block => run.end += 1,
            _ => runs.push(*block..block + 1),
        }
    }
    runs
}

fn dir(shared: &Shared) -> String {
    format!("{}/checksum", shared.options.own_dir())
}

fn path(shared: &Shared, base: u64) -> String {
    format!("{}/{}", dir(shared), segment::name(base))
}

fn ledger_path(shared: &Shared) -> String {
    format!("{}/rot", shared.options.own_dir())
}

/// An unreadable ledger is an empty one: the next pass finds the same rot again.
fn read_ledger(shared: &Shared) -> Ledger {
    let bytes = read_small(&*shared.disk, &ledger_path(shared), LEDGER_SIZE_MAX);
    bytes.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}
