//! Makes the index right before anything is appended, and finds where it ends. Whatever is wrong
//! here costs keys to be indexed again, never the start.
//!
//! Source: IndexService#load (4.9.3).
//! Differs: a file that an unclean stop left is kept as far as it is right, not deleted (W-35);
//! what is right is checked (W-36); the files' order is that of their records (W-37).

use super::index_files;
use super::index_writer::Recovered;
use super::search::record_at;
use crate::disk::{File, read_small, settle_names};
use crate::format::checkpoint::Checkpoint;
use crate::format::index_file::{ENTRY_SIZE, Header, IndexEntry, SLOT_SIZE, Shape};
use crate::format::message_unit::{self, Unit};
use crate::model::{PhysicalOffset, WallMillis};
use crate::rt::fault;
use crate::store::index::mark::{Cursor, Mark};
use crate::store::index::slots::{self, Slots};
use crate::store::index::{Active, Index, IndexFile, hashes, name};
use crate::store::shared::Shared;
use bytes::Bytes;
use std::io;
use std::sync::Arc;

/// Slots and entries are read in pieces of so many.
const CHUNK: u32 = 8 << 10;

/// Entries of the last record that are looked at, per file. A record has at most 32 KiB of keys.
const TAIL_MAX: u32 = 16 << 10;

/// What whoever looks at a file must know.
#[derive(Clone, Copy)]
struct Look {
    /// Where the log ends: nothing at or past it counts.
    end: u64,
    /// What cannot be read is set aside.
    give_up: bool,
    /// Files are checked that are not known to be synced.
    unclean: bool,
}

/// The index as its files hold it. `give_up`: what cannot be read is set aside.
/// Errors: the device's; nothing was lost then that the log does not hold.
pub async fn open(shared: &Shared, found: &Recovered, give_up: bool) -> io::Result<Index> {
    let shape = shared.options.index_shape();
    let Recovered { unclean, end } = *found;
    let look = Look { end, give_up, unclean };
    let mut files = list(shared, &shape, give_up).await?;
    let known = index_files::read_mark(shared);
    let mut mark = known.filter(|mark| is_vouched(mark, &files));
    if mark.is_some_and(|mark| files.last().is_some_and(|last| last.name != mark.name)) {
        // A file that was just made when the process died.
        remove_last(shared, &mut files)?;
    }
    if mark.is_none() {
        check_files(shared, &shape, &mut files, look).await?;
    }
    while files.last().is_some_and(|last| begins_past(last, end)) {
        crate::rt::probe!("store: an index file lay past the log's end");
        remove_last(shared, &mut files)?;
        mark = None;
    }
    let mut target = match (mark, files.last()) {
        (Some(mark), _) => Mark { writing: None, ..mark },
        (None, Some(last)) => {
            let cursor = cursor_of(shared, &shape, &files, end).await?;
            Mark { name: last.name, header: last.header, cursor, writing: None }
        }
        (None, None) => Mark::default(),
    };
    let was_writing = mark.is_some_and(|mark| mark.writing.is_some());
    if let Some(last) = files.last_mut() {
        let is_past = target.cursor.at > end || target.header.end_physical.0 >= end;
        if (is_past && !target.header.is_empty()) || was_writing {
            cut(shared, &shape, last, &mut target, look, was_writing).await?;
        }
        last.header = target.header;
    }
    if target.cursor.at > end {
        target.cursor = Cursor { at: end, keys_done: 0 };
    }
    // A file that came back with a power loss would speak of records that others have replaced.
    settle_names(&*shared.disk, &index_files::dir(&shared.options)).await?;
    if known != Some(target) {
        index_files::write_mark(shared, &target).await?;
    }
    Ok(assemble(shape, files, target))
}

fn assemble(shape: Shape, mut files: Vec<IndexFile>, mark: Mark) -> Index {
    let mut index = Index::new(shape);
    // Java goes on with the last name: a file that is not last by name is left as it is.
    let last_name = files.iter().map(|file| file.name).max();
    let goes_on =
        |last: &&IndexFile| last.header.count < shape.entries && Some(last.name) == last_name;
    if let Some(last) = files.last().filter(goes_on).copied() {
        files.pop();
        index.active = Some(Active::new(last.name, last.header, Slots::unloaded(&shape)));
    }
    index.sealed = files;
    index.cursor = mark.cursor;
    index.mark = mark;
    index.ready = true;
    index
}

fn begins_past(file: &IndexFile, end: u64) -> bool {
    file.header.begin_physical.0 >= end
}

/// The mark speaks of the last file, or of the one before an empty one.
fn is_vouched(mark: &Mark, files: &[IndexFile]) -> bool {
    match files {
        [] => mark.name == 0 && mark.cursor == Cursor::default(),
        [.., before, last] if last.header.is_empty() && mark.name != last.name => {
            mark.vouches_for(before.name, &before.header)
        }
        [.., last] => mark.vouches_for(last.name, &last.header),
    }
}

