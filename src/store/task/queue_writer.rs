//! Writes queue entries in runs, and from time to time syncs the files and says how far they are.
//! The only task that writes consume queue files while the store runs.

use super::{StoreStop, queue_file, recover, search};
use crate::disk::replace_small;
use crate::format::checkpoint::{self, Checkpoint};
use crate::format::consume_queue_unit::QueueUnit;
use crate::model::QueueKey;
use crate::rt::fault;
use crate::rt::task::yield_now;
use crate::rt::time::{Alarm, Mono};
use crate::store::consume_queue::Slot;
use crate::store::queue_files::{self, Part};
use crate::store::shared::Shared;
use crate::store::snapshot::Snapshot;
use crate::store::state::Saved;
use std::io;
use std::sync::Arc;

/// Queues written before other tasks run.
const TURN_QUEUES: usize = 16;

/// Entries of one queue written at a time.
const RUN_MAX: usize = 4096;

/// Entries dropped from memory per queue and run.
const TRIM_MAX: usize = 2 * RUN_MAX;

pub struct QueueWriter {
    shared: Arc<Shared>,
    next_checkpoint: Mono,
}

impl QueueWriter {
    pub fn new(shared: Arc<Shared>) -> Self {
        let next_checkpoint = shared.clock.mono() + shared.options.checkpoint_interval;
        QueueWriter { shared, next_checkpoint }
    }

    pub async fn run(mut self, mut stop: StoreStop) {
        let mut alarm = Alarm::new(&self.shared.clock);
        loop {
            alarm.set(Some(self.next_deadline()));
            crate::rt::select! {
                _ = stop.wait() => return,
                _ = alarm.ring() => {}
                _ = self.shared.queue_work.notified() => {}
            }
            if self.shared.state.lock().poison.is_some() {
                return;
            }
            let now = self.shared.clock.mono();
            write_due(&self.shared, due_until(&self.shared, now)).await;
            let asked = self.shared.state.lock().snapshot_asked;
            if asked || now >= self.next_checkpoint {
                self.next_checkpoint = now + self.shared.options.checkpoint_interval;
                if let Err(error) = checkpoint(&self.shared).await {
                    tracing::warn!("failed to write the checkpoint: {error}");
                    self.shared.state.lock().derived_errors += 1;
                }
                self.shared.state.lock().snapshot_asked = false;
                sweep(&self.shared).await;
            }
        }
    }

    fn next_deadline(&self) -> Mono {
        let since = self.shared.state.lock().queues.dirty_since();
        let due = since.map(|since| since + self.shared.options.queue_run_interval);
        due.map_or(self.next_checkpoint, |due| due.min(self.next_checkpoint))
    }
}

/// Entries that wait since then are due.
fn due_until(shared: &Shared, now: Mono) -> Option<Mono> {
    let interval = u64::try_from(shared.options.queue_run_interval.as_nanos()).unwrap_or(u64::MAX);
    now.0.checked_sub(interval).map(Mono)
}

/// Writes full runs, and what waits since `until` or longer. Errors are counted and tried again
/// later. True when everything due was written.
pub async fn write_due(shared: &Shared, until: Option<Mono>) -> bool {
    let (mut done, mut all) = (0, true);
    let began = shared.clock.mono();
    loop {
        let slot = shared.state.lock().queues.take_due(until);
        let Some(slot) = slot else { return all };
        if let Err(error) = write_run(shared, slot).await {
            tracing::warn!("failed to write a consume queue: {error}");
            crate::rt::probe!("store: a run of queue entries failed");
            let mut state = shared.state.lock();
            state.derived_errors += 1;
            // Later than everything this call may take: it must end.
            let later = shared.clock.mono().max(Mono(began.0.saturating_add(1)));
            state.queues.on_run_failed(slot, later);
            all = false;
        }
        done += 1;
        if done % TURN_QUEUES == 0 {
            yield_now().await;
        }
    }
}

async fn write_run(shared: &Shared, slot: Slot) -> io::Result<()> {
    let _permit = shared.queue_dirs.acquire().await.map_err(io::Error::other)?;
    let (key, from, run) = {
        let mut state = shared.state.lock();
        let Some(queue) = state.queues.get(slot) else { return Ok(()) };
        let key = queue.key.clone();
        let (from, run) = state.queues.run(slot, RUN_MAX);
        (key, from, run)
    };
    for part in queue_files::parts(&shared.options, from, run.len()) {
        write_part(shared, slot, &key, &part, &run).await?;
    }
    {
        let now = shared.clock.mono();
        let mut state = shared.state.lock();
        state.queues.on_run_written(slot, from + run.len() as u64, now);
        let below = state.trim_below();
        if let Some(queue) = state.queues.get_mut(slot) {
            queue.trim(below, TRIM_MAX);
        }
    }
    fault::point("store: queue run written").await;
    Ok(())
}

