//! The orderly stop.
//!
//! Source: DefaultMessageStore#shutdown (4.9.3).
//! Differs: everything is synced before `abort` goes away (W-14).

use super::{floor_writer, index_writer, queue_writer};
use crate::disk::{LockGuard, parent};
use crate::rt::fault;
use crate::store::error::Error;
use crate::store::shared::Shared;
use std::io;

/// What becomes of the mark that the next start has an unclean stop before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abort {
    Goes,
    /// What an unclean stop asks of the next start is not done yet.
    Stays,
}

/// The tasks were told to stop; waits for all `task_count` of them, then finishes. The directory is
/// ours until the lock that is returned is dropped.
pub async fn run(
    shared: &Shared,
    task_count: usize,
    abort: Abort,
) -> (Option<Box<dyn LockGuard>>, Result<(), Error>) {
    shared.ended.subscribe().until(|ended| *ended >= task_count).await;
    let poison = shared.state.lock().poison.clone();
    if let Some(reason) = poison {
        return (shared.lock.lock().take(), Err(Error::Poisoned(reason.to_string())));
    }
    if shared.lock.lock().is_none() {
        return (None, Ok(())); // it was stopped before
    }
    let finished = finish(shared, abort).await;
    let finished = finished.map_err(Error::io("stop in order, the next start will recover"));
    (shared.lock.lock().take(), finished)
}

async fn finish(shared: &Shared, abort: Abort) -> io::Result<()> {
    let (disk, options) = (&shared.disk, &shared.options);
    // All entries go to the files even when they can no longer be synced.
    queue_writer::write_due(shared, Some(shared.clock.mono())).await;
    index_writer::finish(shared).await;
    queue_writer::checkpoint(shared).await?;
    floor_writer::write(shared).await?;
    disk.open_or_create(&floor_writer::path(&shared.options))?.sync_data().await?;
    remove_unused_segments(shared).await?;
    disk.sync_dir(&options.own_dir()).await?;
    if shared.state.lock().queues_suspect {
        return Err(io::Error::other("queue files could not be synced"));
    }
    if abort == Abort::Stays {
        return Ok(());
    }
    fault::point("store: before abort is removed").await;
    for path in [options.running_path(), format!("{}/abort", options.root)] {
        match disk.remove(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    disk.sync_dir(&options.own_dir()).await?;
    disk.sync_dir(&options.root).await
}

/// Files that were made ahead and hold nothing. Source: AllocateMappedFileService#shutdown.
async fn remove_unused_segments(shared: &Shared) -> io::Result<()> {
    let unused: Vec<String> = {
        let state = shared.state.lock();
        let (segments, end) = (&state.segments, state.log.end());
        let mut bases = Vec::new();
        let mut base = segments.end();
        let size = segments.size();
        while base > segments.first() && base - size >= end {
            base -= size;
            // The first file's name alone tells where an empty log goes on.
            if base > 0 && base == segments.first() {
                break;
            }
            bases.push(segments.path(base));
        }
        bases
    };
    // The newest first and one by one: none may come back behind one that does not.
    for path in &unused {
        shared.disk.remove(path)?;
        shared.disk.sync_dir(parent(path)).await?;
    }
    Ok(())
}
