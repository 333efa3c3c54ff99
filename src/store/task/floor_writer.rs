//! Writes the durable floor, about once a second and after so many bytes.

use super::{StoreStop, search};
use crate::disk::{Disk, File, parent};
use crate::format::floor::{self, Floor};
use crate::model::PhysicalOffset;
use crate::rt::fault;
use crate::store::options::Options;
use crate::store::shared::Shared;
use std::io;
use std::sync::Arc;

pub async fn run(shared: Arc<Shared>, mut stop: StoreStop) {
    loop {
        let next = shared.clock.mono() + shared.options.floor_interval;
        crate::rt::select! {
            _ = stop.wait() => return,
            _ = shared.clock.sleep_until(next) => {}
            _ = shared.floor_work.notified() => {}
        }
        if shared.state.lock().poison.is_some() {
            return;
        }
        if let Err(error) = write(&shared).await {
            tracing::warn!("failed to write the durable floor: {error}");
            shared.state.lock().derived_errors += 1;
        }
    }
}

/// Moves the floor to what is synced. It is not synced itself: an older floor is as true, and a
/// torn one leaves the other slot.
pub async fn write(shared: &Shared) -> io::Result<()> {
    let (synced, last, before) = {
        let mut state = shared.state.lock();
        let (synced, last) = state.durable();
        if state.floor.offset.0 == synced {
            return Ok(());
        }
        (synced, last, state.floor)
    };
    let Some((last_at, last_crc)) = search::checksum(shared, last, synced).await? else {
        return Ok(());
    };
    let floor = before.raised(PhysicalOffset(synced), PhysicalOffset(last_at), last_crc);
    put(&*shared.disk, &path(&shared.options), &floor)?;
    shared.state.lock().floor = floor;
    fault::point("store: floor written").await;
    Ok(())
}

fn put(disk: &dyn Disk, path: &str, floor: &Floor) -> io::Result<Arc<dyn File>> {
    let file = disk.open_or_create(path)?;
    if file.size()? != floor::SIZE as u64 {
        file.set_size(floor::SIZE as u64)?;
    }
    file.write_at(floor.slot_at(), &floor.encode_slot())?;
    Ok(file)
}

/// The floor that follows `before`. Durable on return.
pub async fn raise(
    disk: &dyn Disk,
    path: &str,
    before: &Floor,
    offset: PhysicalOffset,
    (last_at, last_crc): (PhysicalOffset, u32),
) -> io::Result<Floor> {
    let floor = before.raised(offset, last_at, last_crc);
    put(disk, path, &floor)?.sync_data().await?;
    disk.sync_dir(parent(path)).await?;
    Ok(floor)
}

pub fn path(options: &Options) -> String {
    format!("{}/floor", options.own_dir())
}
