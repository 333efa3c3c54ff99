//! The records of one sealed segment, from its bytes in order.
//!
//! Checks what the format can show: magic, sizes, physical offset, inner lengths, CRC of the body,
//! no NUL in topic and properties. After a bad place it goes on at the next good unit.

use crate::format::message_unit::{
    self, BLANK_MAGIC, BLANK_SIZE, DecodeError, FIXED_SIZE, MAGIC, Unit, View,
};
use crate::model::PhysicalOffset;
use std::ops::Range;

/// The size of a record cannot exceed that of its body by more: hosts of IPv6, the longest topic,
/// the longest properties. Units: bytes.
const AROUND_BODY_MAX: u64 = FIXED_SIZE as u64 + 24 + 127 + 32_767;

/// A bad place: no good unit begins in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadPlace {
    /// Units: offsets of the log.
    pub range: Range<u64>,
    pub what: String,
}

pub struct Walk {
    base: u64,
    size: u64,
    /// What was fed and not yet consumed; it begins at `at`.
    bytes: Vec<u8>,
    /// Units: an offset of the log.
    at: u64,
    /// The bad place that is being crossed.
    crossing: Option<BadPlace>,
    /// The blank record, or the segment's end, was reached.
    ended: bool,
}

impl Walk {
    pub fn new(base: u64, size: u64) -> Self {
        Walk { base, size, bytes: Vec::new(), at: base, crossing: None, ended: false }
    }

    fn end(&self) -> u64 {
        self.base + self.size
    }

