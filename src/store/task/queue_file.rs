//! Opening and making one consume queue file.

use crate::disk::{Disk, File, Fill, parent};
use crate::model::QueueKey;
use crate::store::consume_queue::Slot;
use crate::store::options::Options;
use crate::store::queue_files;
use crate::store::shared::Shared;
use std::io;
use std::sync::Arc;

/// Errors: `NotFound`.
pub fn open(shared: &Shared, key: &QueueKey, slot: Slot, base: u64) -> io::Result<Arc<dyn File>> {
    if let Some(file) = shared.queue_files.lock().find(&(slot.0, base)) {
        return Ok(file);
    }
    let file = shared.disk.open(&queue_files::path(&shared.options, key, base))?;
    shared.queue_files.lock().keep((slot.0, base), file.clone());
    Ok(file)
}

/// Makes the directories of a queue when they are not there. Lists the queue's: not for every file
/// of many. Durable on return: the names of those that were made.
pub async fn make_dirs(disk: &dyn Disk, options: &Options, key: &QueueKey) -> io::Result<()> {
    let dir = queue_files::dir(options, key);
    if disk.list(&dir).is_ok() {
        return Ok(());
    }
    disk.make_dir(&dir)?;
    let topic_dir = parent(&dir);
    disk.sync_dir(topic_dir).await?;
    disk.sync_dir(parent(topic_dir)).await
}

/// Makes a queue file in a directory that is there (`make_dirs`). What lies before the first entry
/// is filled with blank entries, as in 4.9.
/// Durable on return: the name; not the blank entries.
pub async fn create(
    disk: &dyn Disk,
    options: &Options,
    key: &QueueKey,
    base: u64,
    first_entry_at: u64,
) -> io::Result<Arc<dyn File>> {
    let path = queue_files::path(options, key, base);
    let (size, staging) = (queue_files::file_size(options), options.staging_dir());
    let made = disk.create_whole(&path, &staging, size, Fill::Sparse).await;
    let filled = made.and_then(|file| {
        if first_entry_at > 0 {
            crate::rt::probe!("store: blank entries before a queue's first");
            file.write_at(0, &queue_files::blanks(first_entry_at))?;
        }
        Ok(file)
    });
    if filled.is_err() {
        // The next try begins anew, or it would find the file and not fill it.
        let _ = disk.remove(&path);
    }
    filled
}
