//! Which files are there, how large they are, and whether a loader would take them.
//!
//! Source: MappedFileQueue#doLoad, ConsumeQueue, IndexService#load (4.9.3): one file of a wrong
//! length and Java does not start.

use crate::disk::{Disk, Entry};
use crate::doctor::options::Options;
use crate::doctor::report::{Area, Report};
use crate::format::index_file::{self, ENTRY_SIZE, HEADER_SIZE, Header, SLOT_SIZE};
use crate::model::{QueueId, QueueKey, TopicName};
use crate::store::{segment_base, segment_name};
use std::collections::BTreeMap;
use std::io;

const WRONG: &str = "move it away; RocketMQ refuses to start with it too";

/// What the files say about how the store was configured, and which there are.
#[derive(Default)]
pub struct Shape {
    /// Units: bytes; 0 when there is no segment.
    pub segment_size: u64,
    /// The path of each segment, by its start.
    pub segments: BTreeMap<u64, String>,
    /// Units: bytes of a consume queue file; 0 when there is none.
    pub queue_file_size: u64,
    /// Starts of the files of each queue in bytes, ascending.
    pub queues: BTreeMap<QueueKey, Vec<u64>>,
}

/// Errors: the directory itself cannot be listed.
pub fn look(disk: &dyn Disk, options: &Options, report: &mut Report) -> io::Result<Shape> {
    let root = &options.root;
    let names = disk.list(root)?;
    let has = |name: &str| names.iter().any(|entry| entry.name == name);
    report.written_by = match (has("hotfire"), has("commitlog") || has("config")) {
        (true, _) => "Hotfire (or RocketMQ after it)".to_owned(),
        (false, true) => "RocketMQ 4.x".to_owned(),
        (false, false) => "nobody yet".to_owned(),
    };
    let known = [
        "abort",
        "checkpoint",
        "commitlog",
        "config",
        "consumequeue",
        "consumequeue_ext",
        "hotfire",
        "index",
        "lock",
        "transaction",
    ];
    for entry in names.iter().filter(|entry| !known.contains(&entry.name.as_str())) {
        let path = format!("{root}/{}", entry.name);
        report.note(path, "neither RocketMQ's nor ours; nothing reads it");
    }
    if has("abort") && options.live.is_none() {
        report.note(format!("{root}/abort"), "the last process did not stop in order");
    }
    let mut shape = Shape::default();
    segments(disk, options, report, &mut shape);
    queues(disk, options, report, &mut shape);
    for name in ["consumequeue_ext", "index", "config", "hotfire"] {
        let path = format!("{root}/{name}");
        let mut area = Area { name: name.to_owned(), path: path.clone(), ..Area::default() };
        count(disk, &path, &mut area, 4);
        area.format = match name {
            "config" => "JSON as fastjson writes it",
            "consumequeue_ext" => "RocketMQ 4.x; not read by Hotfire",
            "index" => "RocketMQ 4.x",
            _ => "ours; losing it is safe",
        }
        .to_owned();
        if area.files > 0 {
            report.areas.push(area);
        }
    }
    index(disk, options, report);
    Ok(shape)
}

fn count(disk: &dyn Disk, dir: &str, area: &mut Area, depth: u32) {
    for entry in disk.list(dir).unwrap_or_default() {
        if entry.is_dir && depth > 0 {
            count(disk, &format!("{dir}/{}", entry.name), area, depth - 1);
        } else if !entry.is_dir {
            area.files += 1;
            area.size += entry.size;
        }
    }
}

/// The size that most files have; of equals the greater.
fn usual_size<'a>(entries: impl Iterator<Item = &'a Entry>) -> u64 {
    let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
    for entry in entries.filter(|entry| !entry.is_dir && entry.size > 0) {
        *counts.entry(entry.size).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(size, count)| (*count, *size)).map_or(0, |(size, _)| size)
}

/// The starts of the files with a legal name and size; the others are findings.
fn starts(dir: &str, entries: &[Entry], size: u64, report: &mut Report) -> Vec<u64> {
    let mut found = Vec::new();
    for entry in entries {
        let path = format!("{dir}/{}", entry.name);
        let base = segment_base(&entry.name).filter(|base| size > 0 && base % size == 0);
        match base {
            _ if entry.is_dir => {
                report.error("layout", &path, "a directory where only files belong", WRONG);
            }
            None => report.error("layout", &path, "a name that no store file has", WRONG),
            Some(_) if entry.size != size => {
                let what = format!("{} bytes where the others have {size}", entry.size);
                report.error("layout", &path, what, WRONG);
            }
            Some(base) => found.push(base),
        }
    }
    found
}

