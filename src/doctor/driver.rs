//! Runs an examination.

use super::options::Options;
use super::report::Report;
use super::task::{layout, log, queues, start, states};
use crate::disk::Disk;
use crate::rt::time::Clock;
use std::io;
use std::sync::Arc;

/// Hears how far a long look is.
pub trait Progress: Send + Sync {
    /// `total` bytes are about to be read; 0 when it is not known.
    fn begin(&self, what: &str, total: u64);
    /// So many were read so far.
    fn at(&self, bytes: u64);
}

/// Looks at a store directory. `disk` is only read.
/// Errors: the directory cannot be listed.
pub async fn examine(
    disk: &Arc<dyn Disk>,
    clock: &Clock,
    options: &Options,
    progress: &dyn Progress,
) -> io::Result<Report> {
    let mut report = Report::new(options.findings_max);
    report.root = options.root.clone();
    report.live = options.live.clone();
    report.deep = options.deep;
    let shape = layout::look(&**disk, options, &mut report)?;
    states::look(&**disk, options, &mut report);
    let started = start::rehearse(disk, clock, options, &shape, &mut report, progress).await;
    if let Some(ends) = &started {
        log::look(&**disk, options, &shape, &mut report, progress).await;
        queues::look(&**disk, &shape, ends, options, &mut report, progress).await;
    }
    if options.live.is_some() {
        report.note(&*options.root, "the directory changed while it was read: look again");
    }
    report.sort();
    Ok(report)
}
