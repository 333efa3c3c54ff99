//! When which sealed segment is read again, how fast, and what rot was found.
//!
//! A segment without checksums is read once to make them; after that each is read again and
//! compared once per `interval`, oldest first. Reading is paced by bytes per second.

use crate::format::checksum::BLOCK_SIZE;
use crate::model::WallMillis;
use crate::rt::time::{Duration, Mono};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// What is kept of one place of rot: the first records. Units: records.
pub const RECORDS_MAX: usize = 32;
/// Places kept; more are only counted.
const ROT_MAX: usize = 10_000;

/// What to do with a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// Walk its records and write its checksums.
    Make(u64),
    /// Compare it with its checksums.
    Compare(u64),
}

/// A record that lies in a rotten place, as far as it can still be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RottenRecord {
    pub physical: u64,
    pub size: u64,
    pub topic: String,
    pub queue: u32,
    pub queue_offset: u64,
}

/// Rot in one commit log file: bytes that are not what they were, or not what they must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundRot {
    /// The commit log file.
    pub path: String,
    /// Where the file begins in the log.
    pub base: u64,
    /// Units: bytes of the file, from and to.
    pub from: u64,
    pub to: u64,
    pub what: String,
    /// The first of the records that touch the place and can still be read; not those whose own
    /// size or magic is gone.
    pub records: Vec<RottenRecord>,
    /// Epoch milliseconds.
    pub found_ms: i64,
}

impl FoundRot {
    /// Units: blocks of the file that the place touches.
    pub fn blocks(&self) -> Range<u64> {
        let size = BLOCK_SIZE as u64;
        self.from / size..self.to.div_ceil(size)
    }
}

impl fmt::Display for FoundRot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FoundRot { path, from, to, what, .. } = self;
        let (first, last) = (self.blocks().start, self.blocks().end - 1);
        write!(f, "{path}: bytes {from} to {to} (block {first}")?;
        if last > first {
            write!(f, " to {last}")?;
        }
        write!(f, "): {what}")?;
        for (n, r) in self.records.iter().take(4).enumerate() {
            let before = if n == 0 { "; touches" } else { "," };
            let RottenRecord { topic, queue, queue_offset, physical, .. } = r;
            write!(f, "{before} {topic} queue {queue} offset {queue_offset} at {physical}")?;
        }
        if self.records.len() > 4 {
            write!(f, " and {} more", self.records.len() - 4)?;
        }
        Ok(())
    }
}

/// `hotfire/rot`: what was found, and how far the pass is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Ledger {
    /// When the pass that runs or the last one began. Epoch milliseconds.
    pub pass_began_ms: i64,
    /// Where the pass goes on; everything below was compared in it.
    pub pass_next: u64,
    pub rot: Vec<FoundRot>,
    /// Places that found no room in `rot`.
    pub more: u64,
}

impl Default for Ledger {
    /// No pass was ever made: one is due.
    fn default() -> Self {
        Ledger { pass_began_ms: 0, pass_next: u64::MAX, rot: Vec::new(), more: 0 }
    }
}

impl Ledger {
    /// Adds a place. False when it is known already.
    pub fn add(&mut self, found: FoundRot) -> bool {
        let known =
            |old: &FoundRot| old.base == found.base && old.from <= found.from && found.to <= old.to;
        if self.rot.iter().any(known) {
            return false;
        }
        if self.rot.len() >= ROT_MAX {
            self.more += 1;
        } else {
            self.rot.push(found);
        }
        true
    }

    /// The log begins at `first` now.
    fn forget_below(&mut self, first: u64) {
        self.rot.retain(|found| found.base >= first);
    }
}

/// The plan. Knows no files: what happened is told to it.
pub struct Scrub {
    /// Units: bytes per second; 0 is off.
    rate: u64,
    interval: Duration,
    pub ledger: Ledger,
    /// Sealed segments, and whether they have checksums.
    segments: BTreeMap<u64, bool>,
    looked: bool,
    /// Segments that could not be read or whose checksums could not be written: not before then.
    put_off: BTreeMap<u64, Mono>,
    /// The next byte may be read then.
    next_read: Mono,
}

