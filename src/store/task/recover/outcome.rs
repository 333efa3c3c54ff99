//! The state that a recovered store begins with, and the snapshot that says it to the next start.

use super::evidence::Evidence;
use super::log_files::Found;
use crate::disk::{Disk, replace_small};
use crate::model::PhysicalOffset;
use crate::rt::time::Clock;
use crate::store::commit_log::{CommitLog, LastRecord};
use crate::store::consume_queue::Queues;
use crate::store::error::{Error, RecoveryReport};
use crate::store::flush::Flush;
use crate::store::options::Options;
use crate::store::segment::Segments;
use crate::store::snapshot::Snapshot;
use crate::store::state::{Saved, State};
use crate::store::tail_cache::TailCache;
use crate::store::task::floor_writer;
use std::io;
use std::sync::Arc;

pub fn build(
    clock: &Clock,
    options: &Options,
    found: &Evidence,
    queues: Queues,
    end: u64,
    last: Option<LastRecord>,
) -> State {
    let (log, size) = (&found.log, options.segment_size_bytes);
    let segments = Segments::new(log.places.clone(), log.first, log.end, options.open_files_max);
    State::new(
        CommitLog::new(size, options.block_size_bytes, end),
        Flush::new(options, end, clock.mono()),
        queues,
        TailCache::new(options.tail_cache_size_bytes, options.tail_cache_idle_size_bytes, end),
        segments,
        last,
    )
}

/// Writes the snapshot of what was recovered, so that the next recovery begins here, and the floor,
/// so that it knows no less than this one even when the snapshot does not fit it.
pub async fn finish(
    disk: &Arc<dyn Disk>,
    options: &Options,
    mut found: Evidence,
    mut state: State,
    last: Option<LastRecord>,
    report: &mut RecoveryReport,
) -> Result<State, Error> {
    let end = report.end.0;
    if found.floor.is_none() {
        forget_floor(disk, options).await?;
    }
    state.floor = found.floor.unwrap_or_default();
    state.topic_floors = std::mem::take(&mut found.topic_floors);
    if state.topic_floors.cut_back_to(end) {
        crate::rt::probe!("store: a topic's floor was past the log's end (W-29)");
        let path = format!("{}/topic_floors", options.own_dir());
        let written = replace_small(&**disk, &path, &state.topic_floors.encode()).await;
        written.map_err(Error::io(path))?;
    }
    let known = found.snapshot.take().filter(|s| s.at == end && s.log_min == found.log.first);
    let snapshot = match known {
        Some(snapshot) => snapshot,
        None => {
            let (last_at, last_crc) = match last {
                Some(last) => match found.log.look(last.at).await {
                    Ok((Found::Record { end }, bytes)) => {
                        (last.at, crc32fast::hash(&bytes[..(end - last.at) as usize]))
                    }
                    _ => return Ok(state),
                },
                None => (end, 0),
            };
            let (rows, log_min) = (state.rows_at(end), found.log.first);
            let snapshot = Snapshot { at: end, last_at, last_crc, log_min, rows };
            let path = format!("{}/queues", options.own_dir());
            let written = replace_small(&**disk, &path, &snapshot.encode()).await;
            written.map_err(Error::io(path))?;
            snapshot
        }
    };
    let saved = Saved { last_at: snapshot.last_at, log_min: snapshot.log_min };
    state.on_snapshot(end, saved, &snapshot.rows);
    // Everything below the log's end is on disk now.
    if snapshot.last_at < end && state.floor.offset.0 != end {
        let (path, end) = (floor_writer::path(options), PhysicalOffset(end));
        let last = (PhysicalOffset(snapshot.last_at), snapshot.last_crc);
        let raised = floor_writer::raise(&**disk, &path, &state.floor, end, last).await;
        state.floor = raised.map_err(Error::io(path))?;
    }
    Ok(state)
}

/// A floor that did not fit the log says nothing about what it is now: it may even lie above its
/// end, and then a later start without log files would take them for missing.
async fn forget_floor(disk: &Arc<dyn Disk>, options: &Options) -> Result<(), Error> {
    let own = options.own_dir();
    match disk.remove(&floor_writer::path(options)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        removed => removed.map_err(Error::io("remove hotfire/floor"))?,
    }
    disk.sync_dir(&own).await.map_err(Error::io("sync the directory hotfire"))
}
