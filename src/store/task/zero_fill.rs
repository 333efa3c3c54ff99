//! Fills the first segment of a new store with zeros, as the others are when they are made: a sync
//! of zeros that are there is cheaper than one that converts extents. The first start does not
//! wait for it.

use super::StoreStop;
use crate::disk::File;
use crate::store::options::FlushMode;
use crate::store::shared::Shared;
use std::io;
use std::sync::Arc;

/// One write holds the broker thread less than a millisecond. Units: bytes.
const STEP_SIZE: u64 = 256 << 10;

/// Filling stays so far ahead of the writer, or leaves the place to it. Units: bytes.
const AHEAD_SIZE: u64 = 4 << 20;

/// Runs once, under SYNC_FLUSH, when the store was new.
pub async fn run(shared: Arc<Shared>, mut stop: StoreStop, is_new: bool) {
    if !is_new || shared.options.flush != FlushMode::Sync {
        return;
    }
    if let Err(error) = fill(&shared, &mut stop).await {
        tracing::warn!("the first commit log file is not filled with zeros: {error}");
    }
}

async fn fill(shared: &Shared, stop: &mut StoreStop) -> io::Result<()> {
    let size = shared.options.segment_size_bytes;
    let mut file: Option<Arc<dyn File>> = None;
    let mut at = 0;
    while at < size {
        let pause = shared.clock.mono() + shared.options.zero_fill_pause;
        crate::rt::select! {
            _ = stop.wait() => return Ok(()),
            _ = shared.clock.sleep_until(pause) => {}
        }
        let mut state = shared.state.lock();
        if state.poison.is_some() || state.stopping || state.segments.first() > 0 {
            return Ok(());
        }
        if state.segments.end() == 0 {
            continue;
        }
        let opened = match file.take() {
            Some(opened) => opened,
            None => state.segments.file(&*shared.disk, 0)?,
        };
        // The log's end cannot move while the state is locked.
        at = at.max(state.log.end() + AHEAD_SIZE.min(size / 4));
        let len = STEP_SIZE.min(size.saturating_sub(at));
        if len > 0 {
            crate::rt::probe!("store: filled the first segment with zeros");
            opened.write_at(at, &vec![0; len as usize])?;
            opened.start_writeback(at, len);
        }
        at += len.max(1);
        file = Some(opened);
    }
    Ok(())
}
