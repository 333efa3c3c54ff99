//! What index files must hold, by a decoder and a hash of its own.

use super::files::Log;
use super::judge::Verdict;
use crate::disk::SimDisk;

struct IndexFile {
    name: String,
    begin: u64,
    end: u64,
    slots_used: u32,
    slots: Vec<u32>,
    /// Hash, place, entry before it.
    entries: Vec<(u32, u64, u32)>,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes)
}
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_be_bytes)
}

fn read(name: String, bytes: &[u8], shape: (u32, u32)) -> Result<IndexFile, String> {
    let (slots, entries) = (shape.0 as usize, shape.1 as usize);
    if bytes.len() != 40 + 4 * slots + 20 * entries {
        return Err(format!("index file {name} has {} bytes", bytes.len()));
    }
    let count = u32_at(bytes, 36).max(1) as usize;
    if count > entries {
        return Err(format!("index file {name} counts {count} of {entries} entries"));
    }
    let entry = |n: usize| {
        let at = 40 + 4 * slots + 20 * n;
        (u32_at(bytes, at), u64_at(bytes, at + 4), u32_at(bytes, at + 16))
    };
    Ok(IndexFile {
        name,
        begin: u64_at(bytes, 16),
        end: u64_at(bytes, 24),
        slots_used: u32_at(bytes, 32),
        slots: (0..slots).map(|n| u32_at(bytes, 40 + 4 * n)).collect(),
        entries: (1..count).map(entry).collect(),
    })
}

/// Java's hash of `topic#key`, made positive as Java does.
fn hash(topic: &str, key: &str) -> u32 {
    let text = format!("{topic}#{key}");
    let hash = text.encode_utf16().fold(0i32, |h, c| h.wrapping_mul(31).wrapping_add(i32::from(c)));
    hash.checked_abs().unwrap_or(0) as u32
}

fn keys(properties: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(properties);
    let value = |name: &str| {
        let mut found = text.split('\u{2}').filter_map(|item| item.split_once('\u{1}'));
        found.rfind(|item| item.0 == name && !item.1.is_empty()).map(|item| item.1.to_owned())
    };
    let mut keys: Vec<String> = value("UNIQ_KEY").into_iter().collect();
    let more = value("KEYS").unwrap_or_default();
    keys.extend(more.split(' ').filter(|key| !key.is_empty()).map(str::to_owned));
    keys
}

/// Each file is whole, and all of them together hold the log's keys, each once, in log order, up
/// to some record.
pub fn follows(log: &Log, disk: &SimDisk, dir: &str, shape: (u32, u32)) -> Verdict {
    let below = format!("{dir}/");
    let mut found: Vec<(u32, u64)> = Vec::new();
    for path in disk.files() {
        let Some(name) = path.strip_prefix(&below) else { continue };
        let file = read(name.to_owned(), &disk.peek(&path).unwrap_or_default(), shape)?;
        is_whole(&file)?;
        found.extend(file.entries.iter().map(|entry| (entry.0, entry.1)));
    }
    found.retain(|entry| entry.1 >= log.start);
    let of = |record: &super::files::Record| {
        let topic = record.topic.clone();
        let hashes = keys(&record.properties).into_iter().map(move |key| hash(&topic, &key));
        hashes.map(|hash| (hash, record.physical)).collect::<Vec<_>>()
    };
    let expected: Vec<(u32, u64)> = log.records.iter().flat_map(of).collect();
    let same = found.iter().zip(&expected).take_while(|(a, b)| a == b).count();
    if same < found.len() {
        return Err(format!(
            "index entry {same} of {} is {:?}, the log says {:?}",
            found.len(),
            found[same],
            expected.get(same)
        ));
    }
    Ok(())
}

/// Every slot leads to the newest of its entries, and each of them to the one before it.
fn is_whole(file: &IndexFile) -> Verdict {
    let name = &file.name;
    let mut slots = vec![0; file.slots.len()];
    for ((hash, at, before), number) in file.entries.iter().zip(1_u32..) {
        let slot = &mut slots[*hash as usize % file.slots.len()];
        if before != slot {
            return Err(format!("entry {number} of {name} follows {before}, {slot} was expected"));
        }
        *slot = number;
        if *at < file.begin || *at > file.end {
            return Err(format!(
                "entry {number} of {name} at {at} is outside what its header says"
            ));
        }
    }
    if slots != file.slots {
        return Err(format!("slots of {name} are {:?}, expected {slots:?}", file.slots));
    }
    let used = slots.iter().filter(|slot| **slot > 0).count();
    if used != file.slots_used as usize {
        return Err(format!("{name} counts {} used slots of {used}", file.slots_used));
    }
    let last = file.entries.last().map_or(file.end, |entry| entry.1);
    match last == file.end {
        true => Ok(()),
        false => Err(format!("{name} says it ends at {}, its last entry at {last}", file.end)),
    }
}
