//! Two small files in `hotfire/`: where every queue ended when the log ended at some offset, and
//! where topics were deleted.
//!
//! `queues` lets recovery begin at its offset instead of at the log's start; `topic_floors` keeps
//! recovery from bringing deleted messages back (W-29). Both end in a CRC-32 of all bytes before;
//! losing them costs a scan of the whole log, and a deleted topic's records.

use crate::model::{QueueId, QueueKey, TopicName};
use std::collections::BTreeMap;

const QUEUES_MAGIC: &[u8; 8] = b"HFQUEUES";
const TOPICS_MAGIC: &[u8; 8] = b"HFTOPICS";
const VERSION: u32 = 1;

/// Longest `queues` file that is read: a limit against nonsense. Units: bytes.
pub const SIZE_MAX: u64 = 256 << 20;

/// `physical` of a queue that never had an entry.
pub const NO_ENTRY: u64 = u64::MAX;

/// One queue as it was when the log ended at `Snapshot::at`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub key: QueueKey,
    pub min: u64,
    pub end: u64,
    /// Where the record of entry `end - 1` lies; `NO_ENTRY` when there is none.
    pub last_physical: u64,
}

/// All entries of records below `at` are on disk, and these are the queues' ends there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub at: u64,
    /// The last record below `at`, and the CRC-32 of its bytes; equal to `at` and 0 without one.
    pub last_at: u64,
    pub last_crc: u32,
    /// The oldest byte of the log at that time: the rows' `min` follows from it.
    pub log_min: u64,
    pub rows: Vec<Row>,
}

impl Snapshot {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = start(QUEUES_MAGIC);
        put_u64(&mut out, self.at);
        put_u64(&mut out, self.last_at);
        out.extend_from_slice(&self.last_crc.to_be_bytes());
        put_u64(&mut out, self.log_min);
        put_u64(&mut out, self.rows.len() as u64);
        for row in &self.rows {
            put_text(&mut out, &row.key.topic);
            out.extend_from_slice(&row.key.queue.0.to_be_bytes());
            put_u64(&mut out, row.min);
            put_u64(&mut out, row.end);
            put_u64(&mut out, row.last_physical);
        }
        finish(out)
    }

    /// `None` for anything but what `encode` wrote.
    pub fn decode(bytes: &[u8]) -> Option<Snapshot> {
        let mut cut = Cut::new(bytes, QUEUES_MAGIC)?;
        let (at, last_at, last_crc) = (cut.u64()?, cut.u64()?, cut.u32()?);
        let (log_min, count) = (cut.u64()?, cut.u64()?);
        let mut rows = Vec::new();
        for _ in 0..count {
            let topic = TopicName::new(cut.text()?);
            let key = QueueKey { topic, queue: QueueId(cut.u32()?) };
            let (min, end, last_physical) = (cut.u64()?, cut.u64()?, cut.u64()?);
            rows.push(Row { key, min, end, last_physical });
        }
        cut.is_done().then_some(Snapshot { at, last_at, last_crc, log_min, rows })
    }
}

/// Records of a topic below its floor were deleted with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicFloors(pub BTreeMap<TopicName, u64>);

impl TopicFloors {
    pub fn of(&self, topic: &str) -> u64 {
        self.0.get(topic).copied().unwrap_or(0)
    }

    /// A power loss may have taken the records that a topic was deleted after: what is written in
    /// their place is new. True when a floor moved.
    pub fn cut_back_to(&mut self, end: u64) -> bool {
        let past = self.0.values_mut().filter(|at| **at > end);
        past.map(|at| *at = end).count() > 0
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = start(TOPICS_MAGIC);
        put_u64(&mut out, self.0.len() as u64);
        for (topic, at) in &self.0 {
            put_text(&mut out, topic);
            put_u64(&mut out, *at);
        }
        finish(out)
    }

    pub fn decode(bytes: &[u8]) -> Option<TopicFloors> {
        let mut cut = Cut::new(bytes, TOPICS_MAGIC)?;
        let mut floors = BTreeMap::new();
        for _ in 0..cut.u64()? {
            floors.insert(TopicName::new(cut.text()?), cut.u64()?);
        }
        cut.is_done().then_some(TopicFloors(floors))
    }
}

pub(super) fn start(magic: &[u8; 8]) -> Vec<u8> {
    let mut out = magic.to_vec();
    out.extend_from_slice(&VERSION.to_be_bytes());
    out
}
pub(super) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_be_bytes());
}
fn put_text(out: &mut Vec<u8>, text: &str) {
    let size = u16::try_from(text.len()).expect("a topic has at most 127 bytes");
    out.extend_from_slice(&size.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}
pub(super) fn finish(mut out: Vec<u8>) -> Vec<u8> {
    let crc = crc32fast::hash(&out);
    out.extend_from_slice(&crc.to_be_bytes());
    out
}

/// Takes fields from the front; `None` past the end.
pub(super) struct Cut<'a>(&'a [u8]);

impl<'a> Cut<'a> {
    pub(super) fn new(bytes: &'a [u8], magic: &[u8; 8]) -> Option<Self> {
        let (content, crc) = bytes.split_last_chunk::<4>()?;
        if crc32fast::hash(content) != u32::from_be_bytes(*crc) {
            return None;
        }
        let mut cut = Cut(content.strip_prefix(magic)?);
        (cut.u32()? == VERSION).then_some(cut)
    }
    pub(super) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }
    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }
    pub(super) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }
    fn text(&mut self) -> Option<&'a str> {
        let size = usize::from(self.take().map(u16::from_be_bytes)?);
        let (text, rest) = self.0.split_at_checked(size)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }
    pub(super) fn is_done(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_files_round_trip_and_any_change_is_noticed() {
        let row = |topic, queue| Row {
            key: QueueKey { topic: TopicName::new(topic), queue: QueueId(queue) },
            min: 1,
            end: 9,
            last_physical: NO_ENTRY,
        };
        let rows = vec![row("A", 0), row("%RETRY%g", 7)];
        let snapshot = Snapshot { at: 100, last_at: 50, last_crc: 3, log_min: 2, rows };
        let bytes = snapshot.encode();
        assert_eq!(Snapshot::decode(&bytes), Some(snapshot));
        let floors = TopicFloors([(TopicName::new("A"), 5)].into());
        assert_eq!(TopicFloors::decode(&floors.encode()), Some(floors));
        assert_eq!(TopicFloors::decode(&bytes), None);
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert_eq!(Snapshot::decode(&other), None);
            assert_eq!(Snapshot::decode(&bytes[..at]), None);
        }
    }
}
