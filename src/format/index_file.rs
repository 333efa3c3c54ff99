//! Index files: which records carry a key.
//!
//! A header, slots, entries. A slot holds the number of the newest entry of its chain; an entry
//! names the one before it. Entry 0 is never used. Source: IndexFile, IndexHeader, IndexService
//! (4.9.3). Layout: docs/formats/index_file.md.

use super::{bytes_at, properties};
use crate::model::{PhysicalOffset, WallMillis};

/// Units: bytes.
pub const HEADER_SIZE: usize = 40;
pub const SLOT_SIZE: usize = 4;
pub const ENTRY_SIZE: usize = 20;

/// How many slots and entries a file has: `maxHashSlotNum` and `maxIndexNum`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub slots: u32,
    pub entries: u32,
}

impl Shape {
    /// Units: bytes of a file.
    pub fn file_size(&self) -> u64 {
        self.entry_at(self.entries)
    }
    /// Units: bytes from the file's start.
    pub fn slot_at(&self, slot: u32) -> u64 {
        HEADER_SIZE as u64 + u64::from(slot) * SLOT_SIZE as u64
    }
    /// Units: bytes from the file's start.
    pub fn entry_at(&self, number: u32) -> u64 {
        self.slot_at(self.slots) + u64::from(number) * ENTRY_SIZE as u64
    }
    /// The slot of a key's hash.
    pub fn slot_of(&self, hash: u32) -> u32 {
        hash % self.slots
    }
}

/// What a file says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Store time of the first entry; before there is one, what the file before ended with.
    pub begin_timestamp: WallMillis,
    /// Store time of the last entry.
    pub end_timestamp: WallMillis,
    pub begin_physical: PhysicalOffset,
    /// Where the record of the last entry begins.
    pub end_physical: PhysicalOffset,
    pub slots_used: u32,
    /// The number that the next entry gets; 1 in an empty file.
    pub count: u32,
}

impl Header {
    /// Of the first file, empty.
    pub const FIRST: Header = Header {
        begin_timestamp: WallMillis(0),
        end_timestamp: WallMillis(0),
        begin_physical: PhysicalOffset(0),
        end_physical: PhysicalOffset(0),
        slots_used: 0,
        count: 1,
    };

    /// Of a new file that follows one that ends with `self`. Source: IndexFile#IndexFile.
    pub fn next_file(&self) -> Header {
        Header {
            begin_timestamp: self.end_timestamp,
            begin_physical: self.end_physical,
            slots_used: 0,
            count: 1,
            ..*self
        }
    }

    pub fn is_empty(&self) -> bool {
        self.count <= 1
    }

    pub fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut out = [0; HEADER_SIZE];
        out[..8].copy_from_slice(&self.begin_timestamp.0.to_be_bytes());
        out[8..16].copy_from_slice(&self.end_timestamp.0.to_be_bytes());
        out[16..24].copy_from_slice(&self.begin_physical.0.to_be_bytes());
        out[24..32].copy_from_slice(&self.end_physical.0.to_be_bytes());
        out[32..36].copy_from_slice(&self.slots_used.to_be_bytes());
        out[36..].copy_from_slice(&self.count.to_be_bytes());
        out
    }

    /// `None` for fewer than 40 bytes or numbers that no file has. A count of 0, which a file has
    /// until its first entry, is read as 1. Source: IndexHeader#load.
    pub fn decode(bytes: &[u8], shape: &Shape) -> Option<Header> {
        let offset = |at| bytes_at::i64(bytes, at).and_then(|v| u64::try_from(v).ok());
        let header = Header {
            begin_timestamp: WallMillis(bytes_at::i64(bytes, 0)?),
            end_timestamp: WallMillis(bytes_at::i64(bytes, 8)?),
            begin_physical: PhysicalOffset(offset(16)?),
            end_physical: PhysicalOffset(offset(24)?),
            slots_used: bytes_at::u32(bytes, 32)?,
            count: bytes_at::u32(bytes, 36)?.max(1),
        };
        let fits = header.count <= shape.entries
            && header.slots_used < header.count
            && header.slots_used <= shape.slots
            && header.begin_physical <= header.end_physical;
        fits.then_some(header)
    }

    /// The time field of an entry. Units: whole seconds since the file's first entry, not below 0.
    /// Source: IndexFile#putKey.
    pub fn seconds_of(&self, stored: WallMillis) -> i32 {
        if self.begin_timestamp.0 <= 0 {
            return 0;
        }
        let seconds = stored.0.wrapping_sub(self.begin_timestamp.0) / 1000;
        i32::try_from(seconds.max(0)).unwrap_or(i32::MAX)
    }

    /// Counts an entry. `is_first_of_slot`: its slot was empty. Source: IndexFile#putKey.
    pub fn on_entry(&mut self, at: PhysicalOffset, stored: WallMillis, is_first_of_slot: bool) {
        if self.is_empty() {
            (self.begin_physical, self.begin_timestamp) = (at, stored);
        }
        self.slots_used += u32::from(is_first_of_slot);
        self.count += 1;
        (self.end_physical, self.end_timestamp) = (at, stored);
    }
}

