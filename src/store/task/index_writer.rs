//! Follows the log and enters its keys in the index. The only task that writes index files.
//!
//! Between two settlings the disk shows the index as it was at the last one: entries are written
//! in runs behind the header's count, where nobody looks; slots and header stay in memory. So a
//! killed process leaves a whole index, to Java too, and the mark says where to go on.
//!
//! Errors on index files are not poison: everything since the mark is forgotten and made again.

use super::{StoreStop, index_files, queue_writer, recover_index};
use crate::format::checkpoint::Checkpoint;
use crate::rt::fault;
use crate::rt::task::yield_now;
use crate::rt::time::{Alarm, Duration, Mono};
use crate::store::index::mark::{Cursor, Mark};
use crate::store::index::slots::{Slots, slots_of};
use crate::store::index::{Active, Fed, Index, next_record};
use crate::store::shared::Shared;
use bytes::Bytes;
use std::io;
use std::sync::Arc;

/// So much new log is indexed at once, when it is still in the processor's cache. Units: bytes.
const RUN_SIZE: u64 = 256 << 10;

/// What is not in the tail cache is read in pieces of this size. Units: bytes.
const CHUNK_SIZE: u64 = 256 << 10;

/// After so much log other tasks get a turn: about 50 us of small records. Units: bytes.
const TURN_SIZE: u64 = 64 << 10;

/// A place of the log that could not be read so often is left out: a minute, as errors that pass by
/// themselves may take. The places behind it are then tried once each.
const READ_TRIES_MAX: u32 = 60;

/// An orderly stop waits no longer for keys to be entered: the next start goes on from the mark.
const STOP_MAX: Duration = Duration::from_secs(3);

/// What is left out then. Units: bytes.
const SECTOR_SIZE: u64 = 4096;

/// Asks again whether the log was synced, should nobody ring.
const SYNC_WAIT: Duration = Duration::from_secs(1);

/// What recovery found.
#[derive(Clone, Copy, Debug)]
pub struct Recovered {
    pub unclean: bool,
    /// Where the log ended.
    pub end: u64,
}

pub struct IndexWriter {
    shared: Arc<Shared>,
    recovered: Option<Recovered>,
    /// What waits since a while is indexed then.
    due: Option<Mono>,
    next_settle: Mono,
    /// After an error nothing is tried before.
    retry_at: Option<Mono>,
    /// Failures in a row.
    tries: u32,
}

enum Failure {
    Index(io::Error),
    Log(io::Error),
}

impl IndexWriter {
    pub fn new(shared: Arc<Shared>, recovered: Recovered) -> Self {
        let now = shared.clock.mono();
        let next_settle = now + shared.options.checkpoint_interval;
        let (recovered, due) = (Some(recovered), Some(now));
        IndexWriter { shared, recovered, due, next_settle, retry_at: None, tries: 0 }
    }

    /// Makes the index right before anything is appended: what it says past the log's end must
    /// not come to speak of other records. An error is no end: it is tried again later.
    pub async fn first_look(&mut self) {
        if let Err(error) = self.open().await {
            self.fail(Failure::Index(error));
        }
    }

    pub async fn run(mut self, mut stop: StoreStop) {
        let mut alarm = Alarm::new(&self.shared.clock);
        loop {
            alarm.set(self.next_deadline());
            crate::rt::select! {
                _ = stop.wait() => return,
                _ = alarm.ring() => {}
                _ = self.shared.index_work.notified() => {}
            }
            if self.shared.state.lock().poison.is_some() {
                return;
            }
            let now = self.shared.clock.mono();
            if self.retry_at.is_some_and(|at| now < at) {
                continue;
            }
            match self.turn(now).await {
                Ok(()) => (self.retry_at, self.tries) = (None, 0),
                Err(failure) => self.fail(failure),
            }
        }
    }

    fn next_deadline(&self) -> Option<Mono> {
        let settle = self.shared.index.lock().is_dirty().then_some(self.next_settle);
        let next = self.due.into_iter().chain(settle).min();
        // After an error nothing else is due before the next try.
        self.retry_at.or(next)
    }