impl Scrub {
    pub fn new(rate: u64, interval: Duration, ledger: Ledger, now: Mono) -> Self {
        let (segments, put_off) = (BTreeMap::new(), BTreeMap::new());
        Scrub { rate, interval, ledger, segments, looked: false, put_off, next_read: now }
    }

    /// Which segments are sealed: those that begin in `sealed` and are `size` bytes apart. Those
    /// of the first call may have checksums: whoever compares them learns it.
    pub fn on_segments(&mut self, sealed: Range<u64>, size: u64) {
        self.segments.retain(|base, _| sealed.contains(base));
        self.put_off.retain(|base, _| sealed.contains(base));
        self.ledger.forget_below(sealed.start);
        let known = self.segments.last_key_value().map_or(sealed.start, |(base, _)| base + size);
        for base in (known..sealed.end).step_by(size as usize) {
            self.segments.insert(base, !self.looked);
        }
        self.looked = true;
    }

    /// What to do now.
    pub fn next(&mut self, now: Mono, wall: WallMillis) -> Option<Job> {
        if self.rate == 0 || now < self.next_read {
            return None;
        }
        self.put_off.retain(|_, until| *until > now);
        let ready = |base: &u64| !self.put_off.contains_key(base);
        let missing = self.segments.iter().find(|(base, has)| !**has && ready(base));
        if let Some((base, _)) = missing {
            return Some(Job::Make(*base));
        }
        self.begin_pass(wall);
        let from = self.ledger.pass_next;
        let is_next = |(base, has): &(&u64, &bool)| **has && !self.put_off.contains_key(base);
        let next = self.segments.range(from..).find(is_next);
        next.map(|(base, _)| Job::Compare(*base))
    }

    /// A pass is due one interval after the last began. A clock that went back makes it later, by
    /// one interval at most.
    fn begin_pass(&mut self, wall: WallMillis) {
        let ledger = &mut self.ledger;
        if ledger.pass_began_ms > wall.0 {
            ledger.pass_began_ms = wall.0;
        }
        let interval = i64::try_from(self.interval.as_millis()).unwrap_or(i64::MAX);
        let is_over = self.segments.range(ledger.pass_next..).next().is_none();
        if is_over && wall.0.saturating_sub(ledger.pass_began_ms) >= interval {
            ledger.pass_began_ms = wall.0;
            ledger.pass_next = 0;
        }
    }

    /// So many bytes are about to be read: when the next may be.
    pub fn on_read(&mut self, now: Mono, bytes: usize) -> Mono {
        let pause = bytes as u128 * 1_000_000_000 / u128::from(self.rate.max(1));
        let pause = Duration::from_nanos(u64::try_from(pause).unwrap_or(u64::MAX));
        self.next_read = self.next_read.max(now) + pause;
        self.next_read
    }

    /// The segment has checksums now, made of what was just read.
    pub fn on_made(&mut self, base: u64) {
        self.segments.entry(base).and_modify(|has| *has = true);
        // It was just read: the pass that came this far need not read it again.
        let from = self.ledger.pass_next.min(base);
        if self.segments.range(from..base).next().is_none() {
            self.ledger.pass_next = self.ledger.pass_next.max(base + 1);
        }
    }

    /// The segment was compared.
    pub fn on_compared(&mut self, base: u64) {
        self.ledger.pass_next = base + 1;
    }

    /// The segment's checksums are gone, or say nothing about what it is now.
    pub fn on_no_checksums(&mut self, base: u64) {
        self.segments.entry(base).and_modify(|has| *has = false);
    }

