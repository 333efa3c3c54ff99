//! `hotfire/floor`, ours alone: up to where the log was known to be durable.
//!
//! The file holds two slots of 4096 bytes, written in turn, so that a torn write leaves the other
//! one whole. Layout: docs/formats/floor.md.

use super::bytes_at;
use crate::model::PhysicalOffset;

/// Units: bytes of the whole file.
pub const SIZE: usize = SLOT_COUNT * SLOT_SIZE;
/// Units: bytes of one slot; slots lie in different pages and sectors.
pub const SLOT_SIZE: usize = 4096;
pub const SLOT_COUNT: usize = 2;

const MAGIC: [u8; 8] = *b"HFFLOOR\0";
const VERSION: u32 = 1;
/// Units: bytes of a slot that are used; the rest is zero.
const USED_SIZE: usize = 48;
const AT_CHECKSUM: usize = USED_SIZE - 4;

/// Everything below `offset` was synced; the record that ends there has `last_crc`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Floor {
    /// Counts the writes; of two whole slots the greater one counts.
    pub generation: u64,
    pub offset: PhysicalOffset,
    /// Where the last record below the floor begins; equals `offset` when there is none.
    pub last_at: PhysicalOffset,
    /// CRC-32 of all bytes of that record; 0 when there is none.
    pub last_crc: u32,
}

impl Floor {
    /// The floor that follows this one: at `offset`, below the record of this place and CRC.
    pub fn raised(&self, offset: PhysicalOffset, last_at: PhysicalOffset, last_crc: u32) -> Floor {
        Floor { generation: self.generation + 1, offset, last_at, last_crc }
    }

    /// Units: the position in the file that this generation is written to.
    pub fn slot_at(&self) -> u64 {
        (self.generation % SLOT_COUNT as u64) * SLOT_SIZE as u64
    }

    /// The content of one slot, to be written at `slot_at`.
    pub fn encode_slot(&self) -> Vec<u8> {
        assert!(self.last_at <= self.offset, "the last record below the floor begins above it");
        let mut out = vec![0; SLOT_SIZE];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_be_bytes());
        out[12..20].copy_from_slice(&self.generation.to_be_bytes());
        out[20..28].copy_from_slice(&self.offset.0.to_be_bytes());
        out[28..36].copy_from_slice(&self.last_at.0.to_be_bytes());
        out[36..40].copy_from_slice(&self.last_crc.to_be_bytes());
        let checksum = crc32fast::hash(&out[..AT_CHECKSUM]);
        out[AT_CHECKSUM..USED_SIZE].copy_from_slice(&checksum.to_be_bytes());
        out
    }

    /// The newest whole slot of a file. `None` when there is none: then nothing is known to be
    /// durable, which is safe.
    pub fn decode(file: &[u8]) -> Option<Floor> {
        file.chunks(SLOT_SIZE)
            .take(SLOT_COUNT)
            .filter_map(Self::decode_slot)
            .max_by_key(|floor| floor.generation)
    }

    fn decode_slot(slot: &[u8]) -> Option<Floor> {
        let known = bytes_at::array::<8>(slot, 0)? == MAGIC && bytes_at::u32(slot, 8)? == VERSION;
        let checksum = bytes_at::u32(slot, AT_CHECKSUM)?;
        if !known || crc32fast::hash(slot.get(..AT_CHECKSUM)?) != checksum {
            return None;
        }
        let floor = Floor {
            generation: bytes_at::u64(slot, 12)?,
            offset: PhysicalOffset(bytes_at::u64(slot, 20)?),
            last_at: PhysicalOffset(bytes_at::u64(slot, 28)?),
            last_crc: bytes_at::u32(slot, 36)?,
        };
        (floor.last_at <= floor.offset).then_some(floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn floor(generation: u64, offset: u64) -> Floor {
        Floor {
            generation,
            offset: PhysicalOffset(offset),
            last_at: PhysicalOffset(offset / 2),
            last_crc: 7,
        }
    }

    fn file(floors: &[Floor]) -> Vec<u8> {
        let mut file = vec![0; SIZE];
        for floor in floors {
            let at = floor.slot_at() as usize;
            file[at..at + SLOT_SIZE].copy_from_slice(&floor.encode_slot());
        }
        file
    }

    #[test]
    fn the_newest_whole_slot_counts() {
        let (old, new) = (floor(4, 100), floor(5, 200));
        let mut bytes = file(&[old, new]);
        assert_eq!(Floor::decode(&bytes), Some(new));
        bytes[new.slot_at() as usize + 25] ^= 1;
        assert_eq!(Floor::decode(&bytes), Some(old));
        assert_eq!(Floor::decode(&bytes[..10]), None);
        assert_eq!(Floor::decode(&[]), None);
    }

    proptest! {
        #[test]
        fn a_flipped_bit_or_a_cut_never_gives_another_floor(
            generation: u64, offset: u64, at in 0..SIZE, bit in 0..8u8, end in 0..SIZE,
        ) {
            let written = floor(generation, offset);
            let mut bytes = file(&[written]);
            prop_assert_eq!(Floor::decode(&bytes), Some(written));
            prop_assert!(Floor::decode(&bytes[..end]).is_none_or(|read| read == written));
            bytes[at] ^= 1 << bit;
            prop_assert!(Floor::decode(&bytes).is_none_or(|read| read == written));
        }
    }
}
