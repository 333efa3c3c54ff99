//! Deletes what is old: files of the log, oldest first, and then what was derived from them. Asks
//! how full the disk is. The only task that deletes log and queue files while the store runs.
//!
//! Order for one file: the queues' mins go behind it, it leaves the table, its name goes away and
//! its directory is synced before the next file's turn, so that no gap can come of a crash. Queue
//! files follow when the snapshot on disk no longer asks for them. What takes long is done off the
//! broker thread: freeing the blocks of a large file takes many milliseconds.

use super::{StoreStop, index_files, search};
use crate::disk::{File, parent};
use crate::model::{PhysicalOffset, QueueKey, QueueOffset, WallMillis};
use crate::rt::fault;
use crate::rt::task::{blocking, yield_now};
use crate::rt::time::{Duration, Mono};
use crate::store::consume_queue::{Raise, Slot};
use crate::store::events::{Cut, Deleted};
use crate::store::retention::{Cause, Goal, Look, Retention, Usage};
use crate::store::shared::Shared;
use crate::store::{queue_files, segment};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// Queues looked at before other tasks run.
const TURN_QUEUES: usize = 256;

/// How long a round waits for a fresh snapshot of the queues, in steps.
const SNAPSHOT_WAITS: usize = 50;
const SNAPSHOT_WAIT: Duration = Duration::from_millis(100);

/// How often files that are still read are looked at.
const HELD_INTERVAL: Duration = Duration::from_millis(500);

pub struct Retainer {
    shared: Arc<Shared>,
    retention: Retention,
    next_probe: Mono,
    next_check: Mono,
    /// When a file that could not be deleted is tried again.
    retry_at: Mono,
    /// Deleted files that somebody reads, and until when that is waited for.
    held: Vec<(Arc<dyn File>, Mono)>,
    round: Round,
    /// The file for which a fresh snapshot was waited for.
    waited_for: Option<u64>,
    /// A queue file could not be read: its queue's min is behind the log's.
    unraised: bool,
}

/// What this round of deletions took.
#[derive(Default)]
struct Round {
    files: usize,
    why: Option<Cause>,
    cuts: BTreeMap<Slot, Cut>,
}

impl Retainer {
    pub fn new(shared: Arc<Shared>) -> Self {
        let now = shared.clock.mono();
        let newest = shared.state.lock().newest();
        let rules = shared.options.retention.clone();
        let next_check = now + rules.first_check_after;
        let retention = Retention::new(rules, now, shared.clock.wall(), newest);
        Retainer {
            shared,
            retention,
            next_probe: now,
            next_check,
            retry_at: now,
            held: Vec::new(),
            round: Round::default(),
            waited_for: None,
            unraised: false,
        }
    }

    /// Runs until the store stops or is poisoned. A file whose turn has come is finished with.
    pub async fn run(mut self, mut stop: StoreStop) {
        while !self.is_over(&stop) {
            self.turn(&mut stop).await;
            let mut next = self.next_probe.min(self.next_check);
            if !self.held.is_empty() {
                next = next.min(self.shared.clock.mono() + HELD_INTERVAL);
            }
            crate::rt::select! {
                _ = stop.wait() => break,
                _ = self.shared.clock.sleep_until(next) => {}
                _ = self.shared.retention_work.notified() => self.on_work(),
            }
        }
    }

    fn is_over(&self, stop: &StoreStop) -> bool {
        stop.is_set() || self.shared.state.lock().poison.is_some()
    }

    /// An operator asks, or the log needs space now.
    fn on_work(&mut self) {
        let now = self.shared.clock.mono();
        let mut state = self.shared.state.lock();
        if std::mem::take(&mut state.deletion_asked) {
            self.retention.on_asked();
            self.next_check = now;
        }
        if std::mem::take(&mut state.cleaning_asked) {
            self.next_check = now;
        }
        if let Some(rules) = state.new_rules.take() {
            self.retention.set_rules(rules);
            (self.next_probe, self.next_check) = (now, now);
        }
        if state.no_space {
            (self.next_probe, self.next_check) = (now, now);
        }
    }