    /// The next bytes of the segment. `on_record` is told of every record whose parts can be read,
    /// and whether its body is good; `bad` gets the bad places that ended.
    pub fn feed(
        &mut self,
        block: &[u8],
        bad: &mut Vec<BadPlace>,
        on_record: &mut dyn FnMut(&View<'_>, bool),
    ) {
        if self.ended {
            return;
        }
        let mut held = std::mem::take(&mut self.bytes);
        held.extend_from_slice(block);
        let mut used = 0;
        while let Some(size) = self.step(&held[used..], bad, on_record) {
            used += size;
            self.at += size as u64;
            if self.ended {
                return;
            }
        }
        held.drain(..used);
        self.bytes = held;
    }

    /// All bytes were fed.
    pub fn finish(mut self, bad: &mut Vec<BadPlace>) {
        if !self.ended && self.crossing.is_none() && self.at < self.end() {
            self.cross("the segment ends without a blank record".to_owned());
        }
        let end = self.end();
        self.settle(end, bad);
    }

    fn cross(&mut self, what: String) {
        let range = self.at..self.at;
        self.crossing.get_or_insert(BadPlace { range, what });
    }

    fn settle(&mut self, until: u64, bad: &mut Vec<BadPlace>) {
        if let Some(place) = self.crossing.take() {
            bad.push(BadPlace { range: place.range.start..until, ..place });
        }
    }

    /// Consumes one unit, or steps over bytes of a bad place; `None` when more bytes are needed.
    fn step(
        &mut self,
        bytes: &[u8],
        bad: &mut Vec<BadPlace>,
        on_record: &mut dyn FnMut(&View<'_>, bool),
    ) -> Option<usize> {
        if bytes.len() < BLANK_SIZE {
            return None;
        }
        if self.crossing.is_some() {
            let skip = next_magic(bytes);
            if skip > 0 {
                return Some(skip);
            }
        }
        let left = self.end() - self.at;
        let what = match message_unit::decode(bytes, PhysicalOffset(self.at), true) {
            Ok(Unit::Record(view)) => {
                self.settle(self.at, bad);
                on_record(&view, true);
                return Some(view.size());
            }
            Ok(Unit::Blank { size }) if u64::from(size) == left => {
                self.settle(self.at, bad);
                self.ended = true;
                return Some(BLANK_SIZE);
            }
            Ok(Unit::Blank { size }) => {
                format!("a blank record of {size} bytes where {left} are left")
            }
            Ok(Unit::End) => "nothing is written here".to_owned(),
            Err(DecodeError::Truncated { need, .. }) => self.cannot_be(bytes, need as u64)?,
            Err(error @ DecodeError::BodyCrc { .. }) => {
                self.cross(error.to_string());
                let unit = message_unit::decode(bytes, PhysicalOffset(self.at), false);
                let Ok(Unit::Record(view)) = unit else { return Some(1) };
                on_record(&view, false);
                return Some(view.size());
            }
            Err(error) => error.to_string(),
        };
        self.cross(what);
        Some(1)
    }

    /// Why the head of a record whose end is not here yet is wrong already, so that a broken size
    /// makes nobody hold the rest of the segment in memory.
    fn cannot_be(&self, bytes: &[u8], size: u64) -> Option<String> {
        let left = self.end() - self.at;
        if size > left {
            return Some(format!("the record has {size} bytes where {left} are left"));
        }
        let head = bytes.get(..FIXED_SIZE + 24)?;
        let field = |at: usize| head[at..].first_chunk::<4>().map_or(0, |b| u32::from_be_bytes(*b));
        let physical = (u64::from(field(28)) << 32) | u64::from(field(32));
        if physical != self.at {
            return Some(format!(
                "the record says it lies at {physical}, but it lies at {}",
                self.at
            ));
        }
        let flags = field(36);
        let hosts = [0x10, 0x20].map(|bit| if flags & bit != 0 { 12 } else { 0 });
        let body = u64::from(field(84 + hosts[0] + hosts[1]));
        let fits = body < size && size <= body + AROUND_BODY_MAX;
        (!fits).then(|| format!("the record has {size} bytes, its body {body}"))
    }
}

/// How far the next magic's unit begins from here; everything but the last bytes when there is
/// none.
fn next_magic(bytes: &[u8]) -> usize {
    let last = bytes.len() - BLANK_SIZE;
    let is_magic = |at: &usize| {
        let magic = bytes[at + 4..].first_chunk::<4>().map_or(0, |b| u32::from_be_bytes(*b));
        magic == MAGIC || magic == BLANK_MAGIC
    };
    (0..=last).find(is_magic).unwrap_or(last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::QueueOffset;
    use bytes::BytesMut;
    use proptest::prelude::*;

    /// A segment of records with these body sizes, blank at its end, and where each begins.
    fn segment(base: u64, bodies: &[usize]) -> (Vec<u8>, Vec<u64>) {
        let mut out = BytesMut::new();
        let mut places = Vec::new();
        for (n, size) in bodies.iter().enumerate() {
            places.push(base + out.len() as u64);
            let record = message_unit::Record {
                queue_offset: QueueOffset(n as u64),
                physical_offset: PhysicalOffset(base + out.len() as u64),
                body: &vec![n as u8 + 1; *size],
                properties: b"a\x01b",
                ..message_unit::Record::plain()
            };
            message_unit::encode(&record, &mut out);
        }
        message_unit::encode_blank(100, &mut out);
        out.resize(out.len() + 92, 0);
        (out.to_vec(), places)
    }

    fn walk(base: u64, bytes: &[u8], block: usize) -> (Vec<u64>, Vec<BadPlace>) {
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        let mut walk = Walk::new(base, bytes.len() as u64);
        for block in bytes.chunks(block) {
            walk.feed(block, &mut bad, &mut |view, is_good| {
                if is_good {
                    good.push(view.physical_offset().0);
                }
            });
        }
        walk.finish(&mut bad);
        (good, bad)
    }

    #[test]
    fn zeros_in_place_of_a_record_are_a_bad_place() {
        let (mut bytes, places) = segment(4096, &[300, 300, 300]);
        let (from, to) = ((places[1] - 4096) as usize, (places[2] - 4096) as usize);
        bytes[from..to].fill(0);
        let (good, bad) = walk(4096, &bytes, 64);
        assert_eq!(good, [places[0], places[2]]);
        assert_eq!(bad.len(), 1);
        assert_eq!(bad[0].range, places[1]..places[2]);
    }

    #[test]
    fn a_broken_size_is_found_without_holding_the_rest() {
        let (mut bytes, places) = segment(0, &[300, 300, 300]);
        bytes.resize(4 << 20, 0);
        let at = places[1] as usize;
        bytes[at..at + 4].copy_from_slice(&(3u32 << 20).to_be_bytes());
        let mut bad = Vec::new();
        let mut walk = Walk::new(0, bytes.len() as u64);
        for block in bytes.chunks(4096).take(3) {
            walk.feed(block, &mut bad, &mut |_, _| {});
            assert!(walk.bytes.len() < 8192);
        }
        assert_eq!(bad[0].range, places[1]..places[2]);
    }

    proptest! {
        #[test]
        fn good_records_are_all_seen_whatever_the_blocks(
            bodies in prop::collection::vec(0usize..900, 1..12),
            block in 1usize..2000,
            base in (0u64..9).prop_map(|n| n * 4096),
        ) {
            let (bytes, places) = segment(base, &bodies);
            prop_assert_eq!(walk(base, &bytes, block), (places, Vec::new()));
        }

        #[test]
        fn a_flip_in_a_body_spoils_exactly_that_record(
            bodies in prop::collection::vec(1usize..900, 1..12),
            block in 1usize..2000,
            nth: prop::sample::Index,
            within: prop::sample::Index,
        ) {
            let (mut bytes, mut places) = segment(0, &bodies);
            let nth = nth.index(bodies.len());
            bytes[places[nth] as usize + 88 + within.index(bodies[nth])] ^= 4;
            let (good, bad) = walk(0, &bytes, block);
            let next = places.get(nth + 1).copied().unwrap_or(bytes.len() as u64 - 100);
            let rotten = places.remove(nth);
            prop_assert_eq!(good, places);
            prop_assert_eq!(bad.len(), 1);
            prop_assert_eq!(bad[0].range.clone(), rotten..next);
        }

        #[test]
        fn any_bytes_are_walked_to_their_end(
            bytes in prop::collection::vec(any::<u8>(), 0..3000), block in 1usize..500,
        ) {
            walk(0, &bytes, block);
        }
    }
}