fn remove_last(shared: &Shared, files: &mut Vec<IndexFile>) -> io::Result<()> {
    let Some(last) = files.pop() else { return Ok(()) };
    shared.index_files.lock().close_where(|open| *open == last.name);
    shared.disk.remove(&index_files::path(&shared.options, last.name))
}

/// The files in the order of their records. A file of another length or with an impossible header
/// is set aside; a name that is none of ours is left alone, as in 4.9.3.
async fn list(shared: &Shared, shape: &Shape, give_up: bool) -> io::Result<Vec<IndexFile>> {
    let dir = index_files::dir(&shared.options);
    let entries = match shared.disk.list(&dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed?,
    };
    let (mut files, mut broken) = (Vec::new(), None);
    for entry in entries {
        let Some(name) = name::parse(&entry.name).filter(|_| !entry.is_dir) else {
            tracing::warn!("{dir}/{}: not an index file, it is left alone", entry.name);
            continue;
        };
        if entry.size != shape.file_size() {
            let what = format!("{} bytes, {} were expected", entry.size, shape.file_size());
            set_aside(shared, name, &what).await?;
            broken = broken.or(Some(name));
            continue;
        }
        let read = match index_files::open(shared, name) {
            Ok(file) => index_files::read_header(&file).await,
            Err(error) => Err(error),
        };
        let why = match read {
            Ok(bytes) => match Header::decode(&bytes, shape) {
                Some(header) => {
                    files.push(IndexFile { name, header });
                    continue;
                }
                None => "its header is impossible".to_owned(),
            },
            Err(error) if give_up => error.to_string(),
            Err(error) => return Err(error),
        };
        set_aside(shared, name, &why).await?;
        broken = broken.or(Some(name));
    }
    // The index is made again from there on, or it would have a hole.
    let (kept, later) =
        files.into_iter().partition(|f: &IndexFile| broken.is_none_or(|b| f.name < b));
    let (mut files, mut later): (Vec<_>, Vec<_>) = (kept, later);
    while !later.is_empty() {
        remove_last(shared, &mut later)?;
    }
    files.sort_by_key(|file| (file.header.end_physical, file.name));
    Ok(files)
}

async fn set_aside(shared: &Shared, name: u64, what: &str) -> io::Result<()> {
    crate::rt::probe!("store: an index file was set aside");
    let options = &shared.options;
    let (path, aside) = (index_files::path(options, name), format!("{}/aside", options.own_dir()));
    tracing::error!("{path}: {what}; it goes to {aside}, its keys will be indexed again");
    shared.index_files.lock().close_where(|open| *open == name);
    shared.disk.make_dir(&aside)?;
    shared.disk.rename(&path, &format!("{aside}/index-{}", name::text(name)))?;
    shared.disk.sync_dir(&aside).await?;
    shared.disk.sync_dir(&index_files::dir(options)).await
}

/// Checks files that nobody vouches for, oldest first; what follows one that is not whole is made
/// again from the log.
async fn check_files(
    shared: &Shared,
    shape: &Shape,
    files: &mut Vec<IndexFile>,
    look: Look,
) -> io::Result<()> {
    let path = format!("{}/checkpoint", shared.options.root);
    let checkpoint = read_small(&*shared.disk, &path, 1 << 20).ok();
    let checkpoint = checkpoint.and_then(|bytes| Checkpoint::decode(&bytes)).unwrap_or_default();
    files.retain(|file| {
        if !file.header.is_empty() {
            return true;
        }
        shared.index_files.lock().close_where(|open| *open == file.name);
        shared.disk.remove(&index_files::path(&shared.options, file.name)).is_err()
    });
    for at in 0..files.len() {
        let file = files[at];
        let is_last = at + 1 == files.len();
        let synced = file.header.end_timestamp <= checkpoint.index && !is_last;
        if (synced || !look.unclean) && agrees(shared, shape, &file).await? {
            continue;
        }
        crate::rt::probe!("store: an index file was checked");
        let header = check(shared, shape, &file, look).await?;
        if header.count == file.header.count && header != file.header {
            crate::rt::probe!("store: the header of an index file was mended");
        }
        files[at].header = header;
        if header.count < file.header.count {
            crate::rt::probe!("store: an index file was cut where it was torn");
            while files.len() > at + 1 {
                remove_last(shared, files)?;
            }
        }
        if files[at].header.is_empty() {
            remove_last(shared, files)?;
        }
        if files.len() <= at + 1 && header.count < file.header.count {
            return Ok(());
        }
    }
    Ok(())
}