/// One key of one record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexEntry {
    /// Of topic and key.
    pub hash: u32,
    pub physical: PhysicalOffset,
    /// Units: seconds since the file's first entry.
    pub seconds: i32,
    /// The entry before it in its chain; 0 for none.
    pub previous: u32,
}

impl IndexEntry {
    pub fn encode(&self) -> [u8; ENTRY_SIZE] {
        let mut out = [0; ENTRY_SIZE];
        out[..4].copy_from_slice(&self.hash.to_be_bytes());
        out[4..12].copy_from_slice(&self.physical.0.to_be_bytes());
        out[12..16].copy_from_slice(&self.seconds.to_be_bytes());
        out[16..].copy_from_slice(&self.previous.to_be_bytes());
        out
    }

    /// `None` for fewer than 20 bytes or numbers that no entry has.
    pub fn decode(bytes: &[u8]) -> Option<IndexEntry> {
        let not_negative = |at| bytes_at::i32(bytes, at).and_then(|v| u32::try_from(v).ok());
        let physical = u64::try_from(bytes_at::i64(bytes, 4)?).ok()?;
        let seconds = bytes_at::i32(bytes, 12).filter(|seconds| *seconds >= 0)?;
        Some(IndexEntry {
            hash: not_negative(0)?,
            physical: PhysicalOffset(physical),
            seconds,
            previous: not_negative(16)?,
        })
    }
}

/// Java's hash of `topic#`, from which the hash of each key of the topic goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicHash(i32);

impl TopicHash {
    pub fn new(topic: &str) -> Self {
        TopicHash(properties::java_hash_on(properties::java_hash(topic.as_bytes()), b"#"))
    }

    /// Never negative: the absolute value, and 0 for the one number that has none.
    /// Source: IndexFile#indexKeyHashMethod.
    pub fn key(self, key: &[u8]) -> u32 {
        let hash = properties::java_hash_on(self.0, key);
        if hash == i32::MIN { 0 } else { hash.unsigned_abs() }
    }
}