    async fn turn(&mut self, stop: &mut StoreStop) {
        self.release().await;
        let rules = &self.shared.options.retention;
        let (probe_interval, check_interval) = (rules.probe_interval, rules.check_interval);
        if self.shared.clock.mono() >= self.next_probe {
            self.probe().await;
            self.next_probe = self.shared.clock.mono() + probe_interval;
        }
        if self.shared.clock.mono() >= self.next_check {
            if std::mem::take(&mut self.unraised) {
                let min = self.shared.state.lock().segments.first();
                self.raise_mins(min, stop).await;
            }
            self.delete_files(stop).await;
            self.tell();
            self.clean_index().await;
            self.clean_queues(stop).await;
            self.next_check = self.shared.clock.mono() + check_interval;
        }
    }

    /// Asks how full the disk is, and refuses appends when it is too full.
    async fn probe(&mut self) -> Option<Usage> {
        let shared = &self.shared;
        let (path, usage) = match usage(shared).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!("cannot find out how full the disk is: {error}");
                return None;
            }
        };
        let full = self.retention.full(&path, usage);
        let mut state = shared.state.lock();
        match (&full, &state.full) {
            (Some(why), None) => {
                crate::rt::probe!("store: appends are refused, the disk is too full");
                tracing::error!("appends are refused: {why}");
            }
            (None, Some(_)) => {
                crate::rt::probe!("store: appends go on, the disk has room again");
                tracing::info!("appends go on: {} % of the disk is used", usage.percent());
            }
            _ => {}
        }
        state.full = full.map(Arc::from);
        Some(usage)
    }

    /// One round: the oldest files, each only if it is still its turn.
    async fn delete_files(&mut self, stop: &mut StoreStop) {
        self.retention.on_round();
        for _ in 0..self.shared.options.retention.files_per_round {
            let look = self.look().await;
            let (cause, forced) = match self.retention.goal(&look) {
                Goal::Nothing => return,
                Goal::Expired(cause) => (cause, false),
                Goal::Oldest(cause) => (cause, true),
            };
            if !self.is_deleted_one_gone().await || (forced && !self.held.is_empty()) {
                return; // its space comes back before more goes
            }
            let Some(base) = self.candidate() else { return };
            if !forced && !self.is_expired(base).await {
                return;
            }
            if self.waited_for != Some(base) && self.waits_for_snapshot(base, stop).await {
                // Once per file, and then it is asked again whether it is its turn.
                self.waited_for = Some(base);
                continue;
            }
            if self.is_over(stop) || !self.delete_first(base, cause, stop).await {
                return;
            }
            let pause = self.shared.options.retention.log_file_pause;
            if !self.pause(pause, stop).await {
                return;
            }
        }
    }

    async fn look(&mut self) -> Look {
        let usage = self.probe().await;
        let clock = &self.shared.clock;
        let (now, wall) = (clock.mono(), clock.wall());
        if self.retention.on_time(now, wall) {
            crate::rt::probe!("store: the clock jumped ahead and was not believed");
            tracing::warn!(
                "the clock is far ahead of what passed since the last record or the last look: \
                 files are kept for longer until it has stayed there"
            );
        }
        let local = wall.0.saturating_add(clock.local_offset_ms(wall));
        let hour = local.div_euclid(3_600_000).rem_euclid(24) as u32;
        let state = self.shared.state.lock();
        let (segments, end) = (&state.segments, state.log.end());
        // The file in which the log ends, or the next one, which is about to be made: what waits in
        // memory behind it may yet be refused, and takes nothing from the disk.
        let last = segments.base_of(end).min(segments.end());
        let log_size = last + segments.size() - segments.first();
        Look { now, wall, hour, usage, log_size }
    }

    /// The oldest file, if it may go at all: neither the newest nor one that is not synced.
    fn candidate(&self) -> Option<u64> {
        let mut state = self.shared.state.lock();
        let below = state.deletable_below();
        let first = state.segments.first();
        (first + state.segments.size() <= below).then_some(first)
    }

    /// Both times must be old: that of the file's last change, and that at which the record behind
    /// its end was stored.
    async fn is_expired(&mut self, base: u64) -> bool {
        let shared = &self.shared;
        let (size, file) = {
            let mut state = shared.state.lock();
            (state.segments.size(), state.segments.file(&*shared.disk, base))
        };
        let changed = match file.and_then(|file| file.modified_ms()) {
            Ok(changed) => WallMillis(changed),
            Err(error) => {
                tracing::warn!("cannot find out how old a commit log file is: {error}");
                return false;
            }
        };
        if !self.retention.is_expired(changed) {
            return false;
        }
        match search::stored_at_offset(shared, base + size).await {
            Ok(Some(stored)) => self.retention.is_expired(stored),
            Ok(None) => true,
            Err(error) => {
                tracing::warn!("{error}");
                true
            }
        }
    }

    /// A snapshot that is older than the file would cost the next start a scan of the whole log.
    /// True when that took a while.
    async fn waits_for_snapshot(&self, base: u64, stop: &mut StoreStop) -> bool {
        for n in 0..SNAPSHOT_WAITS {
            {
                let mut state = self.shared.state.lock();
                let is_fresh = base + state.segments.size() <= state.saved.last_at;
                if is_fresh || state.queues_suspect || (n > 0 && !state.snapshot_asked) {
                    return n > 0;
                }
                state.snapshot_asked = true;
            }
            self.shared.queue_work.notify_one();
            if !self.pause(SNAPSHOT_WAIT, stop).await {
                break;
            }
        }
        true
    }

    /// False when it could not be done; it is tried again later.
    async fn delete_first(&mut self, base: u64, cause: Cause, stop: &StoreStop) -> bool {
        let size = self.shared.state.lock().segments.size();
        if !self.raise_mins(base + size, stop).await {
            return false;
        }
        fault::point("store: mins raised").await;
        let dropped = {
            let mut state = self.shared.state.lock();
            state.snapshot_at = None;
            state.segments.drop_first()
        };
        crate::rt::probe!("store: deleted a commit log file");
        tracing::info!("deleting {}: {cause}", dropped.path);
        self.round.why = Some(cause);
        let until = self.shared.clock.mono() + self.shared.options.retention.release_timeout;
        self.held.extend(dropped.file.map(|file| (file, until)));
        let gone = self.is_deleted_one_gone().await;
        self.release().await;
        gone
    }

    /// Finishes with the file that left the table; true when there is none.
    async fn is_deleted_one_gone(&mut self) -> bool {
        let doomed = {
            let state = self.shared.state.lock();
            state.segments.doomed().map(|base| (base, state.segments.path(base)))
        };
        let Some((base, path)) = doomed else { return true };
        let now = self.shared.clock.mono();
        if now < self.retry_at {
            return false;
        }
        match self.unlink(base, &path).await {
            Ok(()) => {
                self.round.files += 1;
                let mut state = self.shared.state.lock();
                state.files_deleted += 1;
                state.segments.on_deleted();
                true
            }
            Err(error) => {
                crate::rt::probe!("store: an old file could not be deleted");
                tracing::error!("failed to delete {path}, it is tried again: {error}");
                self.retry_at = now + self.shared.options.retention.retry_interval;
                false
            }
        }
    }

    /// Durable on return: that the file is gone.
    async fn unlink(&self, base: u64, path: &str) -> io::Result<()> {
        let shared = &self.shared;
        let file = shared.disk.open(path).ok();
        remove(shared, path).await?;
        fault::point("store: commit log file unlinked").await;
        shared.disk.sync_dir(parent(path)).await?;
        let own = shared.options.own_dir();
        if let Err(error) = remove(shared, &format!("{own}/checksum/{}", segment::name(base))).await
        {
            tracing::warn!("{error}");
        }
        if let Some(file) = file {
            let_go(shared, file).await;
        }
        Ok(())
    }

    /// Files whose last reader is gone are closed where that may take long.
    async fn release(&mut self) {
        let now = self.shared.clock.mono();
        let is_free = |(file, until): &mut (Arc<dyn File>, Mono)| {
            Arc::strong_count(file) == 1 || *until <= now
        };
        let free: Vec<_> = self.held.extract_if(.., is_free).collect();
        if !free.is_empty()
            && let Err(error) = blocking(move || drop(free)).await
        {
            tracing::warn!("{error}");
        }
    }

    /// Queues begin where the log will: before the first record goes, nobody is sent there. False
    /// when the store ends meanwhile.
    async fn raise_mins(&mut self, log_min: u64, stop: &StoreStop) -> bool {
        let count = self.shared.state.lock().queues.slot_count();
        for slot in 0..count {
            if slot % TURN_QUEUES == 0 {
                yield_now().await;
                if self.is_over(stop) {
                    return false;
                }
            }
            self.raise_min(Slot(slot as u32), log_min).await;
        }
        true
    }

    async fn raise_min(&mut self, slot: Slot, log_min: u64) {
        let (key, raise) = {
            let state = self.shared.state.lock();
            let Some(queue) = state.queues.get(slot) else { return };
            match queue.raise(log_min) {
                Raise::Stays => return,
                raise => (queue.key.clone(), raise),
            }
        };
        let (min, physical) = match raise {
            Raise::Stays => return,
            Raise::To(min, physical) => (min, physical),
            Raise::Within(low, high) => {
                match search::first_kept(&self.shared, &key, slot, (low, high), log_min).await {
                    Ok(found) => found,
                    Err(error) => {
                        // Its readers are led past what is gone, step by step.
                        tracing::warn!("consume queue {}/{}: {error}", key.topic, key.queue);
                        self.shared.state.lock().derived_errors += 1;
                        self.unraised = true;
                        return;
                    }
                }
            }
        };
        let mut state = self.shared.state.lock();
        let Some(queue) = state.queues.get_mut(slot) else { return };
        let (from, to) = (queue.on_raised(min, physical), QueueOffset(queue.min));
        if from < to.0 {
            let cut = Cut { key, from: QueueOffset(from), to };
            self.round.cuts.entry(slot).or_insert(cut).to = to;
        }
    }

    /// Says what the round took.
    fn tell(&mut self) {
        let Some(why) = self.round.why.take().filter(|_| self.round.files > 0) else { return };
        let Round { files, cuts, .. } = std::mem::take(&mut self.round);
        let mut queues: Vec<Cut> = cuts.into_values().collect();
        queues.sort_by(|a, b| a.key.cmp(&b.key));
        let min = {
            let mut state = self.shared.state.lock();
            // Queue files follow when the snapshot knows the new mins.
            state.snapshot_asked = true;
            PhysicalOffset(state.segments.first())
        };
        self.shared.queue_work.notify_one();
        self.shared.events.on_deleted(&Deleted { files, min, why: why.to_string(), queues });
    }

    /// Index files whose keys all lead to records that are gone.
    async fn clean_index(&self) {
        let min = self.shared.state.lock().segments.first();
        if let Err(error) = index_files::drop_below(&self.shared, min).await {
            tracing::warn!("failed to delete an old index file: {error}");
            self.shared.state.lock().derived_errors += 1;
        }
    }

    /// Queue files that hold only entries of records that are gone, but for each queue's last.
    /// Source: ConsumeQueue#deleteExpiredFile (4.9.3).
    async fn clean_queues(&mut self, stop: &mut StoreStop) {
        let options = &self.shared.options;
        let count = self.shared.state.lock().queues.slot_count();
        for slot in 0..count {
            if slot % TURN_QUEUES == 0 {
                yield_now().await;
                if self.is_over(stop) {
                    return;
                }
            }
            let slot = Slot(slot as u32);
            let due = {
                let state = self.shared.state.lock();
                let queue = state.queues.get(slot);
                queue.and_then(|queue| {
                    let kept = queue.min_saved.min(queue.end.saturating_sub(1));
                    let from = queue_files::place(options, kept).0;
                    (from > queue.files_from).then(|| (queue.key.clone(), from))
                })
            };
            let Some((key, from)) = due else { continue };
            match self.remove_queue_files(slot, &key, from).await {
                Ok(0) => {}
                Ok(_) => {
                    if !self.pause(options.retention.queue_pause, stop).await {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!("consume queue {}/{}: {error}", key.topic, key.queue);
                    self.shared.state.lock().derived_errors += 1;
                }
            }
        }
    }

    /// Removes the files of a queue that begin below `from`. Returns how many there were.
    async fn remove_queue_files(&self, slot: Slot, key: &QueueKey, from: u64) -> io::Result<usize> {
        let shared = &self.shared;
        let dir = queue_files::dir(&shared.options, key);
        let entries = match shared.disk.list(&dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            listed => listed?,
        };
        let bases = entries.iter().filter_map(|entry| segment::base(&entry.name));
        let old: Vec<u64> = bases.filter(|base| *base < from).collect();
        for base in &old {
            let _permit = shared.queue_dirs.acquire().await.map_err(io::Error::other)?;
            if shared.state.lock().queues.get(slot).is_none() {
                return Ok(0); // its topic was deleted
            }
            shared.queue_files.lock().close_where(|open| *open == (slot.0, *base));
            remove(shared, &queue_files::path(&shared.options, key, *base)).await?;
            shared.disk.sync_dir(&dir).await?;
            crate::rt::probe!("store: deleted a consume queue file");
            fault::point("store: queue file deleted").await;
        }
        if let Some(queue) = shared.state.lock().queues.get_mut(slot) {
            queue.files_from = from;
        }
        Ok(old.len())
    }

    /// False when the store ends meanwhile.
    async fn pause(&self, time: Duration, stop: &mut StoreStop) -> bool {
        let until = self.shared.clock.mono() + time;
        crate::rt::select! {
            _ = stop.wait() => false,
            _ = self.shared.clock.sleep_until(until) => true,
        }
    }
}

