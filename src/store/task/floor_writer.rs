//! Writes the durable floor, about once a second and after so many bytes.

use super::{StoreStop, search};
use crate::format::floor::{self, Floor};
use crate::model::PhysicalOffset;
use crate::rt::fault;
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
    let (synced, last, generation) = {
        let mut state = shared.state.lock();
        let (synced, last) = state.durable();
        if state.floor.offset.0 == synced {
            return Ok(());
        }
        (synced, last, state.floor.generation + 1)
    };
    let Some((last_at, last_crc)) = search::checksum(shared, last, synced).await? else {
        return Ok(());
    };
    let offset = PhysicalOffset(synced);
    let floor = Floor { generation, offset, last_at: PhysicalOffset(last_at), last_crc };
    let file = shared.disk.open_or_create(&path(shared))?;
    if file.size()? != floor::SIZE as u64 {
        file.set_size(floor::SIZE as u64)?;
    }
    file.write_at(floor.slot_at(), &floor.encode_slot())?;
    shared.state.lock().floor = floor;
    fault::point("store: floor written").await;
    Ok(())
}

pub fn path(shared: &Shared) -> String {
    format!("{}/floor", shared.options.own_dir())
}
