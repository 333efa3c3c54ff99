//! Bits flip at rest in sealed segments: the scrub finds exactly those, and nothing is cut.

use super::StoreHouse;
use crate::disk::SimDisk;
use crate::oracle::court::ROOT;
use crate::oracle::files;
use hotfire::rt::rng::Rng;
use hotfire::rt::sim::mark;
use hotfire::rt::time::{Clock, Duration};
use std::collections::BTreeSet;

/// The dice of the rot are not those of the run.
const STREAM: u64 = 0x0707_5c4b;
/// As in docs/formats/checksum.md. Units: bytes.
const BLOCK: u64 = 65_536;

struct Segment {
    path: String,
    base: u64,
    bytes: Vec<u8>,
}

/// One bit of a segment.
struct Flip {
    segment: usize,
    at: usize,
    bit: u8,
}

impl StoreHouse {
    /// The machine is stopped, and stays so in the end.
    /// Errors: what the scrub or the next start did wrong.
    pub async fn rot(&self, machine: usize, budget: Duration) -> Result<(), String> {
        let world = self.0.court.world().clone();
        let disk = world.machines()[machine].disk.clone();
        let mut dice = Rng::from_seed(self.0.plan.seed ^ STREAM);
        let log = files::log(&disk, &format!("{ROOT}/commitlog"));
        let last = log.records.last().map_or(0, |record| record.physical);
        let sealed = sealed(&disk, last);
        if sealed.is_empty() {
            return Ok(());
        }
        *self.0.rotted.lock() = true;
        // Rot that comes before the checksums must be found by looking at records.
        let is_early = dice.chance(0.4);
        if is_early {
            disk.delete_tree(&format!("{ROOT}/hotfire/checksum"));
            disk.delete_tree(&format!("{ROOT}/hotfire/rot"));
        }
        let flips = draw(&mut dice, &sealed, &log.records, is_early);
        if is_early {
            flip(&disk, &sealed, &flips);
        }
        world.start(machine);
        self.open(budget).await?;
        if !is_early {
            self.checksums(&disk, &sealed, budget).await?;
            flip(&disk, &sealed, &flips);
        }
        self.found(&sealed, &flips, &log.records, budget).await?;
        mark(if is_early { "rot: found by its record" } else { "rot: found by its checksum" });

        // An unclean start that must read the rotten place keeps everything around it.
        world.crash(machine, dice.chance(0.5));
        *self.0.store.lock() = None;
        if dice.chance(0.7) {
            disk.delete_tree(&format!("{ROOT}/hotfire/queues"));
        }
        world.start(machine);
        self.open(budget).await?;
        let end = self.0.store.lock().as_ref().map_or(0, |store| store.stats().end.0);
        if end != log.end {
            return Err(format!("the log ended at {}, after rot and a crash at {end}", log.end));
        }
        untouched(&disk, &sealed, &flips)?;
        world.stop(machine, Duration::from_secs(10)).await;
        Ok(())
    }

    async fn open(&self, budget: Duration) -> Result<(), String> {
        let is_open = || self.0.store.lock().is_some();
        wait(budget, is_open).await.then_some(()).ok_or("the store does not open".to_owned())
    }

    async fn checksums(
        &self,
        disk: &SimDisk,
        sealed: &[Segment],
        budget: Duration,
    ) -> Result<(), String> {
        let dir = format!("{ROOT}/hotfire/checksum");
        let all = || sealed.iter().all(|s| disk.peek(&format!("{dir}/{:020}", s.base)).is_some());
        let made = wait(budget, all).await;
        made.then_some(()).ok_or("a sealed segment gets no checksums".to_owned())
    }

