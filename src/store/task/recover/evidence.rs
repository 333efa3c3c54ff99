//! What the directory says before the log is scanned, and how far it can be trusted.

use super::lock::make_dirs;
use super::log_files::{Found, LogFiles};
use super::queue_dirs::{QueueDirs, list_files};
use crate::disk::{Disk, parent, read_small};
use crate::format::checkpoint::Checkpoint;
use crate::format::floor::{self, Floor};
use crate::model::PhysicalOffset;
use crate::store::error::Error;
use crate::store::options::Options;
use crate::store::snapshot::{self, Snapshot, TopicFloors};
use crate::store::task::delete::read_floors;
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
}

pub async fn look(disk: &Arc<dyn Disk>, options: &Options) -> Result<Evidence, Error> {
    make_dirs(&**disk, options).await.map_err(Error::io("make the store's directories"))?;
    let size = options.segment_size_bytes;
    let bases = list_files(&**disk, &options.commit_log_dir, size)?;
    if let Some(pair) = bases.windows(2).find(|pair| pair[0] + size != pair[1]) {
        let path = format!("{}/{}", options.commit_log_dir, crate::store::segment::name(pair[1]));
        let what = format!("the file before it is missing: it should begin at {}", pair[0] + size);
        return Err(Error::Foreign { path, what });
    }
    let first = bases.first().copied().unwrap_or(0);
    let range = (first, first + bases.len() as u64 * size);
    let chunk = options.recovery_read_size_bytes;
    let mut log = LogFiles::new(disk.clone(), &options.commit_log_dir, size, range, chunk);
    let mut queues = QueueDirs::list(disk, options)?;
    let own = options.own_dir();
    let topic_floors = read_floors(read_small(&**disk, &format!("{own}/topic_floors"), 64 << 20));
    let floor_path = format!("{own}/floor");
    let mut floor = read_floor(&**disk, &floor_path, &mut log).await;
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
    let names = disk.list(&options.root).map_err(Error::io("list the root"))?;
    let was_running = match disk.open(&options.running_path()) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => false,
        opened => opened.map_err(Error::io(options.running_path())).map(|_| true)?,
    };
    let unclean = was_running || names.iter().any(|entry| entry.name == "abort");
    Ok(Evidence { log, queues, unclean, floor, snapshot, topic_floors, by_time: false })
}

/// The newest floor that fits the log. The older slot counts too: the last record below the newer
/// one may have rotted.
async fn read_floor(disk: &dyn Disk, path: &str, log: &mut LogFiles) -> Option<Floor> {
    let bytes = read_small(disk, path, floor::SIZE as u64).ok()?;
    let mut slots: Vec<Floor> = bytes.chunks(floor::SLOT_SIZE).filter_map(Floor::decode).collect();
    slots.sort_by_key(|slot| slot.generation);
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
    let kept = Floor {
        generation: floor.map_or(0, |floor| floor.generation) + 1,
        offset: PhysicalOffset(snapshot.at),
        last_at: PhysicalOffset(snapshot.last_at),
        last_crc: snapshot.last_crc,
    };
    let file = disk.open_or_create(path)?;
    file.set_size(floor::SIZE as u64)?;
    file.write_at(kept.slot_at(), &kept.encode_slot())?;
    file.sync_data().await?;
    *floor = Some(kept);
    disk.sync_dir(parent(path)).await
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
            let (_, physical) = found.queues.own_end(key, log.end).await?;
            if log.holds(physical)
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
