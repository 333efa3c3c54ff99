//! Makes a store directory right before it is used, whatever ended its last process.
//!
//! Source: DefaultMessageStore#load, CommitLog#recoverNormally, #recoverAbnormally (4.9.3).
//! Differs: the lock is taken first (W-12); the scan begins where the snapshot ends instead of at
//! a time (W-15, W-24); what is not known durable is written again (W-01); the tail is made zero
//! (W-07); rot below the floor never truncates (W-11).
//!
//! Only writes that may be repeated are made, so that a crash in the middle costs nothing.

use super::delete::read_floors;
use super::recover_log::{Found, LogFiles};
use super::recover_queues::{QueueDirs, list_files};
use crate::disk::{Disk, LockGuard, parent, read_small, replace_small};
use crate::format::checkpoint::Checkpoint;
use crate::format::floor::{self, Floor};
use crate::format::message_unit::{self, Unit};
use crate::model::PhysicalOffset;
use crate::rt::fault;
use crate::rt::time::{Clock, Duration};
use crate::store::commit_log::{CommitLog, LastRecord};
use crate::store::consume_queue::{Queue, Queues};
use crate::store::error::{Error, RecoveryReport, Rot};
use crate::store::flush::Flush;
use crate::store::options::Options;
use crate::store::recovery::Rebuild;
use crate::store::segment::Segments;
use crate::store::snapshot::{self, Row, Snapshot, TopicFloors};
use crate::store::state::State;
use crate::store::tail_cache::TailCache;
use std::io;
use std::sync::Arc;

/// Entries collected before they are written.
const RUN_ENTRIES: usize = 64 << 10;

/// Records looked at between two questions of the clock, and between progress lines.
const PROGRESS_RECORDS: u64 = 1 << 16;
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// Takes the directory's lock, and says in `hotfire/owner` who holds it.
/// Errors: `Locked`; nothing was touched then.
pub async fn lock(disk: &dyn Disk, options: &Options) -> Result<Box<dyn LockGuard>, Error> {
    let root = &options.root;
    disk.make_dir(root).map_err(Error::io(format!("make {root}")))?;
    let path = format!("{root}/lock");
    let owner_path = format!("{}/owner", options.own_dir());
    let guard = match disk.lock(&path) {
        Ok(guard) => guard,
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
            let owner = read_small(disk, &owner_path, 4096).unwrap_or_default();
            let owner = String::from_utf8_lossy(&owner).trim().to_owned();
            let owner = if owner.is_empty() { "another process".to_owned() } else { owner };
            return Err(Error::Locked { root: root.clone(), owner });
        }
        Err(e) => return Err(Error::io(format!("lock {path}"))(e)),
    };
    let written = async {
        disk.make_dir(&options.staging_dir())?;
        let file = disk.open_or_create(&path)?;
        if file.size()? == 0 {
            file.write_at(0, b"lock")?;
        }
        let owner = disk.open_or_create(&owner_path)?;
        owner.set_size(0)?;
        owner.write_at(0, options.owner.as_bytes())
    };
    written.await.map_err(Error::io(format!("write {owner_path}")))?;
    Ok(guard)
}

/// What the directory says before the log is scanned.
struct Found0 {
    log: LogFiles,
    queues: QueueDirs,
    unclean: bool,
    floor: Option<Floor>,
    snapshot: Option<Snapshot>,
    topic_floors: TopicFloors,
}

/// Durable on return: the log up to its end, zeros behind it, all queue entries.
pub async fn recover(
    disk: &Arc<dyn Disk>,
    clock: &Clock,
    options: &Options,
) -> Result<(State, RecoveryReport), Error> {
    let mut found = look(disk, options).await?;
    let trusted = trusted(disk, options, &mut found).await?;
    let mut report = RecoveryReport { unclean: found.unclean, ..RecoveryReport::default() };
    report.floor = PhysicalOffset(trusted);
    mark_running(disk, options).await?;
    if found.snapshot.is_none() {
        forget_snapshot(disk, options).await?;
    }
    let (mut end, mut rebuild) = scan(&mut found, options, clock, trusted, &mut report).await?;
    if rebuild.contradicted {
        crate::rt::probe!("store: recovery scanned the whole log after a contradiction");
        tracing::warn!("the snapshot of the queues does not fit the log: scanning all of it");
        found.snapshot = None;
        forget_snapshot(disk, options).await?;
        (end, rebuild) = scan(&mut found, options, clock, trusted, &mut report).await?;
    }
    let mut last = report_last(&found, end.last);
    if let Some(last) = &mut last {
        last.store_timestamp = found.log.stored_at(last.at).await.unwrap_or_default();
    }
    settle_log(disk, options, &mut found, trusted, end.at, &mut report).await?;
    fault::point("store: log recovered").await;
    let queues = settle_queues(&mut found, options, rebuild, end.at, &mut report).await?;
    fault::point("store: queues recovered").await;
    let state = build(clock, options, &found, queues, end.at, last);
    let state = finish(disk, options, found, state, last, &mut report).await?;
    fault::point("store: recovered").await;
    tracing::info!(
        "the log reaches from {} to {}, {} queues, {} records scanned from {}",
        report.min,
        report.end,
        report.queues,
        report.scanned_records,
        report.scanned_from
    );
    Ok((state, report))
}

