//! The log is read to its end, and the queues are derived from it.

use super::evidence::Evidence;
use super::log_files::{Found, LogFiles};
use super::queue_dirs::QueueDirs;
use crate::format::message_unit::{self, Unit};
use crate::model::PhysicalOffset;
use crate::rt::time::{Clock, Duration, Mono};
use crate::store::commit_log::LastRecord;
use crate::store::error::{Error, RecoveryReport, Rot};
use crate::store::options::Options;
use crate::store::recovery::Rebuild;
use bytes::Bytes;
use std::io;

/// Entries collected before they are written: many queues get a run of some length, and memory
/// stays below 64 MiB.
const RUN_ENTRIES: usize = 1 << 20;

/// Records looked at between two questions of the clock, and between progress lines.
const PROGRESS_RECORDS: u64 = 1 << 16;
/// How often a read is tried, and the pause between: a disk that was busy may recover.
const READ_TRIES: u32 = 4;
const READ_PAUSE: Duration = Duration::from_millis(150);

const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// Says from time to time how far a long scan is.
struct Progress {
    from: u64,
    end: u64,
    began: Mono,
    spoke: Mono,
}

impl Progress {
    fn new(clock: &Clock, from: u64, end: u64) -> Self {
        let now = clock.mono();
        Progress { from, end, began: now, spoke: now }
    }

    fn on_read(&mut self, now: Mono, at: u64) {
        if now.since(self.spoke) < PROGRESS_INTERVAL {
            return;
        }
        self.spoke = now;
        let (percent, rate) = self.figures(now, at);
        tracing::info!(
            "recovery read the log up to {at} of at most {}: {percent} %, {rate} MiB/s",
            self.end
        );
    }

    /// Units: percent, and MiB a second.
    fn figures(&self, now: Mono, at: u64) -> (u64, u64) {
        let (done, all) = (at.saturating_sub(self.from), (self.end - self.from).max(1));
        let ms = now.since(self.began).as_millis().max(1) as u64;
        (done.saturating_mul(100) / all, (done >> 10).saturating_mul(1000) / 1024 / ms)
    }
}

pub struct End {
    pub at: u64,
    /// Everything below is on disk: below `trusted`, and below the first record that is older than
    /// the one before it. Where `trusted` was found by time, a clock that stepped back made newer
    /// records look as old as synced ones (W-15).
    pub durable: u64,
    pub last: Option<LastRecord>,
}

/// How far store times can be believed.
struct Times {
    is_looked_at: bool,
    /// Units: milliseconds.
    newest: i64,
    durable: u64,
}

