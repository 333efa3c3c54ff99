//! `hotfire/unreadable`: where the disk gave an error below the floor, so that the next start tries
//! those places again. Offsets of eight bytes, nothing else; losing the file costs that try.

use super::log_files::{Found, LogFiles};
use crate::disk::{Disk, read_small, replace_small};
use crate::store::error::{Error, RecoveryReport};
use crate::store::options::Options;
use std::io;

/// Places that are remembered. Units: places.
const COUNT_MAX: usize = 4096;

fn path(options: &Options) -> String {
    format!("{}/unreadable", options.own_dir())
}

/// Whether a record lies now where none could be read: its queue has no entry for it.
pub async fn is_readable_again(disk: &dyn Disk, options: &Options, log: &mut LogFiles) -> bool {
    let bytes = read_small(disk, &path(options), 8 * COUNT_MAX as u64).unwrap_or_default();
    for place in bytes.chunks_exact(8) {
        let at = place.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        if log.holds(at) && matches!(log.look(at).await, Ok((Found::Record { .. }, _))) {
            crate::rt::probe!("store: an unreadable place is readable again");
            tracing::info!("{}: offset {at} can be read again", log.path(at));
            return true;
        }
    }
    false
}

/// Remembers what a scan could not read. A scan from the log's start knows all such places.
pub async fn keep(
    disk: &dyn Disk,
    options: &Options,
    report: &RecoveryReport,
    log_min: u64,
) -> Result<(), Error> {
    let path = path(options);
    let from_start = report.scanned_from.0 <= log_min;
    let written = match report.unreadable.as_slice() {
        [] if !from_start => return Ok(()),
        [] => match disk.remove(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        },
        places => {
            tracing::error!(
                "{} places of the commit log cannot be read, the first at offset {}: their \
                 messages are missing until the disk gives them again",
                places.len(),
                places[0]
            );
            let places = places.iter().take(COUNT_MAX);
            let bytes: Vec<u8> = places.flat_map(|at| at.0.to_be_bytes()).collect();
            replace_small(disk, &path, &bytes).await
        }
    };
    written.map_err(Error::io(path))
}
