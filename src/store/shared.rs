//! What the handle and the store's tasks hold together.

use super::consume_queue::Slot;
use super::events::StoreEvents;
use super::index::Index;
use super::open_files::OpenFiles;
use super::options::Options;
use super::select::Bounds;
use super::state::State;
use crate::disk::{Disk, LockGuard};
use crate::format::epochs::Epochs;
use crate::model::QueueKey;
use crate::rt::sync::{Mutex, Notify, Semaphore, watch};
use crate::rt::time::Clock;
use std::sync::Arc;

/// What the handle and the store's tasks share.
pub struct Shared {
    pub disk: Arc<dyn Disk>,
    pub clock: Clock,
    pub options: Options,
    pub events: Arc<dyn StoreEvents>,
    pub state: Mutex<State>,
    /// Open consume queue files: (slot, start of the file in bytes).
    pub queue_files: Mutex<OpenFiles<(u32, u64)>>,
    /// Wakes the log writer.
    pub log_work: Notify,
    /// Wakes the queue writer.
    pub queue_work: Notify,
    /// Wakes the floor writer.
    pub floor_work: Notify,
    /// Wakes the task that deletes old files.
    pub retention_work: Notify,
    /// Who wrote which part of the log, as `hotfire/epochs` has it.
    pub epochs: Mutex<Epochs>,
    /// The key index; its files are touched by its writer, and read by queries.
    pub index: Mutex<Index>,
    pub index_files: Mutex<OpenFiles<u64>>,
    /// Wakes the index writer.
    pub index_work: Notify,
    /// Rung when more of the log is indexed.
    pub index_moved: Notify,
    /// Rung when more of the log is synced.
    pub log_synced: Notify,
    /// Wakes whoever waits in `Store::until`.
    pub log_moved: Notify,
    /// One permit: whoever changes which queue files exist holds it.
    pub queue_dirs: Semaphore,
    /// How many of the tasks have ended.
    pub ended: watch::Sender<usize>,
    /// Given back at the end of an orderly stop.
    pub lock: Mutex<Option<Box<dyn LockGuard>>>,
}

/// The queue and its bounds; all zero for an unknown queue.
pub(super) fn bounds_of(state: &State, key: &QueueKey) -> (Option<Slot>, Bounds) {
    let slot = state.queues.find(key);
    let queue = slot.and_then(|slot| state.queues.get(slot));
    let (log_min, visible) = (state.segments.first(), state.visible());
    let (min, seen_end) = queue.map_or((0, 0), |queue| (queue.min, queue.end));
    let end = queue.map_or(0, |queue| state.end_of(queue));
    (slot, Bounds { min, end, seen_end, log_min, visible })
}
