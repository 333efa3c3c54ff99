//! What the directory says before the log is scanned, and how far it can be trusted.

use super::listing;
use super::lock::make_dirs;
use super::log_files::{Found, LogFiles};
use super::queue_dirs::QueueDirs;
use crate::disk::{Disk, read_small};
use crate::format::checkpoint::Checkpoint;
use crate::format::floor::{self, Floor};
use crate::model::PhysicalOffset;
use crate::store::error::Error;
use crate::store::options::Options;
use crate::store::snapshot::{self, Snapshot, TopicFloors};
use crate::store::task::delete::read_floors;
use crate::store::task::floor_writer;
use std::io;
use std::sync::Arc;

/// What was found before the log is scanned.
pub struct Evidence {
    pub log: LogFiles,
    pub queues: QueueDirs,
    pub unclean: bool,
    pub floor: Option<Floor>,
    pub snapshot: Option<Snapshot>,
    pub topic_floors: TopicFloors,
    /// What can be trusted was found by store times, as RocketMQ does.
    pub by_time: bool,
    /// Files without a byte that were removed.
    pub removed: Vec<String>,
}

pub async fn look(disk: &Arc<dyn Disk>, options: &Options) -> Result<Evidence, Error> {
    make_dirs(&**disk, options).await.map_err(Error::io("make the store's directories"))?;
    let names = disk.list(&options.root).map_err(Error::io("list the root"))?;
    let was_running = match disk.open(&options.running_path()) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => false,
        opened => opened.map_err(Error::io(options.running_path())).map(|_| true)?,
    };
    let unclean = was_running || names.iter().any(|entry| entry.name == "abort");
    let mut removed = Vec::new();
    let places = listing::log(&**disk, options, &mut removed).await?;
    let mut log = LogFiles::new(disk.clone(), places, options.recovery_read_size_bytes);
    let mut queues = QueueDirs::list(disk, options, &mut removed).await?;
    let own = options.own_dir();
    let topic_floors = read_floors(read_small(&**disk, &format!("{own}/topic_floors"), 64 << 20));
    let floor_path = floor_writer::path(options);
    let slots = read_slots(&**disk, &floor_path);
    check_reach(options, &log, &slots)?;
    let mut floor = find_floor(slots, &mut log).await;
    let snapshot = read_small(&**disk, &format!("{own}/queues"), snapshot::SIZE_MAX).ok();
    let mut snapshot = snapshot.and_then(|bytes| Snapshot::decode(&bytes));
    if let Some(found) = &mut snapshot {
        let below = found.at;
        found.rows.retain(|row| below > topic_floors.of(&row.key.topic));
    }
    if let Some(found) = &snapshot {
        let fits = log.is_anchor(found.last_at, found.last_crc, found.at).await;
        if !fits {
            tracing::warn!("hotfire/queues does not fit the log at offset {}", found.at);
        }
        if !fits || !queues_are_as(&queues, found).await {
            crate::rt::probe!("store: the snapshot did not fit the files");
            if fits {
                let kept = keep_as_floor(&**disk, &floor_path, &mut floor, found).await;
                kept.map_err(Error::io(floor_path))?;
            }
            snapshot = None;
        }
    }
    for topic in topic_floors.0.keys() {
        let known = snapshot.as_ref().is_some_and(|s| s.rows.iter().any(|r| r.key.topic == *topic));
        if !known {
            queues.remove_topic(topic).await.map_err(Error::io("remove a deleted topic"))?;
        }
    }
    Ok(Evidence { log, queues, unclean, floor, snapshot, topic_floors, by_time: false, removed })
}

/// The floors that were written last, the newest at the end.
fn read_slots(disk: &dyn Disk, path: &str) -> Vec<Floor> {
    let bytes = read_small(disk, path, floor::SIZE as u64).unwrap_or_default();
    let mut slots: Vec<Floor> = bytes.chunks(floor::SLOT_SIZE).filter_map(Floor::decode).collect();
    slots.sort_by_key(|slot| slot.generation);
    slots
}