    /// The scrub has told of every flip, and of nothing else.
    async fn found(
        &self,
        sealed: &[Segment],
        flips: &[Flip],
        records: &[files::Record],
        budget: Duration,
    ) -> Result<(), String> {
        let block = |flip: &Flip| (sealed[flip.segment].base, flip.at as u64 / BLOCK);
        let expected: BTreeSet<(u64, u64)> = flips.iter().map(block).collect();
        // A bad record spoils every block that it touches.
        let mut allowed = expected.clone();
        for flip in flips {
            let base = sealed[flip.segment].base;
            let at = base + flip.at as u64;
            let holds =
                |r: &&files::Record| r.physical <= at && at < r.physical + u64::from(r.size);
            for record in records.iter().filter(holds) {
                let from = (record.physical - base) / BLOCK;
                let to = (record.physical + u64::from(record.size) - base).div_ceil(BLOCK);
                allowed.extend((from..to).map(|block| (base, block)));
            }
        }
        let told = || -> BTreeSet<(u64, u64)> {
            let rot = self.0.store.lock().as_ref().map(|store| store.rot()).unwrap_or_default();
            let blocks = |found: &hotfire::store::scrub::FoundRot| {
                let base = found.base;
                found.blocks().map(move |block| (base, block)).collect::<Vec<_>>()
            };
            rot.iter().flat_map(blocks).collect()
        };
        let complete = wait(budget, || told().is_superset(&expected)).await;
        let told = told();
        if let Some((base, block)) = told.difference(&allowed).next() {
            return Err(format!("the scrub tells of block {block} of {base}, which is good"));
        }
        if !complete {
            let missing: Vec<_> = expected.difference(&told).collect();
            return Err(format!("the scrub does not find rot in (segment, block) {missing:?}"));
        }
        Ok(())
    }
}

async fn wait(budget: Duration, holds: impl Fn() -> bool) -> bool {
    let clock = Clock::new();
    let deadline = clock.mono() + budget;
    while !holds() {
        if clock.mono() >= deadline {
            return false;
        }
        clock.sleep_until(clock.mono() + Duration::from_millis(20)).await;
    }
    true
}

/// Segments wholly below the log's last record.
fn sealed(disk: &SimDisk, last: u64) -> Vec<Segment> {
    let mut found = Vec::new();
    for path in disk.files() {
        let name = path.strip_prefix(&format!("{ROOT}/commitlog")).and_then(|p| p.split_once('/'));
        let Some(Ok(base)) = name.map(|(_, name)| name.parse::<u64>()) else { continue };
        let bytes = disk.peek(&path).unwrap_or_default();
        if base + bytes.len() as u64 <= last {
            found.push(Segment { path, base, bytes });
        }
    }
    found.sort_by_key(|segment| segment.base);
    found
}

/// A record's queue offset: when the queues are made anew from the log it is believed, up to a
/// million entries (W-09), and a queue of as many blank entries takes a run too long.
const QUEUE_OFFSET: std::ops::Range<u64> = 20..28;

/// Bits anywhere but in queue offsets, or only in the bodies of records.
fn draw(
    dice: &mut Rng,
    sealed: &[Segment],
    records: &[files::Record],
    in_bodies: bool,
) -> Vec<Flip> {
    let mut flips: Vec<Flip> = Vec::new();
    for _ in 0..dice.between(1, 3) {
        let segment = dice.below(sealed.len() as u64) as usize;
        let Segment { base, bytes, .. } = &sealed[segment];
        let end = base + bytes.len() as u64;
        let at = if in_bodies {
            let here =
                |r: &&files::Record| (*base..end).contains(&r.physical) && !r.body.is_empty();
            let here: Vec<&files::Record> = records.iter().filter(here).collect();
            if here.is_empty() {
                continue;
            }
            let record = here[dice.below(here.len() as u64) as usize];
            record.physical - base + 88 + dice.below(record.body.len() as u64)
        } else {
            dice.below(bytes.len() as u64)
        };
        let is_offset =
            |r: &files::Record| (base + at).checked_sub(r.physical).is_some_and(is_queue_offset);
        if records.iter().any(is_offset) {
            continue;
        }
        let at = at as usize;
        if !flips.iter().any(|old| (old.segment, old.at) == (segment, at)) {
            flips.push(Flip { segment, at, bit: dice.below(8) as u8 });
        }
    }
    flips
}

fn is_queue_offset(at: u64) -> bool {
    QUEUE_OFFSET.contains(&at)
}

fn flip(disk: &SimDisk, sealed: &[Segment], flips: &[Flip]) {
    for Flip { segment, at, bit } in flips {
        disk.rot(&sealed[*segment].path, *at, *bit);
    }
}

/// Nothing but the flips changed.
fn untouched(disk: &SimDisk, sealed: &[Segment], flips: &[Flip]) -> Result<(), String> {
    for (n, segment) in sealed.iter().enumerate() {
        let mut expected = segment.bytes.clone();
        for Flip { at, bit, .. } in flips.iter().filter(|flip| flip.segment == n) {
            expected[*at] ^= 1 << bit;
        }
        if disk.peek(&segment.path).as_deref() != Some(&expected[..]) {
            return Err(format!("{} was changed after it rotted", segment.path));
        }
    }
    Ok(())
}