    /// The segment could not be done.
    pub fn on_failed(&mut self, base: u64, until: Mono) {
        self.put_off.insert(base, until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn scrub(rate: u64) -> Scrub {
        Scrub::new(rate, DAY, Ledger::default(), Mono(0))
    }
    fn wall(days: i64) -> WallMillis {
        WallMillis(days * 86_400_000)
    }
    fn rot(from: u64, to: u64) -> FoundRot {
        let (path, what, records) = ("f".to_owned(), "x".to_owned(), Vec::new());
        FoundRot { path, base: 100, from, to, what, records, found_ms: 0 }
    }

    #[test]
    fn what_has_no_checksums_comes_first_then_one_pass_per_interval() {
        let mut scrub = scrub(1 << 20);
        scrub.on_segments(0..300, 100);
        assert_eq!(scrub.next(Mono(0), wall(10)), Some(Job::Compare(0)));
        scrub.on_no_checksums(0);
        assert_eq!(scrub.next(Mono(0), wall(10)), Some(Job::Make(0)));
        scrub.on_made(0);
        for base in [100, 200] {
            assert_eq!(scrub.next(Mono(0), wall(10)), Some(Job::Compare(base)));
            scrub.on_compared(base);
        }
        assert_eq!(scrub.next(Mono(0), wall(10)), None);
        scrub.on_segments(0..400, 100);
        assert_eq!(scrub.next(Mono(0), wall(10)), Some(Job::Make(300)));
        scrub.on_made(300);
        assert_eq!(scrub.next(Mono(0), WallMillis(wall(11).0 - 1)), None);
        assert_eq!(scrub.next(Mono(0), wall(11)), Some(Job::Compare(0)));
    }

    #[test]
    fn checksums_made_again_of_a_segment_behind_the_pass_change_nothing() {
        let mut scrub = scrub(1 << 20);
        scrub.on_segments(0..300, 100);
        scrub.on_compared(100);
        scrub.on_made(0);
        assert_eq!(scrub.next(Mono(0), wall(10)), Some(Job::Compare(200)));
    }

    #[test]
    fn a_segment_that_left_is_neither_read_nor_remembered() {
        let mut scrub = scrub(1 << 20);
        scrub.on_segments(0..300, 100);
        assert!(scrub.ledger.add(rot(0, 10)));
        scrub.on_segments(200..300, 100);
        assert_eq!(scrub.next(Mono(0), wall(1)), Some(Job::Compare(200)));
        assert!(scrub.ledger.rot.is_empty());
    }

    #[test]
    fn a_segment_that_failed_waits_and_keeps_its_turn_in_the_pass() {
        let mut scrub = scrub(1 << 20);
        scrub.on_segments(0..200, 100);
        scrub.on_no_checksums(0);
        scrub.on_failed(0, Mono(50));
        assert_eq!(scrub.next(Mono(0), wall(10)), Some(Job::Compare(100)));
        scrub.on_compared(100);
        assert_eq!(scrub.next(Mono(0), wall(10)), None);
        assert_eq!(scrub.next(Mono(50), wall(10)), Some(Job::Make(0)));
    }

    #[test]
    fn reading_is_paced_and_zero_is_off() {
        let mut paced = scrub(1000);
        paced.on_segments(0..100, 100);
        assert_eq!(paced.on_read(Mono(0), 500), Mono(500_000_000));
        assert_eq!(paced.on_read(Mono(0), 500), Mono(1_000_000_000));
        assert_eq!(paced.next(Mono(999_999_999), wall(5)), None);
        assert!(paced.next(Mono(1_000_000_000), wall(5)).is_some());
        let mut off = scrub(0);
        off.on_segments(0..100, 100);
        assert_eq!(off.next(Mono(5), wall(9)), None);
    }

    #[test]
    fn a_clock_that_went_back_costs_one_interval_at_most() {
        let mut scrub = scrub(1000);
        scrub.on_segments(0..100, 100);
        assert_eq!(scrub.next(Mono(0), wall(100)), Some(Job::Compare(0)));
        scrub.on_compared(0);
        assert_eq!(scrub.next(Mono(0), wall(50)), None);
        assert_eq!(scrub.next(Mono(0), wall(51)), Some(Job::Compare(0)));
    }

    #[test]
    fn a_known_place_is_told_once() {
        let mut ledger = Ledger::default();
        assert!(ledger.add(rot(0, 65536)));
        assert!(!ledger.add(rot(0, 65536)));
        assert!(ledger.add(rot(65536, 131_072)));
        let text = ledger.rot[1].to_string();
        assert_eq!(text, "f: bytes 65536 to 131072 (block 1): x");
        let json = serde_json::to_string(&ledger).expect("plain data");
        assert_eq!(serde_json::from_str::<Ledger>(&json).expect("read"), ledger);
    }
}