async fn write_part(
    shared: &Shared,
    slot: Slot,
    key: &QueueKey,
    part: &Part,
    run: &[QueueUnit],
) -> io::Result<()> {
    let (disk, options) = (&*shared.disk, &shared.options);
    let file = match queue_file::open(shared, key, slot, part.base) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            queue_file::make_dirs(disk, options, key).await?;
            let file = queue_file::create(disk, options, key, part.base, part.at).await?;
            shared.queue_files.lock().keep((slot.0, part.base), file.clone());
            file
        }
        Err(e) => return Err(e),
    };
    shared.state.lock().dirty_files.insert((slot, part.base));
    let written = file.write_at(part.at, &queue_files::encode(&run[part.entries.clone()]));
    if written.is_err() {
        shared.queue_files.lock().close_where(|open| *open == (slot.0, part.base));
    } else if let Some(last) = queue_files::fills(options, part).map(|last| &run[last])
        && let Ok(Some(stored)) = search::stored_at(shared, last).await
        && let Err(error) = file.set_modified_ms(stored.0)
    {
        tracing::warn!("a search by time may miss in Java's broker: {error}");
    }
    written
}

/// Writes and syncs all entries of records that are synced, then says so in the snapshot and in
/// Java's checkpoint.
/// Durable: in this order: the log up to the snapshot's offset (it is synced already), queue
/// entries, snapshot, checkpoint.
pub async fn checkpoint(shared: &Shared) -> io::Result<()> {
    let (at, last, rows, log_min) = {
        let mut state = shared.state.lock();
        let (at, last) = state.snapshot_point();
        let same_min = state.saved.log_min == state.segments.first();
        if state.queues_suspect || (same_min && state.snapshot_at.is_some_and(|old| old >= at)) {
            return Ok(());
        }
        (at, last, state.rows_at(at), state.segments.first())
    };
    let written = write_due(shared, Some(shared.clock.mono())).await;
    let complete = rows.iter().all(|row| {
        let state = shared.state.lock();
        let slot = state.queues.find(&row.key);
        slot.and_then(|s| state.queues.get(s)).is_none_or(|queue| queue.in_files >= row.end)
    });
    if !written || !complete {
        return Err(io::Error::other("some queue entries could not be written"));
    }
    sync_files(shared).await?;
    let Some((last_at, last_crc)) = search::checksum(shared, last, at).await? else {
        return Ok(());
    };
    let snapshot = Snapshot { at, last_at, last_crc, log_min, rows };
    let path = snapshot_path(shared);
    {
        // A topic that goes away meanwhile must not come back with an older list.
        let _permit = shared.queue_dirs.acquire().await.map_err(io::Error::other)?;
        replace_small(&*shared.disk, &path, &snapshot.encode()).await?;
        shared.state.lock().on_snapshot(at, Saved { last_at, log_min }, &snapshot.rows);
    }
    let stored = last.unwrap_or_default().store_timestamp;
    let known = read_checkpoint(shared);
    write_checkpoint(shared, Checkpoint { physical: stored, logical: stored, ..known }).await?;
    fault::point("store: checkpoint written").await;
    Ok(())
}

async fn sync_files(shared: &Shared) -> io::Result<()> {
    let dirty = std::mem::take(&mut shared.state.lock().dirty_files);
    for (slot, base) in dirty {
        let key = shared.state.lock().queues.get(slot).map(|queue| queue.key.clone());
        let Some(key) = key else { continue };
        let file = match queue_file::open(shared, &key, slot, base) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(suspect(shared, e)),
        };
        file.sync_data().await.map_err(|e| suspect(shared, e))?;
    }
    fault::point("store: queue files synced").await;
    Ok(())
}

fn suspect(shared: &Shared, error: io::Error) -> io::Error {
    crate::rt::probe!("store: a sync of queue files failed");
    tracing::error!("queue files may have lost entries, recovery will write them again: {error}");
    shared.state.lock().queues_suspect = true;
    if let Err(e) = shared.disk.open_or_create(&recover::rewrite_path(&shared.options)) {
        tracing::warn!("recovery will not know of it: {e}");
    }
    error
}

pub fn snapshot_path(shared: &Shared) -> String {
    format!("{}/queues", shared.options.own_dir())
}

/// What Java's checkpoint says; it has two writers, so it is written without a pause after this.
pub fn read_checkpoint(shared: &Shared) -> Checkpoint {
    let path = format!("{}/checkpoint", shared.options.root);
    let file = shared.disk.open(&path).and_then(|file| file.read_at(0, checkpoint::USED_SIZE));
    file.ok().and_then(|bytes| Checkpoint::decode(&bytes)).unwrap_or_default()
}

/// Only the used bytes are written, in place as Java does: they lie in one sector.
pub async fn write_checkpoint(shared: &Shared, checkpoint: Checkpoint) -> io::Result<()> {
    let path = format!("{}/checkpoint", shared.options.root);
    let file = shared.disk.open_or_create(&path)?;
    if file.size()? < checkpoint::SIZE as u64 {
        file.set_size(checkpoint::SIZE as u64)?;
    }
    file.write_at(0, &checkpoint.encode()[..checkpoint::USED_SIZE])?;
    file.sync_data().await
}

/// Drops old entries of idle queues from memory.
async fn sweep(shared: &Shared) {
    let count = shared.state.lock().queues.slot_count();
    for first in (0..count).step_by(1024) {
        {
            let mut state = shared.state.lock();
            let below = state.trim_below();
            for slot in first..count.min(first + 1024) {
                if let Some(queue) = state.queues.get_mut(Slot(slot as u32)) {
                    queue.trim(below, TRIM_MAX);
                }
            }
        }
        yield_now().await;
    }
}
