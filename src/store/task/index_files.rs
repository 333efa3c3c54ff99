//! Index files on disk: paths, opening, making and dropping them, and the mark that says how far
//! they are.

use super::retention::{let_go, remove};
use crate::disk::{File, Fill, read_small, replace_small};
use crate::format::index_file::{HEADER_SIZE, Header};
use crate::rt::fault;
use crate::store::index::mark::{self, Mark};
use crate::store::index::slots::Slots;
use crate::store::index::{Active, IndexFile, name};
use crate::store::options::Options;
use crate::store::shared::Shared;
use std::io;
use std::sync::Arc;

/// `<root>/index`. Source: StorePathConfigHelper#getStorePathIndex (4.9.3).
pub fn dir(options: &Options) -> String {
    format!("{}/index", options.root)
}
pub fn path(options: &Options, name: u64) -> String {
    format!("{}/{}", dir(options), name::text(name))
}

/// Errors: `NotFound`.
pub fn open(shared: &Shared, name: u64) -> io::Result<Arc<dyn File>> {
    if let Some(file) = shared.index_files.lock().find(&name) {
        return Ok(file);
    }
    let file = shared.disk.open(&path(&shared.options, name))?;
    shared.index_files.lock().keep(name, file.clone());
    Ok(file)
}

/// Makes the file that follows all others, and says so in the mark.
/// Durable on return: name, header and mark.
pub async fn create(shared: &Shared) -> io::Result<()> {
    let options = &shared.options;
    let (last_name, header, cursor, shape) = {
        let index = shared.index.lock();
        let last = index.files().next();
        let header = last.map_or(Header::FIRST, |file| file.header.next_file());
        (index.last_name(), header, index.cursor, index.shape)
    };
    if shared.disk.list(&dir(options)).is_err() {
        shared.disk.make_dir(&dir(options))?;
        shared.disk.sync_dir(&options.root).await?;
    }
    let now = shared.clock.wall();
    let local_ms = now.0.saturating_add(shared.clock.local_offset_ms(now));
    let name = name::next(last_name, local_ms);
    let path = path(options, name);
    let made =
        shared.disk.create_whole(&path, &options.staging_dir(), shape.file_size(), Fill::Sparse);
    let file = made.await.inspect_err(|_| {
        // The name may be there although its directory could not be synced. Nothing is in it.
        let _ = shared.disk.remove(&path);
    })?;
    fault::point("store: index file created").await;
    file.write_at(0, &header.encode())?;
    file.sync_data().await?;
    shared.index_files.lock().keep(name, file);
    let mark = Mark { name, header, cursor, writing: None };
    write_mark(shared, &mark).await?;
    let mut index = shared.index.lock();
    index.mark = mark;
    index.active = Some(Active::new(name, header, Slots::empty(&shape)));
    Ok(())
}

fn mark_path(options: &Options) -> String {
    format!("{}/index", options.own_dir())
}

/// `None` when nothing is known.
pub fn read_mark(shared: &Shared) -> Option<Mark> {
    let bytes = read_small(&*shared.disk, &mark_path(&shared.options), mark::SIZE_MAX).ok()?;
    Mark::decode(&bytes, &shared.options.index_shape())
}

/// Durable on return.
pub async fn write_mark(shared: &Shared, mark: &Mark) -> io::Result<()> {
    replace_small(&*shared.disk, &mark_path(&shared.options), &mark.encode()).await
}

pub async fn read_header(file: &Arc<dyn File>) -> io::Result<bytes::Bytes> {
    file.read(0, HEADER_SIZE).await
}

/// Deletes the leading index files whose records all lie below `physical`, never the last one.
/// Returns how many. Source: IndexService#deleteExpiredFile (4.9.3).
pub async fn drop_below(shared: &Shared, physical: u64) -> io::Result<usize> {
    let dropped = shared.index.lock().drop_below(physical);
    for IndexFile { name, .. } in &dropped {
        let file = open(shared, *name).ok();
        shared.index_files.lock().close_where(|open| open == name);
        remove(shared, &path(&shared.options, *name)).await?;
        if let Some(file) = file {
            let_go(shared, file).await;
        }
    }
    if !dropped.is_empty() {
        crate::rt::probe!("store: index files dropped");
        shared.disk.sync_dir(&dir(&shared.options)).await?;
    }
    Ok(dropped.len())
}