    async fn turn(&mut self, now: Mono) -> Result<(), Failure> {
        if !self.shared.index.lock().ready {
            self.open().await.map_err(Failure::Index)?;
        }
        if !self.shared.options.index_enabled {
            self.due = None;
            return Ok(());
        }
        let (at, asked) = {
            let mut index = self.shared.index.lock();
            (index.cursor.at, std::mem::take(&mut index.asked))
        };
        let lag = self.shared.state.lock().flush.visible().saturating_sub(at);
        if asked || lag >= RUN_SIZE || self.due.is_some_and(|due| due <= now) {
            catch_up(&self.shared, None).await?;
            self.due = None;
        }
        if now >= self.next_settle {
            self.next_settle = now + self.shared.options.checkpoint_interval;
            settle(&self.shared).await.map_err(Failure::Index)?;
        }
        self.watch_log(now);
        Ok(())
    }

    /// Says when the log's writer shall wake this task.
    fn watch_log(&mut self, now: Mono) {
        let at = self.shared.index.lock().cursor.at;
        let mut state = self.shared.state.lock();
        if state.flush.visible() > at && self.due.is_none() {
            self.due = Some(now + self.shared.options.index_run_interval);
        }
        state.index_wake = at + if self.due.is_some() { RUN_SIZE } else { 1 };
    }

    async fn open(&mut self) -> io::Result<()> {
        let shared = &self.shared;
        // Only the first look may find what a killed process left; later ones find what this
        // process did.
        let visible = shared.state.lock().flush.visible();
        let found = self.recovered.unwrap_or(Recovered { unclean: true, end: visible });
        let opened = recover_index::open(shared, &found, self.tries >= READ_TRIES_MAX).await?;
        self.recovered = None;
        *shared.index.lock() = opened;
        fault::point("store: index opened").await;
        shared.index_moved.notify_waiters();
        Ok(())
    }

    fn fail(&mut self, failure: Failure) {
        let shared = &self.shared;
        self.tries += 1;
        shared.state.lock().derived_errors += 1;
        match failure {
            Failure::Index(error) => {
                crate::rt::probe!("store: the index was forgotten after an error");
                tracing::warn!("failed to write the index, it will be made again: {error}");
                *shared.index.lock() = Index::new(shared.options.index_shape());
                shared.index_files.lock().close_where(|_| true);
            }
            Failure::Log(error) => {
                tracing::warn!("failed to read the log for the index: {error}");
                if self.tries >= READ_TRIES_MAX {
                    crate::rt::probe!("store: the index left out what cannot be read");
                    let cursor = &mut shared.index.lock().cursor;
                    let at = (cursor.at / SECTOR_SIZE + 1) * SECTOR_SIZE;
                    *cursor = Cursor { at, keys_done: 0 };
                }
            }
        }
        let now = shared.clock.mono();
        self.retry_at = Some(now + shared.options.index_retry_interval);
        self.due = Some(now);
    }
}

/// Indexes what is visible. Until a moment it takes only what is in the tail cache.
async fn catch_up(shared: &Shared, until: Option<Mono>) -> Result<(), Failure> {
    let (mut need, mut rest) = (CHUNK_SIZE, TURN_SIZE);
    loop {
        let (at, visible, cached, ends) = {
            let mut index = shared.index.lock();
            let state = shared.state.lock();
            if index.cursor.at < state.segments.first() {
                index.cursor = Cursor { at: state.segments.first(), keys_done: 0 };
            }
            let at = index.cursor.at;
            let ends = until.is_some() && state.cache.base() > at;
            (at, state.flush.visible(), state.cache.from(at), ends)
        };
        if at >= visible || ends || is_over(shared, until) {
            shared.index_moved.notify_waiters();
            return Ok(());
        }
        let bytes = match cached {
            Some(bytes) => bytes,
            None => read_log(shared, at, visible, need).await.map_err(Failure::Log)?,
        };
        let took = take(shared, (at, &bytes), visible, until).await;
        need = took.map_err(Failure::Index)?.max(CHUNK_SIZE);
        fault::point("store: keys indexed").await;
        // The cache holds what was appended in pieces, some of one record.
        rest = rest.saturating_sub(bytes.len() as u64);
        if rest == 0 {
            rest = TURN_SIZE;
            shared.index_moved.notify_waiters();
            yield_now().await;
        }
    }
}

