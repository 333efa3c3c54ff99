//! What happens to files while their process is down: what no process did.
//!
//! Only two kinds of damage are dealt out, and both leave every promise standing. Derived files
//! (queues, Hotfire's own, `abort`) may come to any harm: all of it follows from the log. Of the
//! log only what no sync had covered when the power failed is touched: a bit that arrived flipped,
//! or garbage where the log ends.

use crate::disk::{SECTOR, SimDisk};
use crate::oracle::court::ROOT;
use crate::oracle::files::{self, Record};
use crate::scenario::FaultKind;
use crate::trace;
use crate::world::World;
use hotfire::rt::rng::Rng;
use hotfire::rt::sim::mark;
use std::collections::BTreeMap;

/// One entry of a consume queue. Units: bytes.
const ENTRY: usize = 20;
/// Blank entries stand before a queue's first one: physical offset 0, size 2^31 - 1, code 0.
const BLANK: [u8; ENTRY] = [0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0];
const MAGIC: u32 = 0xDAA3_20A7;
const BLANK_MAGIC: u32 = 0xCBD4_3194;

/// Kills a machine's process, or cuts its power, and damages its files.
pub fn strike(world: &World, machine: usize, kind: FaultKind, seed: u64) {
    let mut dice = Rng::from_seed(seed);
    let m = &world.machines()[machine];
    let strike = Strike { disk: m.disk.clone(), name: m.plan.name.clone() };
    match kind {
        FaultKind::TailGarbage => {
            world.crash(machine, true);
            strike.tail_garbage(&mut dice);
        }
        FaultKind::TailFlip => {
            let durable = strike.durable_heads();
            world.crash(machine, true);
            strike.tail_flip(&durable, &mut dice);
        }
        FaultKind::OwnGone => {
            world.crash(machine, false);
            // `abort` and Hotfire's own files say the same thing twice: losing both at once makes
            // an unclean stop look like Java's clean one, which nobody can tell apart.
            if strike.has("abort") && world.may_lose_own_files(machine) {
                strike.disk.erase_tree(&format!("{ROOT}/hotfire"));
                mark("damage: Hotfire's own files are gone");
            }
        }
        _ => {
            world.crash(machine, dice.chance(0.3));
            strike.derived(kind, &mut dice);
        }
    }
}

struct Strike {
    disk: SimDisk,
    /// The machine's, for the story.
    name: String,
}

/// One file of a consume queue.
struct QueueFile {
    path: String,
    base: u64,
    bytes: Vec<u8>,
}

impl QueueFile {
    fn entry(&self, n: usize) -> &[u8] {
        &self.bytes[n * ENTRY..(n + 1) * ENTRY]
    }

    /// One past the last entry that is not zeros.
    fn used(&self) -> usize {
        let all = self.bytes.len() / ENTRY;
        (0..all).rev().find(|n| self.entry(*n).iter().any(|b| *b != 0)).map_or(0, |n| n + 1)
    }
}

impl Strike {
    fn tell(&self, what: std::fmt::Arguments<'_>) {
        trace::tell(&self.name, format_args!("damage: {what}"));
    }

    // ---- the log's tail ----

    fn log_files(&self) -> Vec<(u64, String)> {
        let dir = format!("{ROOT}/commitlog");
        let base = |path: &String| files::log_base(path, &dir);
        let files = self.disk.files().into_iter();
        let mut files: Vec<_> = files.filter_map(|path| Some((base(&path)?, path))).collect();
        files.sort_unstable();
        files
    }

    /// The first bytes of every record that the page cache has, as the device has them.
    fn durable_heads(&self) -> BTreeMap<u64, Vec<u8>> {
        let log = files::log(&self.disk, &format!("{ROOT}/commitlog"));
        let files = self.log_files();
        let head = |r: &Record| {
            let (base, path) = files.iter().rev().find(|f| f.0 <= r.physical)?;
            let at = (r.physical - base) as usize;
            let durable = self.disk.peek_durable(path).unwrap_or_default();
            Some((r.physical, durable.get(at..at + 8).unwrap_or_default().to_vec()))
        };
        log.records.iter().filter_map(head).collect()
    }

