//! The log is read to its end, and the queues are derived from it.

use super::evidence::Evidence;
use super::log_files::Found;
use super::queue_dirs::QueueDirs;
use crate::format::message_unit::{self, Unit};
use crate::model::PhysicalOffset;
use crate::rt::time::{Clock, Duration};
use crate::store::commit_log::LastRecord;
use crate::store::error::{Error, RecoveryReport, Rot};
use crate::store::options::Options;
use crate::store::recovery::Rebuild;

/// Entries collected before they are written.
const RUN_ENTRIES: usize = 64 << 10;

/// Records looked at between two questions of the clock, and between progress lines.
const PROGRESS_RECORDS: u64 = 1 << 16;
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

pub struct End {
    pub at: u64,
    /// Everything below is on disk: below `trusted`, and below the first record that is older than
    /// the one before it. Where `trusted` was found by time, a clock that stepped back made newer
    /// records look as old as synced ones (W-15).
    pub durable: u64,
    pub last: Option<LastRecord>,
}

/// Reads the log to its end and derives the queues.
pub async fn scan(
    found: &mut Evidence,
    options: &Options,
    clock: &Clock,
    trusted: u64,
    report: &mut RecoveryReport,
) -> Result<(End, Rebuild), Error> {
    let rows = found.snapshot.as_ref().map(|s| s.rows.as_slice());
    let mut rebuild = Rebuild::new(rows, found.topic_floors.clone(), &options.delay_levels_ms);
    let log = &mut found.log;
    let mut at = found.snapshot.as_ref().map_or(log.first, |s| s.at);
    report.scanned_from = PhysicalOffset(at);
    report.scanned_records = 0;
    report.rot.clear();
    found.queues.rot.clear();
    let (mut last, mut durable, mut newest) = (None, trusted, i64::MIN);
    let mut spoke = clock.mono();
    while log.holds(at) && !rebuild.contradicted {
        let path = log.path(at);
        let looked = log.look(at).await;
        let bad = match looked {
            Ok((Found::Record { end }, bytes)) => {
                if let Ok(Unit::Record(r)) = message_unit::decode(&bytes, PhysicalOffset(at), false)
                {
                    rebuild.on_record(&r.dispatch());
                    if found.by_time && r.store_timestamp().0 < newest {
                        crate::rt::probe!("store: recovery met a clock that had stepped back");
                        durable = durable.min(at);
                    }
                    newest = newest.max(r.store_timestamp().0);
                    last = Some(LastRecord { at, store_timestamp: r.store_timestamp() });
                }
                report.scanned_records += 1;
                at = end;
                None
            }
            Ok((Found::Blank, _)) => {
                at = log.base_of(at) + log.size;
                None
            }
            Ok((Found::Nothing, _)) if at >= trusted => break,
            Ok((Found::Nothing, _)) => Some("nothing is written here".to_owned()),
            Ok((Found::Bad(what), _)) => Some(what),
            // It may be readable another time: nothing is decided about it.
            Err(error) => return Err(Error::io(format!("{path}: read at offset {at}"))(error)),
        };
        if let Some(what) = bad {
            if at >= trusted {
                crate::rt::probe!("store: recovered with torn tail");
                tracing::warn!("{path}: the log ends at offset {at}: {what}");
                report.cut_reason = Some(format!("{path}: offset {at}: {what}"));
                break;
            }
            let next = log.find_next(at + 1, trusted).await;
            let next = next.map_err(Error::io(format!("{path}: read past offset {at}")))?;
            crate::rt::probe!("store: recovery skipped rot");
            tracing::error!("{path}: bad record at offset {at}, the next is at {next}: {what}");
            found.queues.rot.push(at..next);
            report.rot.push(Rot { path, at: PhysicalOffset(at), next: PhysicalOffset(next), what });
            at = next;
        }
        if rebuild.pending() >= RUN_ENTRIES {
            write_runs(&mut found.queues, &mut rebuild).await?;
        }
        if report.scanned_records.is_multiple_of(PROGRESS_RECORDS)
            && clock.mono().since(spoke) >= PROGRESS_INTERVAL
        {
            spoke = clock.mono();
            tracing::info!("recovery read the log up to {at} of at most {}", log.end);
        }
    }
    write_runs(&mut found.queues, &mut rebuild).await?;
    Ok((End { at, durable, last }, rebuild))
}

async fn write_runs(queues: &mut QueueDirs, rebuild: &mut Rebuild) -> Result<(), Error> {
    if rebuild.contradicted {
        return Ok(());
    }
    for run in rebuild.take_runs() {
        queues.write_run(&run).await?;
    }
    Ok(())
}

/// The newest record below the end: the last one scanned, or the one the snapshot names.
pub fn report_last(found: &Evidence, scanned: Option<LastRecord>) -> Option<LastRecord> {
    let known = found.snapshot.as_ref().filter(|s| s.last_at < s.at).map(|s| s.last_at);
    scanned.or(known.map(|at| LastRecord { at, ..LastRecord::default() }))
}