/// Whether work without a deadline has to end for a stop, or a stop's own time is over.
fn is_over(shared: &Shared, until: Option<Mono>) -> bool {
    match until {
        Some(until) => shared.clock.mono() >= until,
        None => shared.state.lock().stopping,
    }
}

async fn read_log(shared: &Shared, at: u64, visible: u64, need: u64) -> io::Result<Bytes> {
    crate::rt::probe!("store: the index read the log");
    let (base, end, file) = {
        let mut state = shared.state.lock();
        let base = state.segments.base_of(at);
        let end = visible.min(base + state.segments.size());
        (base, end, state.segments.file(&*shared.disk, at)?)
    };
    file.read(at - base, need.min(end - at) as usize).await
}

/// Takes the records of `bytes`, which lie at `base`. Returns how many bytes are needed at the
/// cursor to go on.
async fn take(
    shared: &Shared,
    (base, bytes): (u64, &Bytes),
    visible: u64,
    until: Option<Mono>,
) -> io::Result<u64> {
    while !is_over(shared, until) {
        let (fed, at) = {
            let mut index = shared.index.lock();
            let from = (index.cursor.at - base) as usize;
            let fed = index.feed(&bytes[from..], visible);
            (fed, index.cursor.at)
        };
        let size = shared.options.segment_size_bytes;
        let segment_end = at - at % size + size;
        match fed {
            Fed::All => return Ok(0),
            Fed::Blank => {
                shared.index.lock().cursor = Cursor { at: segment_end, keys_done: 0 };
                return Ok(0);
            }
            Fed::More(need) if at + need as u64 <= segment_end.min(visible) => {
                return Ok(need as u64);
            }
            Fed::More(_) | Fed::Bad => {
                crate::rt::probe!("store: the index met a bad record");
                let rest = &bytes[(at - base) as usize..];
                let next = next_record(rest, at).min(segment_end);
                tracing::warn!(
                    "no keys are indexed from offset {at} to {next}: no record is there"
                );
                shared.index.lock().cursor = Cursor { at: next, keys_done: 0 };
                return Ok(0);
            }
            Fed::File => next_file(shared).await?,
            Fed::Page(page) => load_page(shared, page).await?,
            Fed::Run => write_run(shared).await?,
        }
    }
    Ok(0)
}

async fn load_page(shared: &Shared, page: u32) -> io::Result<()> {
    let (name, shape) = {
        let index = shared.index.lock();
        let Some(active) = &index.active else { return Ok(()) };
        (active.file.name, index.shape)
    };
    let slots = slots_of(page, &shape);
    let (at, len) =
        (shape.slot_at(slots.start), slots.len() * crate::format::index_file::SLOT_SIZE);
    let bytes = index_files::open(shared, name)?.read(at, len).await?;
    if let Some(active) = &mut shared.index.lock().active {
        active.slots.load(page, &shape, &bytes);
    }
    Ok(())
}

/// Writes entries behind those that the header counts.
async fn write_run(shared: &Shared) -> io::Result<()> {
    let (name, at, run) = {
        let index = shared.index.lock();
        let Some(active) = &index.active else { return Ok(()) };
        let (first, run) = active.run();
        (active.file.name, index.shape.entry_at(first), run)
    };
    if !run.is_empty() {
        index_files::open(shared, name)?.write_at(at, &run)?;
        if let Some(active) = &mut shared.index.lock().active {
            active.on_run_written(run.len() / crate::format::index_file::ENTRY_SIZE);
        }
        fault::point("store: index entries written").await;
    }
    Ok(())
}