    /// A record that the device got without being asked to has one bit wrong.
    fn tail_flip(&self, durable: &BTreeMap<u64, Vec<u8>>, dice: &mut Rng) {
        let log = files::log(&self.disk, &format!("{ROOT}/commitlog"));
        let files = self.log_files();
        let mut volatile = Vec::new();
        for record in &log.records {
            let Some((base, path)) = files.iter().rev().find(|f| f.0 <= record.physical) else {
                continue;
            };
            let at = (record.physical - base) as usize;
            let bytes = self.disk.peek(path).unwrap_or_default();
            let Some(bytes) = bytes.get(at..at + record.size as usize) else { continue };
            if durable.get(&record.physical).is_some_and(|head| head[..] != bytes[..8]) {
                volatile.push((record, path, at, bytes.to_vec()));
            }
        }
        if volatile.is_empty() {
            return self.tail_garbage(dice);
        }
        let (record, path, at, bytes) = dice.pick(&volatile);
        let (field, from, size) = *dice.pick(&fields(record, bytes));
        let bit = dice.below(size as u64 * 8) as usize;
        let place = from + bit / 8;
        self.disk.deface(path, at + place, &[bytes[place] ^ 1 << (bit % 8)]);
        mark("damage: an unsynced record has a flipped bit (W-07, W-09)");
        self.tell(format_args!("a bit of the {field} of the record at {} flips", record.physical));
    }

    /// Eight bytes at the log's end that look like the head of a record.
    fn tail_garbage(&self, dice: &mut Rng) {
        let log = files::log(&self.disk, &format!("{ROOT}/commitlog"));
        let files = self.log_files();
        let Some((base, path)) = files.iter().rev().find(|f| f.0 <= log.end) else { return };
        let (at, size) = ((log.end - base) as usize, self.disk.peek(path).map_or(0, |b| b.len()));
        if at + 8 > size {
            return;
        }
        let left = (size - at) as u32;
        let sizes = [0x7fff_ffff, 0x8000_0000, u32::MAX, 0, 8, 91, left + 1, 1 << 26];
        let magic = *dice.pick(&[MAGIC, MAGIC, MAGIC, BLANK_MAGIC, 0, 0x1234_5678]);
        let length = *dice.pick(&sizes);
        let head = (u64::from(length) << 32 | u64::from(magic)).to_be_bytes();
        self.disk.deface(path, at, &head);
        mark("damage: garbage where the log ends (W-08)");
        self.tell(format_args!("size {length:#x} and magic {magic:#x} at {}", log.end));
    }

    // ---- derived files ----