impl Times {
    fn on_record(&mut self, at: u64, stored_ms: i64) {
        if self.is_looked_at && stored_ms < self.newest {
            crate::rt::probe!("store: recovery met a clock that had stepped back (W-15)");
            self.durable = self.durable.min(at);
        }
        self.newest = self.newest.max(stored_ms);
    }
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
    // What lies above a snapshot was never known to be on disk, and is little.
    found.queues.compares &= rows.is_none();
    let (floors, levels) = (found.topic_floors.clone(), &options.delay_levels_ms);
    let mut rebuild = Rebuild::new(rows, floors, levels, options.queue_file_entries);
    let log = &mut found.log;
    let mut at = found.snapshot.as_ref().map_or(log.first, |s| s.at);
    begin(report, at);
    found.queues.rot.clear();
    let anchor = found.floor.map(|floor| floor.last_at.0);
    let mut unreadable = Vec::new();
    let mut last = None;
    let mut times = Times { is_looked_at: found.by_time, newest: i64::MIN, durable: trusted };
    let mut progress = Progress::new(clock, at, log.end);
    while log.holds(at) && !rebuild.contradicted {
        let path = log.path(at);
        let looked = look_again(log, clock, at).await;
        let bad = match looked {
            Ok((Found::Record { end }, bytes)) => {
                last = enter(&bytes, at, &mut rebuild, &mut times).or(last);
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
            // The queues know the messages there: readers get the disk's error until it is healed.
            Err(error) if is_known(log, &found.queues, anchor, (at, trusted)).await => {
                unreadable.push(PhysicalOffset(at));
                Some(format!("it cannot be read: {error}"))
            }
            // It may be readable another time: nothing is decided about it.
            Err(error) => return Err(cannot_pass(&path, at, trusted)(error)),
        };
        match bad {
            Some(what) if at >= trusted => {
                on_torn(&path, at, what, report);
                break;
            }
            Some(what) => at = step_over(log, &mut found.queues, (at, trusted), what, report).await,
            None => {}
        }
        if rebuild.pending() >= RUN_ENTRIES {
            write_runs(log, &mut found.queues, &mut rebuild).await?;
        }
        if report.scanned_records.is_multiple_of(PROGRESS_RECORDS) {
            progress.on_read(clock.mono(), at);
        }
    }
    write_runs(log, &mut found.queues, &mut rebuild).await?;
    report.unreadable = unreadable;
    if rebuild.misnamed > 0 {
        let count = rebuild.misnamed;
        tracing::error!("{count} records enter no queue: damage made a path of their topic");
    }
    Ok((End { at, durable: times.durable, last }, rebuild))
}

fn enter(bytes: &[u8], at: u64, rebuild: &mut Rebuild, times: &mut Times) -> Option<LastRecord> {
    let Ok(Unit::Record(record)) = message_unit::decode(bytes, PhysicalOffset(at), false) else {
        return None;
    };
    rebuild.on_record(&record.dispatch());
    times.on_record(at, record.store_timestamp().0);
    Some(LastRecord { at, store_timestamp: record.store_timestamp() })
}

fn begin(report: &mut RecoveryReport, at: u64) {
    report.scanned_from = PhysicalOffset(at);
    report.scanned_records = 0;
    report.rot.clear();
}

/// Above the floor the first bad record ends the log.
fn on_torn(path: &str, at: u64, what: String, report: &mut RecoveryReport) {
    crate::rt::probe!("store: recovered with torn tail");
    tracing::warn!("{path}: the log ends at offset {at}: {what}");
    report.cut_reason = Some(format!("{path}: offset {at}: {what}"));
}

/// Below the floor a bad record is rot: it is kept and named. Gives where the log goes on.
async fn step_over(
    log: &mut LogFiles,
    queues: &mut QueueDirs,
    (at, trusted): (u64, u64),
    what: String,
    report: &mut RecoveryReport,
) -> u64 {
    let (path, next) = (log.path(at), log.find_next(at + 1, trusted).await);
    crate::rt::probe!("store: recovery skipped rot");
    tracing::error!("{path}: bad record at offset {at}, the next is at {next}: {what}");
    queues.rot.push(at..next);
    report.rot.push(Rot { path, at: PhysicalOffset(at), next: PhysicalOffset(next), what });
    next
}

/// A read that failed is tried again for a while.
async fn look_again(log: &mut LogFiles, clock: &Clock, at: u64) -> io::Result<(Found, Bytes)> {
    let mut tries = 1;
    loop {
        match log.look(at).await {
            Err(error) if tries < READ_TRIES => {
                tracing::warn!("{}: cannot read at offset {at}, again: {error}", log.path(at));
                tries += 1;
                clock.sleep_until(clock.mono() + READ_PAUSE).await;
            }
            looked => return looked,
        }
    }
}

/// Whether what cannot be read at `at` can be passed over: the record at the floor is readable, so
/// not all of the disk is gone, and the queues have a whole entry for every message up to the next
/// one. Without, a queue would give an offset twice, or readers would go past a message: those who
/// filter by tag too, where a half of an entry is believed.
async fn is_known(
    log: &mut LogFiles,
    queues: &QueueDirs,
    anchor: Option<u64>,
    (at, trusted): (u64, u64),
) -> bool {
    if at >= trusted || !log.reads(anchor).await {
        return false;
    }
    let next = log.find_next(at + 1, trusted).await;
    queues.cover(at..next).await
}

/// What is there may be the log's end, or messages that no queue knows: a person decides.
fn cannot_pass(path: &str, at: u64, trusted: u64) -> impl FnOnce(io::Error) -> Error {
    Error::io(format!(
        "{path}: cannot read at offset {at} of the log: it is not below the durable floor at \
         {trusted}, or no queue knows the messages there, so it may not be passed over. Copy the \
         file to a sound disk and start again; where the disk no longer gives the sector, write \
         zeros there: the messages are lost then"
    ))
}

async fn write_runs(
    log: &mut LogFiles,
    queues: &mut QueueDirs,
    rebuild: &mut Rebuild,
) -> Result<(), Error> {
    if rebuild.contradicted {
        return Ok(());
    }
    for run in rebuild.take_runs() {
        queues.write_run(&run).await?;
        for (base, last) in queues.filled(&run) {
            if let Some(stored) = log.stored_at(last.physical_offset.0).await {
                queues.date(&run.key, base, stored)?;
            }
        }
    }
    Ok(())
}

/// The newest record below the end: the last one scanned, or the one the snapshot names.
pub fn report_last(found: &Evidence, scanned: Option<LastRecord>) -> Option<LastRecord> {
    let known = found.snapshot.as_ref().filter(|s| s.last_at < s.at).map(|s| s.last_at);
    scanned.or(known.map(|at| LastRecord { at, ..LastRecord::default() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_said_in_percent_and_as_a_rate() {
        let (began, end) = (Mono(0), 300 << 20);
        let progress = Progress { from: 100 << 20, end, began, spoke: began };
        let now = Mono(2_000_000_000);
        assert_eq!(progress.figures(now, 150 << 20), (25, 25));
        assert_eq!(progress.figures(began, 100 << 20), (0, 0));
        assert_eq!(progress.figures(now, end), (100, 100));
    }
}