/// Whether the first and the last entry and their records are what the header says: all that is
/// asked after an orderly stop, and of files that are known to be synced.
async fn agrees(shared: &Shared, shape: &Shape, file: &IndexFile) -> io::Result<bool> {
    let header = &file.header;
    let handle = index_files::open(shared, file.name)?;
    let begin = (1, header.begin_physical, header.begin_timestamp);
    let end = (header.count - 1, header.end_physical, header.end_timestamp);
    for (number, place, at) in [begin, end] {
        let found = entries(&handle, shape, number, 1).await?.first().copied().flatten();
        let Some(entry) = found.filter(|entry| entry.physical == place) else { return Ok(false) };
        if time_of(shared, &entry, true).await?.is_some_and(|stored| stored != at) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Entries from `first` on; `None` for one that is impossible.
async fn entries(
    file: &Arc<dyn File>,
    shape: &Shape,
    first: u32,
    count: u32,
) -> io::Result<Vec<Option<IndexEntry>>> {
    let bytes = file.read(shape.entry_at(first), count as usize * ENTRY_SIZE).await?;
    Ok(bytes.chunks_exact(ENTRY_SIZE).map(IndexEntry::decode).collect())
}

/// Makes slots and header anew from the entries, up to the first that does not fit: entries lie in
/// log order, below the log's end, and each names the one before it in its slot. All of it is
/// written, also what was right: a sync that failed may have left it in memory alone.
/// Durable on return. Returns the header of what is right.
async fn check(shared: &Shared, shape: &Shape, file: &IndexFile, look: Look) -> io::Result<Header> {
    let handle = index_files::open(shared, file.name)?;
    let mut right = vec![0_u32; shape.slots as usize];
    let (mut count, mut used) = (1, 0);
    let (mut first, mut last) = (IndexEntry::default(), IndexEntry::default());
    'all: while count < file.header.count {
        let chunk = CHUNK.min(file.header.count - count);
        for entry in entries(&handle, shape, count, chunk).await? {
            let Some(entry) =
                entry.filter(|e| last.physical <= e.physical && e.physical.0 < look.end)
            else {
                break 'all;
            };
            let slot = &mut right[shape.slot_of(entry.hash) as usize];
            // Zeros, where nothing was written, pass for an entry of the log's first record.
            if entry.previous != *slot || entry == IndexEntry::default() {
                break 'all;
            }
            if count == 1 {
                first = entry;
            }
            used += u32::from(*slot == 0);
            (*slot, last) = (count, entry);
            count += 1;
        }
    }
    let mut header = Header { count, slots_used: used, ..file.header };
    if !header.is_empty() {
        (header.begin_physical, header.end_physical) = (first.physical, last.physical);
        let begun = time_of(shared, &first, look.give_up).await?;
        let ended = time_of(shared, &last, look.give_up).await?;
        header.begin_timestamp = begun.unwrap_or_else(|| begun_before(&header, &last, ended));
        header.end_timestamp = ended.unwrap_or_else(|| about(&header, &last));
    }
    for (page, expected) in right.chunks(CHUNK as usize).enumerate() {
        let bytes: Vec<u8> = expected.iter().flat_map(|slot| slot.to_be_bytes()).collect();
        handle.write_at(shape.slot_at(page as u32 * CHUNK), &bytes)?;
    }
    handle.write_at(0, &header.encode())?;
    handle.sync_data().await?;
    fault::point("store: index file checked").await;
    Ok(header)
}

/// When a file begins whose first record is gone from the log: as its header says, unless its last
/// entry knows better.
fn begun_before(header: &Header, last: &IndexEntry, ended: Option<WallMillis>) -> WallMillis {
    match ended.filter(|ended| header.count > 2 && header.seconds_of(*ended) != last.seconds) {
        Some(ended) => WallMillis(ended.0.saturating_sub(i64::from(last.seconds) * 1000)),
        None => header.begin_timestamp,
    }
}

/// What an entry itself knows of its record's store time.
fn about(header: &Header, entry: &IndexEntry) -> WallMillis {
    let seconds = i64::from(entry.seconds) * 1000;
    WallMillis(header.begin_timestamp.0.saturating_add(seconds))
}

/// The store time of an entry's record; `None` when the record is not there, or cannot be read
/// and `give_up`.
async fn time_of(
    shared: &Shared,
    entry: &IndexEntry,
    give_up: bool,
) -> io::Result<Option<WallMillis>> {
    match record_at(shared, entry.physical.0).await {
        Ok(record) => Ok(record.and_then(|bytes| stored_at(&bytes, entry.physical))),
        Err(_) if give_up => Ok(None),
        Err(error) => Err(error),
    }
}

fn stored_at(bytes: &Bytes, at: PhysicalOffset) -> Option<WallMillis> {
    match message_unit::decode(bytes, at, false) {
        Ok(Unit::Record(record)) => Some(record.store_timestamp()),
        _ => None,
    }
}

/// Where the log goes on after the last entry: after its record, or within its keys.
async fn cursor_of(
    shared: &Shared,
    shape: &Shape,
    files: &[IndexFile],
    end: u64,
) -> io::Result<Cursor> {
    let Some(last) = files.last() else { return Ok(Cursor::default()) };
    let at = last.header.end_physical;
    let done = Cursor { at: at.0, keys_done: 0 };
    if at.0 >= end {
        return Ok(done);
    }
    let Some(bytes) = record_at(shared, at.0).await? else { return Ok(done) };
    let Ok(Unit::Record(record)) = message_unit::decode(&bytes, at, false) else {
        return Ok(done);
    };
    let mut tail = Vec::new();
    // A record with more keys than a file holds lies in several.
    for file in files.iter().rev().filter(|file| !file.header.is_empty()) {
        let handle = index_files::open(shared, file.name)?;
        let left = TAIL_MAX.saturating_sub(tail.len() as u32);
        let first = file.header.count.saturating_sub(left).max(1);
        let of_file = entries(&handle, shape, first, file.header.count - first).await?;
        let same = |entry: &&Option<IndexEntry>| entry.is_some_and(|e| e.physical == at);
        tail.extend(of_file.iter().rev().take_while(same).flatten().map(|entry| entry.hash));
        if of_file.first().copied().flatten().is_none_or(|first| first.physical != at) {
            break;
        }
    }
    tail.reverse();
    let keys: Vec<u32> = hashes(&record).collect();
    let known = (0..=keys.len().min(tail.len())).rev().find(|n| tail.ends_with(&keys[..*n]));
    let known = known.unwrap_or(0);
    if known == keys.len() {
        return Ok(Cursor { at: at.0 + record.size() as u64, keys_done: 0 });
    }
    Ok(Cursor { at: at.0, keys_done: known as u32 })
}

/// Takes back entries past the log's end, and slots that are newer than the header: a slot that
/// leads to an entry that does not count gets the newest of its chain that does.
/// Durable on return: file and mark.
async fn cut(
    shared: &Shared,
    shape: &Shape,
    file: &IndexFile,
    target: &mut Mark,
    look: Look,
    was_writing: bool,
) -> io::Result<()> {
    crate::rt::probe!("store: slots of an index file were taken back");
    let handle = index_files::open(shared, file.name)?;
    let (mut low, mut high) = (1, target.header.count);
    while low < high {
        let middle = low + (high - low) / 2;
        let entry = entries(&handle, shape, middle, 1).await?.first().copied().flatten();
        if entry.is_some_and(|entry| entry.physical.0 < look.end) {
            low = middle + 1
        } else {
            high = middle
        }
    }
    if low < target.header.count {
        crate::rt::probe!("store: index entries past the log's end were cut");
        let last = entries(&handle, shape, low - 1, 1).await?.first().copied().flatten();
        let last = last.unwrap_or_default();
        target.header.count = low;
        target.header.end_physical = last.physical;
        let ended = time_of(shared, &last, look.give_up).await?;
        target.header.end_timestamp = ended.unwrap_or_else(|| about(&target.header, &last));
        target.cursor = Cursor { at: look.end, keys_done: 0 };
    }
    target.header.slots_used = target.header.slots_used.min(low - 1);
    index_files::write_mark(shared, &Mark { writing: Some(file.header), ..*target }).await?;
    fault::point("store: index is cut").await;
    let mut used = 0;
    for first in (0..shape.slots).step_by(CHUNK as usize) {
        let count = CHUNK.min(shape.slots - first);
        let at = shape.slot_at(first);
        let bytes = handle.read(at, count as usize * SLOT_SIZE).await?;
        let mut slots: Vec<u32> = slots::decode(&bytes).collect();
        // A sync of slots that failed may have left them in memory alone.
        let mut dirty = was_writing;
        for slot in slots.iter_mut() {
            while *slot >= low {
                dirty = true;
                let newer = *slot;
                let known = newer < shape.entries;
                let entry =
                    if known { entries(&handle, shape, newer, 1).await? } else { Vec::new() };
                let before = entry.first().copied().flatten().map(|entry| entry.previous);
                *slot = before.filter(|before| *before < newer).unwrap_or(0);
            }
            used += u32::from(*slot > 0);
        }
        if dirty {
            let bytes: Vec<u8> = slots.iter().flat_map(|slot| slot.to_be_bytes()).collect();
            handle.write_at(at, &bytes)?;
        }
    }
    handle.sync_data().await?;
    target.header.slots_used = used;
    handle.write_at(0, &target.header.encode())?;
    handle.sync_data().await
}
