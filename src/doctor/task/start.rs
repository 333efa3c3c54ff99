//! What a start would do: the store's own recovery, over an overlay.

use super::layout::Shape;
use crate::disk::Disk;
use crate::disk::overlay::Overlay;
use crate::doctor::driver::Progress;
use crate::doctor::options::Options;
use crate::doctor::report::{Report, Start};
use crate::rt::time::{Clock, Duration};
use crate::store::{self, Rehearsal};
use std::sync::Arc;

/// How often progress is told.
const TELL_INTERVAL: Duration = Duration::from_millis(100);

/// `None` when the start would fail.
pub async fn rehearse(
    disk: &Arc<dyn Disk>,
    clock: &Clock,
    options: &Options,
    shape: &Shape,
    report: &mut Report,
    progress: &dyn Progress,
) -> Option<Rehearsal> {
    let overlay = Overlay::new(disk.clone(), clock.wall().0, options.memory_size_max);
    let over: Arc<dyn Disk> = Arc::new(overlay.clone());
    let told = store_options(options, shape);
    progress.begin("rehearsing a start", 0);
    let rehearsal = store::rehearse(&over, clock, &told);
    let mut rehearsal = std::pin::pin!(rehearsal);
    let done = loop {
        let next = clock.mono() + TELL_INTERVAL;
        crate::rt::select! {
            done = &mut rehearsal => break done,
            _ = clock.sleep_until(next) => progress.at(overlay.bytes_read()),
        }
    };
    match done {
        Ok(rehearsed) => {
            tell(&rehearsed, options, report);
            Some(rehearsed)
        }
        Err(error) => {
            let what = format!("a start would fail: {error}");
            report.error("start", &options.root, what, advice_for(&error));
            report.start = Start { error: Some(error.to_string()), ..Start::default() };
            None
        }
    }
}

fn advice_for(error: &store::Error) -> &'static str {
    match error {
        store::Error::Foreign { .. } => "move the named file away, or bring back what is missing",
        store::Error::Io { source, .. } if source.kind() == std::io::ErrorKind::OutOfMemory => {
            "this is the doctor's own limit: give it more with --memory"
        }
        _ => "",
    }
}

fn store_options(options: &Options, shape: &Shape) -> store::Options {
    let mut told = store::Options::new(&options.root);
    told.commit_log = options.commit_log.clone();
    if shape.segment_size > 0 {
        told.segment_size_bytes = shape.segment_size;
    }
    if shape.queue_file_size > 0 {
        told.queue_file_entries = shape.queue_file_size / 20;
    }
    told
}

fn tell(rehearsed: &Rehearsal, options: &Options, report: &mut Report) {
    let found = &rehearsed.report;
    report.log.min = found.min.0;
    report.log.end = found.end.0;
    report.start = Start {
        error: None,
        unclean: found.unclean,
        floor: found.floor.0,
        scanned_from: found.scanned_from.0,
        scanned_records: found.scanned_records,
        end: found.end.0,
        cut_reason: found.cut_reason.clone(),
        zeroed: found.cut_bytes,
        rewritten: found.rewritten_bytes,
        queue_entries_repaired: found.repaired_entries,
        rot_skipped: found.rot.len() as u64,
    };
    let live = options.live.is_some();
    if let Some(reason) = &found.cut_reason {
        let what = format!("torn tail: {reason}");
        if live {
            report.note(&*options.root, format!("{what} (the broker was writing there)"));
        } else {
            let advice =
                "a start cuts the log there; copy the directory first if you want the rest";
            report.warn("tail", &options.root, what, advice);
        }
    } else if found.cut_bytes > 0 && !live {
        let what = format!("{} bytes behind the log's end are not zero", found.cut_bytes);
        report.note(&*options.root, format!("{what}; a start makes them zero"));
    }
    for rot in &found.rot {
        let what = format!("rot from offset {} to {}: {}", rot.at, rot.next, rot.what);
        let advice = "a start keeps it and passes over it; bring the file back from a slave or a \
                      backup while the broker is stopped";
        report.error("rot", &rot.path, what, advice);
    }
}