    fn derived(&self, kind: FaultKind, dice: &mut Rng) {
        match kind {
            FaultKind::AbortGone => self.lose_abort(),
            FaultKind::QueuesGone => {
                self.disk.erase_tree(&format!("{ROOT}/consumequeue"));
                mark("damage: all queue files are gone (W-29)");
            }
            FaultKind::QueuesUneven => {
                for files in self.queues().values() {
                    if dice.chance(0.7) {
                        self.cut(files, dice);
                    }
                }
                mark("damage: queues of different progress (W-26)");
                self.lose_abort();
            }
            _ => self.one_queue(kind, dice),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.disk.peek(&format!("{ROOT}/{name}")).is_some()
    }

    fn lose_abort(&self) {
        if !self.has("hotfire/running") {
            return;
        }
        self.disk.erase_tree(&format!("{ROOT}/abort"));
        mark("damage: abort is lost (W-13)");
    }

    fn queues(&self) -> BTreeMap<String, Vec<QueueFile>> {
        let mut queues: BTreeMap<String, Vec<QueueFile>> = BTreeMap::new();
        let below = format!("{ROOT}/consumequeue/");
        for path in self.disk.files() {
            let Some((dir, name)) = path.rsplit_once('/') else { continue };
            let (true, Ok(base)) = (dir.starts_with(&below), name.parse()) else { continue };
            let bytes = self.disk.peek(&path).unwrap_or_default();
            let dir = dir.to_owned();
            queues.entry(dir).or_default().push(QueueFile { path, base, bytes });
        }
        queues
    }

    fn one_queue(&self, kind: FaultKind, dice: &mut Rng) {
        let queues: Vec<(String, Vec<QueueFile>)> = self.queues().into_iter().collect();
        if queues.is_empty() {
            return;
        }
        let (dir, files) = dice.pick(&queues);
        self.tell(format_args!("{kind:?} in {dir}"));
        match kind {
            FaultKind::QueuePages => {
                for file in &files[files.len().saturating_sub(4)..] {
                    // Files are small here, and so is what counts as a page.
                    let pages = (file.used() * ENTRY).div_ceil(SECTOR).max(1) as u64;
                    let from = dice.below(pages) as usize * SECTOR;
                    // An entry that a border cuts is lost whole: nobody could see a lost half.
                    let (first, last) = (from / ENTRY, (from + SECTOR).div_ceil(ENTRY));
                    let zeros = vec![0; (last - first) * ENTRY];
                    self.disk.deface(&file.path, first * ENTRY, &zeros);
                }
                mark("damage: a zeroed page in each of a queue's last files (W-23)");
            }
            FaultKind::QueueTail => {
                self.cut(files, dice);
                mark("damage: the tail of one queue is lost (W-24)");
            }
            FaultKind::QueueBlank => {
                let (last, before) = files.split_last().expect("a queue has a file");
                before.iter().for_each(|file| self.disk.erase_tree(&file.path));
                let blanks = last.used().max(1);
                self.disk.deface(&last.path, 0, &vec![0; last.bytes.len()]);
                self.disk.deface(&last.path, 0, &BLANK.repeat(blanks));
                mark("damage: a queue of blank entries only (W-27)");
            }
            FaultKind::QueueZero if dice.chance(0.3) => {
                let size = files[0].bytes.len();
                let ghost = dir.rsplit_once('/').map_or("", |(topic, _)| topic);
                self.disk.plant(&format!("{ghost}/9/{:020}", 0), &vec![0; size]);
                mark("damage: a queue that never was, all zeros (W-28)");
            }
            _ => {
                let last = files.last().expect("a queue has a file");
                self.disk.deface(&last.path, 0, &vec![0; last.bytes.len()]);
                mark("damage: a queue's last file is zeros (W-28)");
            }
        }
    }

    /// Entries from some place on are zeros, and files past it are gone.
    fn cut(&self, files: &[QueueFile], dice: &mut Rng) {
        let Some(last) = files.last() else { return };
        let end = last.base as usize / ENTRY + last.used();
        let from = files[0].base as usize / ENTRY;
        let keep = from + dice.below((end - from) as u64 + 1) as usize;
        for file in files {
            let first = file.base as usize / ENTRY;
            if first >= keep && first > from {
                self.disk.erase_tree(&file.path);
                continue;
            }
            let at = keep.saturating_sub(first) * ENTRY;
            if at < file.bytes.len() {
                self.disk.deface(&file.path, at, &vec![0; file.bytes.len() - at]);
            }
        }
        self.tell(format_args!("{} keeps {} of {end} entries", last.path, keep));
    }
}

/// The parts of a record in which a flipped bit can be noticed: name, place, size. Queue, flag,
/// queue offset, times, hosts, topic and properties have no checksum in the format.
fn fields(record: &Record, bytes: &[u8]) -> Vec<(&'static str, usize, usize)> {
    let flags = u32::from_be_bytes([bytes[36], bytes[37], bytes[38], bytes[39]]);
    let extra = |bit: u32| if flags & bit == 0 { 0 } else { 12 };
    let body_length = 84 + extra(0x10) + extra(0x20);
    let body = body_length + 4;
    let topic_length = body + record.body.len();
    let properties_length = topic_length + 1 + record.topic.len();
    let mut fields = vec![
        ("size", 0, 4),
        ("magic", 4, 4),
        ("body CRC", 8, 4),
        ("physical offset", 28, 8),
        ("body length", body_length, 4),
        ("topic length", topic_length, 1),
        ("properties length", properties_length, 2),
    ];
    if !record.body.is_empty() {
        fields.push(("body", body, record.body.len()));
    }
    fields
}