/// The keys in a record's KEYS. Source: IndexService#buildIndex (4.9.3).
pub fn tokens(keys: &[u8]) -> impl Iterator<Item = &[u8]> {
    keys.split(|byte| *byte == b' ').filter(|key| !key.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SHAPE: Shape = Shape { slots: 100, entries: 400 };

    fn hash(topic: &str, key: &str) -> u32 {
        TopicHash::new(topic).key(key.as_bytes())
    }

    #[test]
    fn hashes_are_those_of_the_reference() {
        assert_eq!((hash("TopicTest", "k1"), hash("TopicTest", "k2")), (2_746_024, 2_746_025));
        assert_eq!(SHAPE.slot_of(hash("TopicTest", "k1")), 24);
    }

    #[test]
    fn the_smallest_hash_becomes_zero_and_negative_ones_lose_their_sign() {
        // "polygenelubricants" is the well-known text whose hash is i32::MIN; a topic is
        // searched for whose texts end there too.
        assert_eq!(properties::java_hash(b"polygenelubricants"), i32::MIN);
        assert_eq!(TopicHash(0).key(b"polygenelubricants"), 0);
        assert_eq!(TopicHash(0).key(b"\xf0\x9f\x94\xa5"), {
            properties::java_hash("\u{1f525}".as_bytes()).unsigned_abs()
        });
        assert!(properties::java_hash(b"TopicTest#order-12") < 0 || hash("TopicTest", "a") > 0);
    }

    #[test]
    fn seconds_are_clamped_as_in_java() {
        let mut header = Header::FIRST;
        assert_eq!(header.seconds_of(WallMillis(5000)), 0);
        header.on_entry(PhysicalOffset(7), WallMillis(10_000), true);
        assert_eq!((header.begin_physical.0, header.end_physical.0), (7, 7));
        let seconds = |at| header.seconds_of(WallMillis(at));
        assert_eq!((seconds(9_000), seconds(11_999), seconds(12_000)), (0, 1, 2));
        assert_eq!(seconds(i64::MAX), i32::MAX);
        assert_eq!(seconds(i64::MIN), i32::MAX); // Java's subtraction wraps
        let next = header.next_file();
        assert_eq!(
            (next.begin_timestamp, next.begin_physical.0, next.count),
            (WallMillis(10_000), 7, 1)
        );
    }

    #[test]
    fn tokens_are_split_at_single_blanks() {
        let all: Vec<&[u8]> = tokens(b" a  b ").collect();
        assert_eq!(all, [b"a", b"b"]);
        assert_eq!(tokens(b"").count(), 0);
    }

    proptest! {
        #[test]
        fn headers_and_entries_round_trip(
            times: (i64, i64), begin in 0..1_u64 << 62, more in 0..1_u64 << 60,
            count in 1..=400_u32, used in 0..100_u32, entry: (i32, i64, i32, i32),
        ) {
            let header = Header {
                begin_timestamp: WallMillis(times.0),
                end_timestamp: WallMillis(times.1),
                begin_physical: PhysicalOffset(begin),
                end_physical: PhysicalOffset(begin + more),
                slots_used: used.min(count - 1),
                count,
            };
            prop_assert_eq!(Header::decode(&header.encode(), &SHAPE), Some(header));
            let mut bytes = Vec::new();
            bytes.extend_from_slice(&entry.0.to_be_bytes());
            bytes.extend_from_slice(&entry.1.to_be_bytes());
            bytes.extend_from_slice(&entry.2.to_be_bytes());
            bytes.extend_from_slice(&entry.3.to_be_bytes());
            let decoded = IndexEntry::decode(&bytes);
            let legal = entry.0 >= 0 && entry.1 >= 0 && entry.2 >= 0 && entry.3 >= 0;
            prop_assert_eq!(decoded.is_some(), legal);
            if let Some(entry) = decoded {
                prop_assert_eq!(&entry.encode()[..], &bytes[..]);
            }
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            if let Some(header) = Header::decode(&bytes, &SHAPE) {
                prop_assert!(header.count <= SHAPE.entries);
                let _ = (header.seconds_of(WallMillis(i64::MIN)), header.next_file());
            }
            let _ = IndexEntry::decode(&bytes);
        }

        #[test]
        fn a_topic_hash_goes_on_as_the_whole_text(topic in "\\PC{1,20}", key in "\\PC{0,40}") {
            let whole = properties::java_hash(format!("{topic}#{key}").as_bytes());
            let expected = if whole == i32::MIN { 0 } else { whole.unsigned_abs() };
            prop_assert_eq!(hash(&topic, &key), expected);
        }
    }
}