async fn look(disk: &Arc<dyn Disk>, options: &Options) -> Result<Found0, Error> {
    make_dirs(&**disk, options).await.map_err(Error::io("make the store's directories"))?;
    let size = options.segment_size_bytes;
    let bases = list_files(&**disk, &options.commit_log_dir, size)?;
    if let Some(pair) = bases.windows(2).find(|pair| pair[0] + size != pair[1]) {
        let path = format!("{}/{}", options.commit_log_dir, crate::store::segment::name(pair[1]));
        let what = format!("the file before it is missing: it should begin at {}", pair[0] + size);
        return Err(Error::Foreign { path, what });
    }
    let first = bases.first().copied().unwrap_or(0);
    let range = (first, first + bases.len() as u64 * size);
    let chunk = options.recovery_read_size_bytes;
    let mut log = LogFiles::new(disk.clone(), &options.commit_log_dir, size, range, chunk);
    let mut queues = QueueDirs::list(disk, options)?;
    let own = options.own_dir();
    let topic_floors = read_floors(read_small(&**disk, &format!("{own}/topic_floors"), 64 << 20));
    let floor = read_floor(&**disk, &format!("{own}/floor"), &mut log).await;
    let snapshot = read_small(&**disk, &format!("{own}/queues"), snapshot::SIZE_MAX).ok();
    let mut snapshot = snapshot.and_then(|bytes| Snapshot::decode(&bytes));
    if let Some(found) = &mut snapshot {
        let below = found.at;
        found.rows.retain(|row| below > topic_floors.of(&row.key.topic));
    }
    if let Some(found) = &snapshot
        && !is_sound(&mut log, &queues, found).await
    {
        crate::rt::probe!("store: the snapshot did not fit the files");
        snapshot = None;
    }
    for topic in topic_floors.0.keys() {
        let known = snapshot.as_ref().is_some_and(|s| s.rows.iter().any(|r| r.key.topic == *topic));
        if !known {
            queues.remove_topic(topic).await.map_err(Error::io("remove a deleted topic"))?;
        }
    }
    let names = disk.list(&options.root).map_err(Error::io("list the root"))?;
    let unclean = names.iter().any(|entry| entry.name == "abort");
    Ok(Found0 { log, queues, unclean, floor, snapshot, topic_floors })
}

/// The newest floor that fits the log. The older slot counts too: the last record below the newer
/// one may have rotted.
async fn read_floor(disk: &dyn Disk, path: &str, log: &mut LogFiles) -> Option<Floor> {
    let bytes = read_small(disk, path, floor::SIZE as u64).ok()?;
    let mut slots: Vec<Floor> = bytes.chunks(floor::SLOT_SIZE).filter_map(Floor::decode).collect();
    slots.sort_by_key(|slot| slot.generation);
    while let Some(slot) = slots.pop() {
        if log.is_anchor(slot.last_at.0, slot.last_crc, slot.offset.0).await {
            return Some(slot);
        }
        tracing::warn!("hotfire/floor does not fit the log at offset {}", slot.offset);
        crate::rt::probe!("store: the floor did not fit the log");
    }
    None
}

async fn is_sound(log: &mut LogFiles, queues: &QueueDirs, snapshot: &Snapshot) -> bool {
    if !log.is_anchor(snapshot.last_at, snapshot.last_crc, snapshot.at).await {
        tracing::warn!("hotfire/queues does not fit the log at offset {}", snapshot.at);
        return false;
    }
    for row in &snapshot.rows {
        if !queues.is_as(row).await {
            tracing::warn!("consume queue {}/{} is not whole", row.key.topic, row.key.queue);
            return false;
        }
    }
    true
}

async fn make_dirs(disk: &dyn Disk, options: &Options) -> io::Result<()> {
    let staging = options.staging_dir();
    for dir in [&options.commit_log_dir, &options.consume_queue_dir(), &staging] {
        disk.make_dir(dir)?;
    }
    for entry in disk.list(&staging)? {
        disk.remove(&format!("{staging}/{}", entry.name))?;
    }
    // A name that a killed process made may not be durable yet: the next record may not be acked
    // in such a file.
    let log = &options.commit_log_dir;
    for dir in [parent(&options.root), &options.root, parent(log), log] {
        disk.sync_dir(dir).await?;
    }
    disk.sync_dir(&options.own_dir()).await
}

