//! The log becomes what it is read as: rewritten above the floor, zero behind its end.

use super::cut;
use super::evidence::Evidence;
use super::log_files::LogFiles;
use crate::disk::{Disk, parent, read_small, replace_small};
use crate::model::PhysicalOffset;
use crate::rt::fault;
use crate::store::error::{Error, RecoveryReport};
use crate::store::options::Options;
use std::io;
use std::sync::Arc;

/// Makes the log what it is read as: rewritten above the floor, zero behind its end.
pub async fn settle_log(
    disk: &Arc<dyn Disk>,
    options: &Options,
    found: &mut Evidence,
    trusted: u64,
    end: u64,
    report: &mut RecoveryReport,
) -> Result<(), Error> {
    let log = &mut found.log;
    (report.min, report.end) = (PhysicalOffset(log.first), PhysicalOffset(end));
    let begun = zeroing_begun(disk, options);
    let at_floor = found.floor.is_some_and(|floor| floor.offset.0 == end);
    if !found.unclean && at_floor && begun.is_none() {
        return Ok(());
    }
    if found.unclean && end > trusted {
        crate::rt::probe!("store: rewrote above floor");
        report.rewritten_bytes = log.rewrite(trusted, end).await?;
    }
    report.cut_bytes = zero_tail(disk, options, log, end, begun).await?;
    if report.cut_bytes > 0 {
        crate::rt::probe!("store: zeroed the tail");
    }
    while log.end > log.first && log.end - log.size > end {
        let base = log.end - log.size;
        let path = log.path(base);
        disk.remove(&path).map_err(Error::io(format!("remove {path}")))?;
        fault::point("store: unused log file removed").await;
        log.end = base;
        log.places.remove(base);
        // One by one, the newest first: files lie in several directories, and a name that comes
        // back behind one that does not would be a gap.
        let dir = parent(&path).to_owned();
        disk.sync_dir(&dir).await.map_err(Error::io(format!("sync {dir}")))?;
    }
    Ok(())
}

/// Up to where an earlier recovery wanted zeros and may not have synced them.
fn zeroing_begun(disk: &Arc<dyn Disk>, options: &Options) -> Option<u64> {
    let bytes = read_small(&**disk, &zeroing_path(options), 8).ok()?;
    bytes.first_chunk::<8>().copied().map(u64::from_be_bytes)
}

fn zeroing_path(options: &Options) -> String {
    format!("{}/zeroing", options.own_dir())
}

/// Makes everything behind the log's end zero, and returns how much was not. `hotfire/zeroing` says
/// up to where, until that is synced: a recovery that ended before its sync leaves zeros that only
/// memory has, and they look like zeros on disk.
async fn zero_tail(
    disk: &Arc<dyn Disk>,
    options: &Options,
    log: &mut LogFiles,
    end: u64,
    begun: Option<u64>,
) -> Result<u64, Error> {
    let path = zeroing_path(options);
    let used = log.used_end(end).await?;
    let until = used.max(begun.unwrap_or(0));
    if used > end {
        cut::keep(disk, options, log, end, used).await;
    }
    if until > end {
        if begun != Some(until) {
            let written = replace_small(&**disk, &path, &until.to_be_bytes()).await;
            written.map_err(Error::io(path.clone()))?;
        }
        log.zero(end, until).await?;
    }
    match disk.remove(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io(path)(e)),
        _ => Ok(used - end),
    }
}