/// The last file is full, or there is none.
async fn next_file(shared: &Shared) -> io::Result<()> {
    settle(shared).await?;
    {
        let mut index = shared.index.lock();
        if let Some(active) = index.active.take() {
            crate::rt::probe!("store: an index file is full");
            index.sealed.push(active.file);
        }
    }
    index_files::create(shared).await
}

/// Makes the index durable as far as it is known, the log first.
/// Durable on return, in this order: the log up to the cursor, entries, slots, header, Java's
/// checkpoint, the mark.
pub async fn settle(shared: &Shared) -> io::Result<()> {
    let (cursor, old) = {
        let index = shared.index.lock();
        if !index.is_dirty() {
            return Ok(());
        }
        (index.cursor, index.mark)
    };
    // A record whose keys are entered in part must be durable too.
    until_synced(shared, cursor.at + u64::from(cursor.keys_done > 0)).await?;
    write_run(shared).await?;
    let (target, active) = {
        let index = shared.index.lock();
        (index.settled(), index.active.as_ref().map(|active| active.file))
    };
    if let Some(last) = active.filter(|last| last.header != old.header) {
        let file = index_files::open(shared, last.name)?;
        file.sync_data().await?;
        let writing = Mark { writing: Some(last.header), ..old };
        index_files::write_mark(shared, &writing).await?;
        fault::point("store: index entries synced").await;
        write_slots(shared, &file).await?;
        file.sync_data().await?;
        fault::point("store: index slots synced").await;
        // Java deletes a file that ends after what its checkpoint says: nothing may come between.
        file.write_at(0, &last.header.encode())?;
        let index = shared.index.lock().files().map(|file| file.header.end_timestamp).max();
        let index = index.unwrap_or_default();
        let known = queue_writer::read_checkpoint(shared);
        queue_writer::write_checkpoint(shared, Checkpoint { index, ..known }).await?;
        file.sync_data().await?;
    }
    index_files::write_mark(shared, &target).await?;
    fault::point("store: index settled").await;
    let mut index = shared.index.lock();
    index.mark = target;
    let shape = index.shape;
    if let Some(Active { slots, .. }) = &mut index.active {
        slots.on_written();
        if !slots.take_used() {
            *slots = Slots::unloaded(&shape);
        }
    }
    Ok(())
}

async fn write_slots(shared: &Shared, file: &Arc<dyn crate::disk::File>) -> io::Result<()> {
    let (runs, shape) = {
        let index = shared.index.lock();
        let active = index.active.as_ref();
        (active.map(|a| a.slots.dirty_runs(&index.shape)).unwrap_or_default(), index.shape)
    };
    for run in runs {
        let bytes = shared.index.lock().active.as_ref().map(|active| active.slots.encode(&run));
        file.write_at(shape.slot_at(run.start), &bytes.unwrap_or_default())?;
        fault::point("store: index slots written").await;
        yield_now().await;
    }
    Ok(())
}

/// The index must not say more than the log will hold after a power loss.
async fn until_synced(shared: &Shared, at: u64) -> io::Result<()> {
    loop {
        {
            let mut state = shared.state.lock();
            if state.flush.synced() >= at {
                return Ok(());
            }
            if let Some(reason) = &state.poison {
                return Err(io::Error::other(format!("the commit log is poisoned: {reason}")));
            }
            state.sync_asked = true;
        }
        shared.log_work.notify_one();
        let until = shared.clock.mono() + SYNC_WAIT;
        shared.clock.before(until, shared.log_synced.notified()).await;
    }
}

/// At an orderly stop, when everything is written and synced: what is near the log's end is
/// indexed, and the index made durable. An error costs nothing but work at the next start.
pub async fn finish(shared: &Shared) {
    if !shared.options.index_enabled || !shared.index.lock().ready {
        return;
    }
    let until = shared.clock.mono() + STOP_MAX;
    let done = match catch_up(shared, Some(until)).await {
        Ok(()) => settle(shared).await,
        Err(Failure::Index(error) | Failure::Log(error)) => Err(error),
    };
    if let Err(error) = done {
        tracing::warn!("failed to finish the index, the next start will: {error}");
        shared.state.lock().derived_errors += 1;
    }
}