/// `abort` says that a process uses the directory. Durable on return (W-13).
async fn mark_running(disk: &Arc<dyn Disk>, options: &Options) -> Result<(), Error> {
    let marked = async {
        disk.open_or_create(&format!("{}/abort", options.root))?;
        disk.sync_dir(&options.root).await
    };
    marked.await.map_err(Error::io("make the abort file"))
}

/// Everything below was synced: a bad record there is rot, and no end of the log.
async fn trusted(
    disk: &Arc<dyn Disk>,
    options: &Options,
    found: &mut Found0,
) -> Result<u64, Error> {
    let known = [found.floor.map(|f| f.offset.0), found.snapshot.as_ref().map(|s| s.at)];
    if let Some(known) = known.into_iter().flatten().max() {
        return Ok(known);
    }
    crate::rt::probe!("store: recovered without a floor");
    let log = &mut found.log;
    if !found.unclean {
        // Java stopped in order: what its queues point to was synced.
        let mut end = log.first;
        for key in found.queues.files.keys() {
            let (_, physical) = found.queues.own_end(key, log.end).await?;
            if log.holds(physical)
                && let Ok((Found::Record { end: after }, _)) = log.look(physical).await
            {
                end = end.max(after);
            }
        }
        return Ok(end);
    }
    // Source: CommitLog#isMappedFileMatchedRecover (4.9.3).
    let path = format!("{}/checkpoint", options.root);
    let checkpoint = read_small(&**disk, &path, 1 << 20).ok();
    let checkpoint = checkpoint.and_then(|bytes| Checkpoint::decode(&bytes)).unwrap_or_default();
    let mut base = log.end;
    while base > log.first {
        base -= log.size;
        let stored = log.stored_at(base).await;
        if stored.is_some_and(|stored| stored.0 > 0 && stored <= checkpoint.min()) {
            return Ok(base);
        }
    }
    Ok(log.first)
}

/// Queue files are about to be made anew: until that is done nothing may be known about them.
async fn forget_snapshot(disk: &Arc<dyn Disk>, options: &Options) -> Result<(), Error> {
    let own = options.own_dir();
    match disk.remove(&format!("{own}/queues")) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            return Err(Error::io("remove hotfire/queues")(e));
        }
        _ => {}
    }
    disk.sync_dir(&own).await.map_err(Error::io("sync the directory hotfire"))
}

struct End {
    at: u64,
    last: Option<LastRecord>,
}

