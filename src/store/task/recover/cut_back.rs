//! A slave's log that went another way than its master's is cut back, before anything else looks at
//! it: `hotfire/cut_to` says to where. What is cut off is kept in `hotfire/cut/`.
//!
//! Every step may be repeated: the file stays until all is done.

use super::log_files::LogFiles;
use super::{cut, cut_progress, listing, lock};
use crate::disk::{Disk, parent, read_small, replace_small, settle_names};
use crate::model::PhysicalOffset;
use crate::rt::fault;
use crate::store::error::Error;
use crate::store::options::Options;
use crate::store::segment;
use crate::store::task::floor_writer;
use std::io;
use std::sync::Arc;

fn path(options: &Options) -> String {
    format!("{}/cut_to", options.own_dir())
}

/// The next start cuts the log back to `at`, the end of a record. Durable on return.
pub async fn ask(disk: &dyn Disk, options: &Options, at: PhysicalOffset) -> io::Result<()> {
    let sum = crc32fast::hash(&at.0.to_be_bytes());
    let bytes = [&at.0.to_be_bytes()[..], &sum.to_be_bytes()].concat();
    replace_small(disk, &path(options), &bytes).await
}

fn asked(disk: &dyn Disk, options: &Options) -> Option<u64> {
    let bytes = read_small(disk, &path(options), 12).ok()?;
    let at = *bytes.first_chunk::<8>()?;
    let sum = u32::from_be_bytes(*bytes.get(8..)?.first_chunk()?);
    (sum == crc32fast::hash(&at)).then_some(u64::from_be_bytes(at))
}

/// Durable on return: the log up to there and no further, and nothing that knows of more.
pub async fn run(disk: &Arc<dyn Disk>, options: &Options) -> Result<(), Error> {
    let Some(to) = asked(&**disk, options) else { return Ok(()) };
    crate::rt::probe!("store: a log was cut back to what its master has");
    lock::make_dirs(&**disk, options).await.map_err(Error::io("make the store's directories"))?;
    let places = listing::log(&**disk, options, &mut Vec::new()).await?;
    let mut log = LogFiles::new(disk.clone(), places, options.recovery_read_size_bytes);
    if to < log.first {
        tracing::error!("the log begins at {} and cannot be cut back to {to}", log.first);
        return remove(&**disk, &path(options));
    }
    tracing::warn!("the log is cut back to {to}: its master has other records behind that");
    cut_progress::note(&**disk, options, &mut log, to).await?;
    // Without them the scan that follows ends the log by what it finds.
    forget(&**disk, options, to).await.map_err(Error::io("cut the log back"))?;
    fault::point("store: cut back begun").await;
    keep(disk, options, &mut log, to).await?;
    while log.end > log.first && log.end - log.size >= to {
        remove_last(&**disk, options, &mut log).await?;
    }
    if log.holds(to) {
        let used = log.used_end(to).await?;
        log.zero(to, used).await?;
        remove(&**disk, &sums(options, log.base_of(to)))?;
    }
    let own = options.own_dir();
    let settled = settle_names(&**disk, &format!("{own}/checksum")).await;
    settled.map_err(Error::io("sync the directory of checksums"))?;
    fault::point("store: cut back").await;
    remove(&**disk, &path(options))?;
    disk.sync_dir(&own).await.map_err(Error::io("sync the directory hotfire"))
}

async fn keep(
    disk: &Arc<dyn Disk>,
    options: &Options,
    log: &mut LogFiles,
    to: u64,
) -> Result<(), Error> {
    let mut at = to.max(log.first);
    while at < log.end {
        let used = log.used_end(at).await?;
        if used > at {
            cut::keep(disk, options, log, at, used).await;
        }
        at = log.base_of(at) + log.size;
    }
    Ok(())
}

async fn remove_last(disk: &dyn Disk, options: &Options, log: &mut LogFiles) -> Result<(), Error> {
    let base = log.end - log.size;
    let path = log.path(base);
    remove(disk, &path)?;
    let dir = parent(&path);
    disk.sync_dir(dir).await.map_err(Error::io(format!("sync {dir}")))?;
    remove(disk, &sums(options, base))?;
    log.end = base;
    log.places.remove(base);
    Ok(())
}

fn sums(options: &Options, base: u64) -> String {
    format!("{}/checksum/{}", options.own_dir(), segment::name(base))
}

/// What says that the log was further. The directory is not what an orderly stop left any more.
async fn forget(disk: &dyn Disk, options: &Options, to: u64) -> io::Result<()> {
    let own = options.own_dir();
    disk.open_or_create(&format!("{}/abort", options.root))?;
    disk.sync_dir(&options.root).await?;
    let snapshot = read_small(disk, &format!("{own}/queues"), crate::store::snapshot::SIZE_MAX);
    let snapshot = snapshot.ok().and_then(|bytes| crate::store::snapshot::Snapshot::decode(&bytes));
    if snapshot.is_none_or(|snapshot| snapshot.at > to) {
        remove_if_there(disk, &format!("{own}/queues"))?;
    }
    remove_if_there(disk, &floor_writer::path(options))?;
    disk.sync_dir(&own).await
}

fn remove_if_there(disk: &dyn Disk, path: &str) -> io::Result<()> {
    match disk.remove(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn remove(disk: &dyn Disk, path: &str) -> Result<(), Error> {
    remove_if_there(disk, path).map_err(Error::io(format!("remove {path}")))
}