/// A log whose files end before what was once durable may lie on a disk that is not there: it is
/// not begun anew. With one path a log that has files counts: Java may have cut it.
fn check_reach(options: &Options, log: &LogFiles, slots: &[Floor]) -> Result<(), Error> {
    let reached = slots.iter().map(|slot| slot.offset.0).max().unwrap_or(0);
    let paths = options.commit_log.all();
    if reached <= log.end || (paths.len() == 1 && log.end > log.first) {
        return Ok(());
    }
    let path = floor_writer::path(options);
    let what = format!(
        "the log reached offset {reached}, its files in {} end at {}: is a disk not mounted? To go \
         on without what is missing remove this file",
        paths.join(", "),
        log.end
    );
    Err(Error::Foreign { path, what })
}

/// The newest floor that fits the log. The older slot counts too: the last record below the newer
/// one may have rotted.
async fn find_floor(mut slots: Vec<Floor>, log: &mut LogFiles) -> Option<Floor> {
    while let Some(slot) = slots.pop() {
        if log.is_anchor(slot.last_at.0, slot.last_crc, slot.offset.0).await {
            return Some(slot);
        }
        tracing::warn!("hotfire/floor does not fit the log at offset {}", slot.offset);
        crate::rt::probe!("store: the floor did not fit the log");
    }
    None
}

/// A snapshot that no longer fits the queues still says how far the log was durable, and it is
/// about to be forgotten. Durable on return.
async fn keep_as_floor(
    disk: &dyn Disk,
    path: &str,
    floor: &mut Option<Floor>,
    snapshot: &Snapshot,
) -> io::Result<()> {
    if floor.is_some_and(|floor| floor.offset.0 >= snapshot.at) {
        return Ok(());
    }
    let before = floor.unwrap_or_default();
    let last = (PhysicalOffset(snapshot.last_at), snapshot.last_crc);
    let at = PhysicalOffset(snapshot.at);
    *floor = Some(floor_writer::raise(disk, path, &before, at, last).await?);
    Ok(())
}

async fn queues_are_as(queues: &QueueDirs, snapshot: &Snapshot) -> bool {
    for row in &snapshot.rows {
        if !queues.is_as(row).await {
            tracing::warn!("consume queue {}/{} is not whole", row.key.topic, row.key.queue);
            return false;
        }
    }
    true
}

/// Everything below was synced: a bad record there is rot, and no end of the log.
pub async fn trusted(
    disk: &Arc<dyn Disk>,
    options: &Options,
    found: &mut Evidence,
) -> Result<u64, Error> {
    let known = [found.floor.map(|f| f.offset.0), found.snapshot.as_ref().map(|s| s.at)];
    if let Some(known) = known.into_iter().flatten().max() {
        return Ok(known);
    }
    crate::rt::probe!("store: recovered without a floor");
    let log = &mut found.log;
    if !found.unclean {
        // Java stopped in order: what its queues point to was synced.
        let mut end = log.first;
        for key in found.queues.files.keys() {
            let physical = found.queues.last_physical(key);
            let physical = physical.map_err(Error::io("look for the end of a consume queue"))?;
            if let Some(physical) = physical.filter(|at| log.holds(*at))
                && let Ok((Found::Record { end: after }, _)) = log.look(physical).await
            {
                end = end.max(after);
            }
        }
        return Ok(end);
    }
    // Source: CommitLog#isMappedFileMatchedRecover (4.9.3).
    found.by_time = true;
    let path = format!("{}/checkpoint", options.root);
    let checkpoint = read_small(&**disk, &path, 1 << 20).ok();
    let checkpoint = checkpoint.and_then(|bytes| Checkpoint::decode(&bytes)).unwrap_or_default();
    let mut base = log.end;
    while base > log.first {
        base -= log.size;
        let stored = log.stored_at(base).await;
        if stored.is_some_and(|stored| stored.0 > 0 && stored <= checkpoint.min()) {
            return Ok(base);
        }
    }
    Ok(log.first)
}

/// Queue files are about to be made anew: until that is done nothing may be known about them.
pub async fn forget_snapshot(disk: &Arc<dyn Disk>, options: &Options) -> Result<(), Error> {
    let own = options.own_dir();
    match disk.remove(&format!("{own}/queues")) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            return Err(Error::io("remove hotfire/queues")(e));
        }
        _ => {}
    }
    disk.sync_dir(&own).await.map_err(Error::io("sync the directory hotfire"))
}