/// Reads the log to its end and derives the queues.
async fn scan(
    found: &mut Found0,
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
    let mut last = None;
    let mut spoke = clock.mono();
    while log.holds(at) && !rebuild.contradicted {
        let path = log.path(at);
        let looked = log.look(at).await;
        let bad = match looked {
            Ok((Found::Record { end }, bytes)) => {
                if let Ok(Unit::Record(r)) = message_unit::decode(&bytes, PhysicalOffset(at), false)
                {
                    rebuild.on_record(&r.dispatch());
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
    Ok((End { at, last }, rebuild))
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
fn report_last(found: &Found0, scanned: Option<LastRecord>) -> Option<LastRecord> {
    let known = found.snapshot.as_ref().filter(|s| s.last_at < s.at).map(|s| s.last_at);
    scanned.or(known.map(|at| LastRecord { at, ..LastRecord::default() }))
}

/// Makes the log what it is read as: rewritten above the floor, zero behind its end.
async fn settle_log(
    disk: &Arc<dyn Disk>,
    options: &Options,
    found: &mut Found0,
    trusted: u64,
    end: u64,
    report: &mut RecoveryReport,
) -> Result<(), Error> {
    let log = &mut found.log;
    (report.min, report.end) = (PhysicalOffset(log.first), PhysicalOffset(end));
    let as_left = !found.unclean && found.floor.is_some_and(|floor| floor.offset.0 == end);
    if as_left {
        return Ok(());
    }
    if found.unclean && end > trusted {
        crate::rt::probe!("store: rewrote above floor");
        report.rewritten_bytes = log.rewrite(trusted, end).await?;
    }
    report.cut_bytes = zero_tail(disk, options, log, end).await?;
    if report.cut_bytes > 0 {
        crate::rt::probe!("store: zeroed the tail");
    }
    let mut removed = 0;
    while log.end > log.first && log.end - log.size > end {
        let base = log.end - log.size;
        let path = log.path(base);
        disk.remove(&path).map_err(Error::io(format!("remove {path}")))?;
        log.end = base;
        removed += 1;
    }
    if removed > 0 {
        let dir = parent(&log.path(end)).to_owned();
        disk.sync_dir(&dir).await.map_err(Error::io(format!("sync {dir}")))?;
    }
    Ok(())
}

/// Makes everything behind the log's end zero, and returns how much was not. `hotfire/zeroing` says
/// up to where, until that is synced: a recovery that ended before its sync leaves zeros that only
/// memory has, and they look like zeros on disk.
async fn zero_tail(
    disk: &Arc<dyn Disk>,
    options: &Options,
    log: &mut LogFiles,
    end: u64,
) -> Result<u64, Error> {
    let path = format!("{}/zeroing", options.own_dir());
    let begun = read_small(&**disk, &path, 8).ok();
    let begun = begun.and_then(|bytes| bytes.first_chunk::<8>().copied()).map(u64::from_be_bytes);
    let used = log.used_end(end).await?;
    let until = used.max(begun.unwrap_or(0));
    if until > end {
        if begun != Some(until) {
            let written = replace_small(&**disk, &path, &until.to_be_bytes()).await;
            written.map_err(Error::io(path.clone()))?;
        }
        log.zero(end, until).await?;
    }
    match disk.remove(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::io(path)(e)),
        _ => Ok(used - end),
    }
}

/// Makes the queue files what the scan found, and returns the queues.
async fn settle_queues(
    found: &mut Found0,
    options: &Options,
    rebuild: Rebuild,
    end: u64,
    report: &mut RecoveryReport,
) -> Result<Queues, Error> {
    report.repaired_entries = rebuild.entries;
    let log_min = found.log.first;
    let as_left = !found.unclean && report.scanned_records == 0 && found.snapshot.is_some();
    let same_min = found.snapshot.as_ref().is_some_and(|s| s.log_min == log_min);
    let mut rebuilt = rebuild.finish();
    let scanned_from = if found.log.first == found.log.end { 0 } else { report.scanned_from.0 };
    for key in found.queues.files.keys() {
        if !rebuilt.contains_key(key) {
            let (end, last_physical) = found.queues.own_end(key, scanned_from.min(end)).await?;
            rebuilt.insert(key.clone(), crate::store::recovery::unseen(end, last_physical));
        }
    }
    let mut queues = Queues::new(options.queue_run_entries);
    for (key, mut queue) in rebuilt {
        queue.end = found.queues.end_with_rot(&key, queue.end).await;
        if !as_left {
            found.queues.cut(&key, queue.end).await?;
        }
        let min = match (queue.seen, same_min) {
            (true, _) if found.snapshot.is_none() => queue.first,
            (_, true) => queue.first,
            _ => found.queues.min(&key, queue.end, log_min).await?,
        };
        queues.add(Queue::new(key, min, queue.end, queue.last_physical));
    }
    found.queues.sync().await?;
    report.queues = queues.count();
    Ok(queues)
}

fn build(
    clock: &Clock,
    options: &Options,
    found: &Found0,
    queues: Queues,
    end: u64,
    last: Option<LastRecord>,
) -> State {
    let (log, size) = (&found.log, options.segment_size_bytes);
    let segments_end = log.end;
    let open_max = options.open_files_max;
    let segments = Segments::new(&options.commit_log_dir, size, log.first, segments_end, open_max);
    State::new(
        CommitLog::new(size, options.block_size_bytes, end),
        Flush::new(options, end, clock.mono()),
        queues,
        TailCache::new(options.tail_cache_size_bytes, end),
        segments,
        last,
    )
}

/// Writes the snapshot of what was recovered, so that the next recovery begins here.
async fn finish(
    disk: &Arc<dyn Disk>,
    options: &Options,
    mut found: Found0,
    mut state: State,
    last: Option<LastRecord>,
    report: &mut RecoveryReport,
) -> Result<State, Error> {
    let end = report.end.0;
    state.floor = found.floor.unwrap_or_default();
    state.topic_floors = std::mem::take(&mut found.topic_floors);
    let same = found.snapshot.as_ref().is_some_and(|s| s.at == end && s.log_min == found.log.first);
    if !same {
        let (last_at, last_crc) = match last {
            Some(last) => match found.log.look(last.at).await {
                Ok((Found::Record { end }, bytes)) => {
                    (last.at, crc32fast::hash(&bytes[..(end - last.at) as usize]))
                }
                _ => return Ok(state),
            },
            None => (end, 0),
        };
        let rows: Vec<Row> = state.rows_at(end);
        let snapshot = Snapshot { at: end, last_at, last_crc, log_min: found.log.first, rows };
        let path = format!("{}/queues", options.own_dir());
        let written = replace_small(&**disk, &path, &snapshot.encode()).await;
        written.map_err(Error::io(path))?;
    }
    state.snapshot_at = Some(end);
    Ok(state)
}