/// The directory of the log that is used least, and how full its file system is.
async fn usage(shared: &Shared) -> io::Result<(String, Usage)> {
    let disk = shared.disk.clone();
    let dirs = shared.options.commit_log.writable().to_vec();
    let asked = blocking(move || {
        let ask = |dir: String| {
            let (free, all) = disk.free_space(&dir)?;
            Ok((dir, Usage { free, all }))
        };
        dirs.into_iter().map(ask).collect::<io::Result<Vec<_>>>()
    });
    let least = asked.await??.into_iter().min_by_key(|(_, usage)| usage.percent());
    least.ok_or_else(|| io::Error::other("the log has no directory for new files"))
}

/// Frees the page cache of a removed file in small steps, and closes it. Whoever frees much of it
/// at once, and be it with the last `close`, keeps a core for many milliseconds: sends wait for it.
pub async fn let_go(shared: &Shared, file: Arc<dyn File>) {
    /// Units: bytes; about a fifth of a millisecond.
    const STEP: u64 = 1 << 20;
    const PAUSE: Duration = Duration::from_millis(1);
    let size = file.size().unwrap_or_default();
    for at in (0..size).step_by(STEP as usize) {
        let stepped = file.clone();
        if let Err(error) = blocking(move || stepped.forget(at, STEP)).await {
            tracing::warn!("{error}");
        }
        shared.clock.sleep_until(shared.clock.mono() + PAUSE).await;
    }
    close(file).await;
}

/// Closes a file off the broker thread: the last one to close a removed file frees its blocks.
pub async fn close(file: Arc<dyn File>) {
    if let Err(error) = blocking(move || drop(file)).await {
        tracing::warn!("{error}");
    }
}

/// Removes a file's name off the broker thread; no error when it is gone.
pub async fn remove(shared: &Shared, path: &str) -> io::Result<()> {
    let (disk, path) = (shared.disk.clone(), path.to_owned());
    match blocking(move || disk.remove(&path)).await? {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
