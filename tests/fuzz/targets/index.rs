//! Index files, queue entries, and our own small binary files.
#![no_main]

use hotfire::format::checkpoint::Checkpoint;
use hotfire::format::checksum::Checksums;
use hotfire::format::consume_queue_unit::{QueueUnit, SIZE};
use hotfire::format::floor::Floor;
use hotfire::format::index_file::{ENTRY_SIZE, Header, IndexEntry, Shape};

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotfire_fuzz::bounded(|| {
    let _ = Floor::decode(data);
    for size in [1, 65_536, 65_537, 200_000, 1 << 30] {
        let _ = Checksums::decode(data, 0, size);
    }
    if let Some(read) = Checkpoint::decode(data) {
        assert_eq!(Checkpoint::decode(&read.encode()), Some(read));
        let _ = (read.min(), read.min_with_index());
    }
    for entry in data.chunks_exact(SIZE) {
        let Some(unit) = QueueUnit::decode(entry) else { continue };
        assert_eq!(unit.encode(), entry);
        let _ = (unit.is_blank(), unit.is_empty());
    }
    let shape = Shape { slots: 10, entries: 20 };
    if let Some(header) = Header::decode(data, &shape) {
        let _ = (header.next_file(), header.is_empty());
        assert_eq!(Header::decode(&header.encode(), &shape), Some(header));
    }
    for entry in data.chunks_exact(ENTRY_SIZE) {
        if let Some(read) = IndexEntry::decode(entry) {
            assert_eq!(read.encode(), entry);
        }
    }
}));
