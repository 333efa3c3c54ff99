//! A decoder of store files of its own: the product's must not judge itself.

use crate::disk::SimDisk;
use std::collections::BTreeMap;

const MAGIC: u32 = 0xDAA3_20A7;
const BLANK: u32 = 0xCBD4_3194;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub physical: u64,
    pub size: u32,
    pub topic: String,
    pub queue: u32,
    pub queue_offset: u64,
    pub sys_flag: u32,
    pub store_timestamp: i64,
    pub reconsume_times: u32,
    /// Where the half message of a committed one lies.
    pub prepared: u64,
    pub body: Vec<u8>,
    pub properties: Vec<u8>,
}

#[derive(Debug, Default)]
pub struct Log {
    pub records: Vec<Record>,
    pub start: u64,
    /// Where the next record would begin.
    pub end: u64,
    /// The first byte past the end that is not zero.
    pub dirt: Option<u64>,
    /// Why the log ends, when it is not zeros.
    pub why: Option<String>,
}

/// One entry of a consume queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub physical: u64,
    pub size: u32,
    pub tags_code: i64,
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }
    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }
    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }
}

/// Where a file of the commit log begins: it lies in `dir`, or in a directory whose name begins so.
pub fn log_base(path: &str, dir: &str) -> Option<u64> {
    let (_, name) = path.strip_prefix(dir)?.split_once('/')?;
    name.parse().ok()
}

/// The commit log as a process would read it now.
pub fn log(disk: &SimDisk, dir: &str) -> Log {
    let mut files: Vec<(u64, Vec<u8>)> = Vec::new();
    for path in disk.files() {
        let Some(base) = log_base(&path, dir) else { continue };
        files.push((base, disk.peek(&path).unwrap_or_default()));
    }
    files.sort_by_key(|file| file.0);
    let mut log = Log::default();
    log.start = files.first().map_or(0, |f| f.0);
    log.end = log.start;
    let mut ended = false;
    for (base, bytes) in &files {
        if !ended && *base != log.end {
            log.why = Some(format!("a file begins at {base}, the log ends at {}", log.end));
            ended = true;
        }
        let mut at = 0;
        if !ended {
            at = scan(*base, bytes, &mut log);
            ended = at < bytes.len();
        }
        if ended && log.dirt.is_none() {
            let dirt = bytes[at..].iter().position(|b| *b != 0);
            log.dirt = dirt.map(|n| base + (at + n) as u64);
        }
    }
    log
}

/// The file that holds a byte of the log, and where in it.
pub fn place(disk: &SimDisk, dir: &str, physical: u64) -> Option<(String, usize)> {
    let holds = |path: String| {
        let base = log_base(&path, dir)?;
        let at = usize::try_from(physical.checked_sub(base)?).ok()?;
        (at < disk.peek(&path)?.len()).then_some((path, at))
    };
    disk.files().into_iter().find_map(holds)
}

/// Where the first file of the log begins; 0 without one.
pub fn log_start(disk: &SimDisk, dir: &str) -> u64 {
    let bases = disk.files().into_iter().filter_map(|path| log_base(&path, dir));
    bases.min().unwrap_or(0)
}

/// Reads records to the end of one file, or to the log's end; returns how far it came.
fn scan(base: u64, bytes: &[u8], log: &mut Log) -> usize {
    let mut at = 0;
    loop {
        let mut head = Bytes(&bytes[at..]);
        let (Some(size), Some(magic)) = (head.u32(), head.u32()) else {
            log.end = base + at as u64;
            return at;
        };
        if magic == BLANK && size as usize == bytes.len() - at {
            log.end = base + bytes.len() as u64;
            return bytes.len();
        }
        match record(base + at as u64, &bytes[at..]) {
            Ok(record) => {
                at += record.size as usize;
                log.records.push(record);
            }
            Err(why) => {
                log.end = base + at as u64;
                if size != 0 || magic != 0 {
                    log.why = Some(why);
                }
                return at;
            }
        }
    }
}