fn holes(dir: &str, starts: &[u64], size: u64, level: &str, report: &mut Report) {
    for pair in starts.windows(2).filter(|pair| pair[1] != pair[0] + size) {
        let (from, to) = (pair[0] + size, pair[1]);
        let what = format!("no file holds {from} to {to}");
        match level {
            "log" => {
                let advice = "bring the missing files back from a slave or a backup; without them \
                              nothing starts";
                report.error("hole", dir, what, advice);
            }
            _ => {
                let advice = "remove the queue's directory while the broker is stopped: a start \
                              makes it again from the log";
                report.warn("hole", dir, what, advice);
            }
        }
    }
}

fn segments(disk: &dyn Disk, options: &Options, report: &mut Report, shape: &mut Shape) {
    let listed = options.commit_log.all().iter().map(|dir| (dir, disk.list(dir)));
    let listed: Vec<_> = listed.filter_map(|(dir, entries)| Some((dir, entries.ok()?))).collect();
    if listed.is_empty() {
        report.note(&*options.root, "there is no commit log");
    }
    shape.segment_size = usual_size(listed.iter().flat_map(|(_, entries)| entries));
    for (dir, entries) in &listed {
        for base in starts(dir, entries, shape.segment_size, report) {
            let path = format!("{dir}/{}", segment_name(base));
            if let Some(other) = shape.segments.insert(base, path.clone()) {
                report.error("layout", &path, format!("the same file as {other}"), WRONG);
            }
        }
        report.areas.push(Area {
            name: "commitlog".to_owned(),
            path: (*dir).clone(),
            files: entries.len() as u64,
            size: entries.iter().map(|entry| entry.size).sum(),
            format: format!("RocketMQ 4.x, files of {} bytes", shape.segment_size),
        });
    }
    let bases: Vec<u64> = shape.segments.keys().copied().collect();
    holes(&options.root, &bases, shape.segment_size, "log", report);
    report.log.segments = bases.len() as u64;
    report.log.segment_size = shape.segment_size;
}

fn queues(disk: &dyn Disk, options: &Options, report: &mut Report, shape: &mut Shape) {
    let root = format!("{}/consumequeue", options.root);
    let mut dirs: Vec<(QueueKey, String, Vec<Entry>)> = Vec::new();
    for topic in disk.list(&root).unwrap_or_default() {
        let dir = format!("{root}/{}", topic.name);
        if !topic.is_dir {
            report.note(dir, "a file where only topics' directories belong; nothing reads it");
            continue;
        }
        for queue in disk.list(&dir).unwrap_or_default() {
            let dir = format!("{dir}/{}", queue.name);
            let Ok(id) = queue.name.parse::<u32>() else {
                report.note(dir, "not a queue's number; nothing reads it");
                continue;
            };
            let key = QueueKey { topic: TopicName::new(&topic.name), queue: QueueId(id) };
            let entries = disk.list(&dir).unwrap_or_default();
            dirs.push((key, dir, entries));
        }
    }
    let size = usual_size(dirs.iter().flat_map(|(_, _, entries)| entries.iter()));
    let (mut files, mut bytes) = (0, 0);
    for (key, dir, entries) in dirs {
        files += entries.len() as u64;
        bytes += entries.iter().map(|entry| entry.size).sum::<u64>();
        let found = starts(&dir, &entries, size, report);
        holes(&dir, &found, size, "queue", report);
        shape.queues.insert(key, found);
    }
    shape.queue_file_size = size;
    report.queues.count = shape.queues.len() as u64;
    report.areas.push(Area {
        name: "consumequeue".to_owned(),
        path: root,
        files,
        size: bytes,
        format: format!("RocketMQ 4.x, files of {} entries", size / 20),
    });
}

/// Names and sizes. Source: IndexService#load (4.9.3).
fn index(disk: &dyn Disk, options: &Options, report: &mut Report) {
    let dir = format!("{}/index", options.root);
    let entries = disk.list(&dir).unwrap_or_default();
    let size = usual_size(entries.iter());
    for entry in entries {
        let path = format!("{dir}/{}", entry.name);
        let is_named = entry.name.len() == 17 && entry.name.bytes().all(|b| b.is_ascii_digit());
        let advice = "move it away: the index is made again from the log, or goes without it";
        if entry.is_dir || !is_named {
            report.warn("index", &path, "a name that no index file has", advice);
        } else if entry.size != size {
            let what = format!("{} bytes where the others have {size}", entry.size);
            report.warn("index", &path, what, advice);
        } else if !has_index_header(disk, &path, size) {
            report.warn("index", &path, "its header holds numbers that no index has", advice);
        }
    }
}

/// The number of slots is not known here: only what no number of them explains is wrong.
fn has_index_header(disk: &dyn Disk, path: &str, size: u64) -> bool {
    let most = |unit: usize| u32::try_from(size / unit as u64).unwrap_or(u32::MAX);
    let shape = index_file::Shape { slots: most(SLOT_SIZE), entries: most(ENTRY_SIZE) };
    let header = disk.open(path).and_then(|file| file.read_at(0, HEADER_SIZE));
    header.is_ok_and(|header| Header::decode(&header, &shape).is_some())
}
