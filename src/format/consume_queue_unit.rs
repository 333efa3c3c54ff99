//! One entry of a consume queue: where a message lies and a code to filter it by.
//!
//! Source: ConsumeQueue#putMessagePositionInfo, #fillPreBlank (4.9.3).
//! Layout: docs/formats/consume_queue.md.

use super::bytes_at;
use crate::model::PhysicalOffset;

/// Units: bytes of one entry.
pub const SIZE: usize = 20;
/// Units: entries of one file, by default.
pub const FILE_COUNT: usize = 300_000;
const _: () = assert!(SIZE * FILE_COUNT == 6_000_000);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueUnit {
    pub physical_offset: PhysicalOffset,
    /// Units: bytes of the record.
    pub size: u32,
    /// The hash of TAGS; for the schedule topic the deliver time.
    pub tags_code: i64,
}

impl QueueUnit {
    /// Stands before the first entry of a queue that does not begin at the start of its file.
    pub const BLANK: QueueUnit =
        QueueUnit { physical_offset: PhysicalOffset(0), size: i32::MAX as u32, tags_code: 0 };

    /// A blank entry in memory: it lies where the entry behind it does, so that places in memory
    /// never go back. In a file it is `BLANK`.
    pub fn missing_before(physical_offset: PhysicalOffset) -> QueueUnit {
        QueueUnit { physical_offset, ..Self::BLANK }
    }

    /// No record has that size: it does not fit into a file.
    pub fn is_blank(&self) -> bool {
        self.size == Self::BLANK.size
    }

    /// Never written: the rest of a file. Java ends its recovery at such an entry.
    pub fn is_empty(&self) -> bool {
        self.physical_offset.0 == 0 && self.size == 0
    }

    pub fn encode(&self) -> [u8; SIZE] {
        let mut out = [0; SIZE];
        out[..8].copy_from_slice(&self.physical_offset.0.to_be_bytes());
        out[8..12].copy_from_slice(&self.size.to_be_bytes());
        out[12..].copy_from_slice(&self.tags_code.to_be_bytes());
        out
    }

    /// Reads the entry at the start of `bytes`. `None` when it is cut, or when offset or size are
    /// negative, which none has.
    pub fn decode(bytes: &[u8]) -> Option<QueueUnit> {
        let physical_offset = u64::try_from(bytes_at::i64(bytes, 0)?).ok()?;
        let size = u32::try_from(bytes_at::i32(bytes, 8)?).ok()?;
        let tags_code = bytes_at::i64(bytes, 12)?;
        Some(QueueUnit { physical_offset: PhysicalOffset(physical_offset), size, tags_code })
    }

    /// Units: the physical offset after the record.
    pub fn end(&self) -> PhysicalOffset {
        PhysicalOffset(self.physical_offset.0.saturating_add(u64::from(self.size)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn entries_round_trip(at in 0..=i64::MAX as u64, size in 0..=i32::MAX as u32, code: i64) {
            let unit = QueueUnit { physical_offset: PhysicalOffset(at), size, tags_code: code };
            let bytes = unit.encode();
            prop_assert_eq!(QueueUnit::decode(&bytes), Some(unit));
            for end in 0..SIZE {
                prop_assert_eq!(QueueUnit::decode(&bytes[..end]), None);
            }
        }
    }
}