pub(super) fn record(physical: u64, bytes: &[u8]) -> Result<Record, String> {
    let short = || format!("the record at {physical} does not fit");
    let size = Bytes(bytes).u32().ok_or_else(short)?;
    let mut b = Bytes(bytes.get(..size as usize).ok_or_else(short)?);
    b.take(4).ok_or_else(short)?;
    let magic = b.u32().ok_or_else(short)?;
    if magic != MAGIC {
        return Err(format!("magic {magic:#x} at {physical}"));
    }
    let crc = b.u32().ok_or_else(short)?;
    let queue = b.u32().ok_or_else(short)?;
    b.take(4).ok_or_else(short)?;
    let queue_offset = b.u64().ok_or_else(short)?;
    let own = b.u64().ok_or_else(short)?;
    if own != physical {
        return Err(format!("the record at {physical} says it is at {own}"));
    }
    let sys_flag = b.u32().ok_or_else(short)?;
    let born = if sys_flag & 0x10 == 0 { 8 } else { 20 };
    let stored = if sys_flag & 0x20 == 0 { 8 } else { 20 };
    b.take(8 + born).ok_or_else(short)?;
    let store_timestamp = b.u64().ok_or_else(short)? as i64;
    b.take(stored).ok_or_else(short)?;
    let reconsume_times = b.u32().ok_or_else(short)?;
    let prepared = b.u64().ok_or_else(short)?;
    let n = b.u32().ok_or_else(short)? as usize;
    let body = b.take(n).ok_or_else(short)?.to_vec();
    if crc32fast::hash(&body) & 0x7fff_ffff != crc {
        return Err(format!("the body of the record at {physical} has another CRC"));
    }
    let n = usize::from(b.take(1).ok_or_else(short)?[0]);
    let topic = String::from_utf8_lossy(b.take(n).ok_or_else(short)?).into_owned();
    let n = b.take(2).ok_or_else(short)?;
    let n = usize::from(u16::from_be_bytes([n[0], n[1]]));
    let properties = b.take(n).ok_or_else(short)?.to_vec();
    if !b.0.is_empty() {
        return Err(format!("the record at {physical} has {} bytes too many", b.0.len()));
    }
    Ok(Record {
        physical,
        size,
        topic,
        queue,
        queue_offset,
        sys_flag,
        store_timestamp,
        reconsume_times,
        prepared,
        body,
        properties,
    })
}

/// Splits records that a read returned.
pub fn split(mut bytes: &[u8]) -> Result<Vec<Record>, String> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let own = bytes.get(28..36).and_then(|b| b.try_into().ok()).map(u64::from_be_bytes);
        let own = own.ok_or_else(|| format!("{} bytes are no record", bytes.len()))?;
        let one = record(own, bytes)?;
        bytes = &bytes[one.size as usize..];
        records.push(one);
    }
    Ok(records)
}

/// The consume queues' files: (topic, queue) → offset of the first entry and the entries.
pub type Queues = BTreeMap<(String, u32), (u64, Vec<Entry>)>;

pub fn queues(disk: &SimDisk, dir: &str) -> Result<Queues, String> {
    let mut queues = Queues::new();
    let below = format!("{dir}/");
    for path in disk.files() {
        let Some(rest) = path.strip_prefix(&below) else { continue };
        let parts: Vec<&str> = rest.split('/').collect();
        let [topic, queue, name] = parts[..] else {
            return Err(format!("{path} is not a consume queue's file"));
        };
        let (Ok(queue), Ok(base)) = (queue.parse::<u32>(), name.parse::<u64>()) else {
            return Err(format!("{path} is not a consume queue's file"));
        };
        let bytes = disk.peek(&path).unwrap_or_default();
        if !bytes.len().is_multiple_of(20) || base % 20 != 0 {
            return Err(format!("{path} has {} bytes", bytes.len()));
        }
        let slot = queues.entry((topic.to_owned(), queue)).or_insert((base / 20, Vec::new()));
        let next = slot.0 + slot.1.len() as u64;
        if next != base / 20 {
            return Err(format!("{path} does not follow entry {next}"));
        }
        for chunk in bytes.chunks(20) {
            let mut b = Bytes(chunk);
            let (Some(physical), Some(size), Some(tags)) = (b.u64(), b.u32(), b.u64()) else {
                continue;
            };
            slot.1.push(Entry { physical, size, tags_code: tags as i64 });
        }
    }
    // What follows the last entry is zeros.
    for (_, entries) in queues.values_mut() {
        while entries.last().is_some_and(|e| e.size == 0 && e.physical == 0) {
            entries.pop();
        }
    }
    Ok(queues)
}
