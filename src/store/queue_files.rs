//! Where the entries of a queue lie: paths, and how a run of entries falls into files.
//!
//! Source: ConsumeQueue#putMessagePositionInfo, #fillPreBlank (4.9.3).

use super::options::Options;
use super::segment;
use crate::format::consume_queue_unit::{QueueUnit, SIZE};
use crate::model::QueueKey;
use std::ops::Range;

/// A part of a run within one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The file's name. Units: bytes of the queue before the file.
    pub base: u64,
    /// Where in the file the part begins. Units: bytes.
    pub at: u64,
    /// Which entries of the run it holds.
    pub entries: Range<usize>,
}

/// Units: bytes of one file.
pub fn file_size(options: &Options) -> u64 {
    options.queue_file_entries * SIZE as u64
}

/// `<root>/consumequeue/<topic>/<queue>`.
pub fn dir(options: &Options, key: &QueueKey) -> String {
    format!("{}/{}", topic_dir(options, &key.topic), key.queue)
}
pub fn topic_dir(options: &Options, topic: &str) -> String {
    format!("{}/{topic}", options.consume_queue_dir())
}
pub fn path(options: &Options, key: &QueueKey, base: u64) -> String {
    format!("{}/{}", dir(options, key), segment::name(base))
}

/// The file that holds entry `offset`, and where in it. Units: bytes.
pub fn place(options: &Options, offset: u64) -> (u64, u64) {
    let (size, at) = (file_size(options), offset * SIZE as u64);
    (at - at % size, at % size)
}

/// `count` entries from offset `from` on, file by file.
pub fn parts(options: &Options, from: u64, count: usize) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut done = 0;
    while done < count {
        let (base, at) = place(options, from + done as u64);
        let room = ((file_size(options) - at) / SIZE as u64) as usize;
        let more = room.min(count - done);
        parts.push(Part { base, at, entries: done..done + more });
        done += more;
    }
    parts
}

/// The entry of the run that is the last of its file. Such a file gets the time at which that
/// entry's message was stored: Java's search by time goes to the first file that is not older than
/// the time it looks for. Source: MappedFileQueue#getMappedFileByTime (4.9.3).
pub fn fills(options: &Options, part: &Part) -> Option<usize> {
    let end = part.at + (part.entries.len() * SIZE) as u64;
    (end == file_size(options)).then(|| part.entries.end - 1)
}

pub fn encode(units: &[QueueUnit]) -> Vec<u8> {
    let mut out = Vec::with_capacity(units.len() * SIZE);
    for unit in units {
        let unit = if unit.is_blank() { &QueueUnit::BLANK } else { unit };
        out.extend_from_slice(&unit.encode());
    }
    out
}

/// Entries of a file; one that cannot be read counts as empty.
pub fn decode(bytes: &[u8]) -> Vec<QueueUnit> {
    const EMPTY: QueueUnit =
        QueueUnit { physical_offset: crate::model::PhysicalOffset(0), size: 0, tags_code: 0 };
    bytes.chunks_exact(SIZE).map(|entry| QueueUnit::decode(entry).unwrap_or(EMPTY)).collect()
}

/// What stands before the first entry of a queue that does not begin at the start of a file.
pub fn blanks(size: u64) -> Vec<u8> {
    QueueUnit::BLANK.encode().repeat(size as usize / SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_cut_at_the_ends_of_files() {
        let options = Options { queue_file_entries: 10, ..Options::new("x") };
        let cut = parts(&options, 8, 13);
        let expected = [
            Part { base: 0, at: 160, entries: 0..2 },
            Part { base: 200, at: 0, entries: 2..12 },
            Part { base: 400, at: 0, entries: 12..13 },
        ];
        assert_eq!(cut, expected);
        assert!(parts(&options, 8, 0).is_empty());
    }
}
