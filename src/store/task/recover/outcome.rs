//! The state that a recovered store begins with, and the snapshot that says it to the next start.

use super::evidence::Evidence;
use super::log_files::Found;
use crate::disk::{Disk, replace_small};
use crate::rt::time::Clock;
use crate::store::commit_log::{CommitLog, LastRecord};
use crate::store::consume_queue::Queues;
use crate::store::error::{Error, RecoveryReport};
use crate::store::flush::Flush;
use crate::store::options::Options;
use crate::store::segment::Segments;
use crate::store::snapshot::{Row, Snapshot};
use crate::store::state::{Saved, State};
use crate::store::tail_cache::TailCache;
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
        TailCache::new(options.tail_cache_size_bytes, end),
        segments,
        last,
    )
}

/// Writes the snapshot of what was recovered, so that the next recovery begins here.
pub async fn finish(
    disk: &Arc<dyn Disk>,
    options: &Options,
    mut found: Evidence,
    mut state: State,
    last: Option<LastRecord>,
    report: &mut RecoveryReport,
) -> Result<State, Error> {
    let end = report.end.0;
    state.floor = found.floor.unwrap_or_default();
    state.topic_floors = std::mem::take(&mut found.topic_floors);
    let same = found.snapshot.as_ref().is_some_and(|s| s.at == end && s.log_min == found.log.first);
    if let Some(snapshot) = found.snapshot.as_ref().filter(|_| same) {
        let saved = Saved { last_at: snapshot.last_at, log_min: snapshot.log_min };
        state.on_snapshot(end, saved, &snapshot.rows);
    } else {
        let (last_at, last_crc) = match last {
            Some(last) => match found.log.look(last.at).await {
                Ok((Found::Record { end }, bytes)) => {
                    (last.at, crc32fast::hash(&bytes[..(end - last.at) as usize]))
                }
                _ => return Ok(state),
            },
            None => (end, 0),
        };
        let rows: Vec<Row> = state.rows_at(end);
        let snapshot = Snapshot { at: end, last_at, last_crc, log_min: found.log.first, rows };
        let path = format!("{}/queues", options.own_dir());
        let written = replace_small(&**disk, &path, &snapshot.encode()).await;
        written.map_err(Error::io(path))?;
        let saved = Saved { last_at, log_min: snapshot.log_min };
        state.on_snapshot(end, saved, &snapshot.rows);
    }
    Ok(state)
}
