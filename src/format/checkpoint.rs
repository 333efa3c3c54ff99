//! The `checkpoint` file: up to which store times log, queues and index are on disk.
//!
//! Source: StoreCheckpoint (4.9.3). Layout: docs/formats/checkpoint.md.

use super::bytes_at;
use crate::model::WallMillis;

/// Units: bytes of the file.
pub const SIZE: usize = 4096;
/// Units: bytes that are read; Java accepts any longer file.
pub const USED_SIZE: usize = 24;

/// Recovery starts this much before the checkpoint. Units: milliseconds.
const MARGIN_MS: i64 = 3000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// Store time of the newest record known to be on disk.
    pub physical: WallMillis,
    /// The same for consume queues.
    pub logical: WallMillis,
    /// The same for full index files.
    pub index: WallMillis,
}

impl Checkpoint {
    /// The content of the whole file.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; SIZE];
        out[..8].copy_from_slice(&self.physical.0.to_be_bytes());
        out[8..16].copy_from_slice(&self.logical.0.to_be_bytes());
        out[16..24].copy_from_slice(&self.index.0.to_be_bytes());
        out
    }

    /// `None` when there are fewer than 24 bytes.
    pub fn decode(bytes: &[u8]) -> Option<Checkpoint> {
        let field = |at| bytes_at::i64(bytes, at).map(WallMillis);
        Some(Checkpoint { physical: field(0)?, logical: field(8)?, index: field(16)? })
    }

    /// Up to when log and queues are on disk, with a margin. Source: #getMinTimestamp.
    pub fn min(&self) -> WallMillis {
        let min = self.physical.min(self.logical);
        WallMillis(min.0.saturating_sub(MARGIN_MS).max(0))
    }

    /// The same including the index. Source: #getMinTimestampIndex.
    pub fn min_with_index(&self) -> WallMillis {
        self.min().min(self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn checkpoints_round_trip(p: i64, l: i64, i: i64) {
            let c = Checkpoint {
                physical: WallMillis(p), logical: WallMillis(l), index: WallMillis(i),
            };
            let bytes = c.encode();
            prop_assert_eq!(bytes.len(), SIZE);
            prop_assert_eq!(Checkpoint::decode(&bytes), Some(c));
            for end in 0..USED_SIZE {
                prop_assert_eq!(Checkpoint::decode(&bytes[..end]), None);
            }
            let _ = (c.min(), c.min_with_index());
        }
    }
}
