//! `hotfire/checksum/<20 digits>`, ours alone: one CRC-32C per block of a sealed segment.
//!
//! Layout: docs/formats/checksum.md.

use super::bytes_at;
use crate::model::WallMillis;

/// Units: bytes of the log that one checksum covers; the last block of a segment may be shorter.
pub const BLOCK_SIZE: usize = 64 << 10;
/// Units: bytes of the largest file: that of a segment of 2 GiB.
pub const SIZE_MAX: u64 = (HEAD_SIZE + (1 << 31) / BLOCK_SIZE * 5 + 8) as u64;

const MAGIC: [u8; 8] = *b"HFCRC32C";
const VERSION: u32 = 1;
/// Units: bytes before the first checksum.
const HEAD_SIZE: usize = 48;

/// What a sealed segment held when its records were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checksums {
    /// Where the segment begins in the log.
    pub base: u64,
    /// Units: bytes of the segment.
    pub size: u64,
    /// When the segment was last written to. A later time means that somebody wrote it since: then
    /// these checksums say nothing about it.
    pub modified: WallMillis,
    /// When the records were checked.
    pub made: WallMillis,
    /// By block; `None` where a bad record lay when the checksum was made: it must not become good.
    pub blocks: Vec<Option<u32>>,
}

/// CRC-32C (Castagnoli).
pub fn crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// Units: blocks of a segment of `size` bytes.
pub fn block_count(size: u64) -> usize {
    size.div_ceil(BLOCK_SIZE as u64) as usize
}

impl Checksums {
    pub fn encode(&self) -> Vec<u8> {
        assert_eq!(self.blocks.len(), block_count(self.size), "one checksum per block");
        let mut out = Vec::with_capacity(HEAD_SIZE + self.blocks.len() * 5 + 8);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(&(BLOCK_SIZE as u32).to_be_bytes());
        out.extend_from_slice(&self.base.to_be_bytes());
        out.extend_from_slice(&self.size.to_be_bytes());
        out.extend_from_slice(&self.modified.0.to_be_bytes());
        out.extend_from_slice(&self.made.0.to_be_bytes());
        for block in &self.blocks {
            out.extend_from_slice(&block.unwrap_or(0).to_be_bytes());
        }
        let mut known = vec![0u8; self.blocks.len().div_ceil(8)];
        for (at, _) in self.blocks.iter().enumerate().filter(|(_, block)| block.is_some()) {
            known[at / 8] |= 1 << (at % 8);
        }
        out.extend_from_slice(&known);
        let own = crc(&out);
        out.extend_from_slice(&own.to_be_bytes());
        out
    }

    /// `None` for anything that is not whole, of another version or of another segment: then the
    /// segment has no checksums, which is safe.
    pub fn decode(file: &[u8], base: u64, size: u64) -> Option<Checksums> {
        let count = block_count(size);
        let known_at = count.checked_mul(4)?.checked_add(HEAD_SIZE)?;
        let own_at = known_at.checked_add(count.div_ceil(8))?;
        if file.len() != own_at.checked_add(4)? {
            return None;
        }
        let is_ours = bytes_at::array::<8>(file, 0)? == MAGIC
            && bytes_at::u32(file, 8)? == VERSION
            && bytes_at::u32(file, 12)? as usize == BLOCK_SIZE
            && bytes_at::u64(file, 16)? == base
            && bytes_at::u64(file, 24)? == size
            && bytes_at::u32(file, own_at)? == crc(file.get(..own_at)?);
        if !is_ours {
            return None;
        }
        let block = |at: usize| {
            let is_known = file.get(known_at + at / 8)? & (1 << (at % 8)) != 0;
            is_known.then(|| bytes_at::u32(file, HEAD_SIZE + at * 4)).flatten()
        };
        Some(Checksums {
            base,
            size,
            modified: WallMillis(bytes_at::u64(file, 32)? as i64),
            made: WallMillis(bytes_at::u64(file, 40)? as i64),
            blocks: (0..count).map(block).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn checksums(base: u64, blocks: Vec<Option<u32>>, last: u64) -> Checksums {
        let size = (blocks.len() as u64 - 1) * BLOCK_SIZE as u64 + last;
        let (modified, made) = (WallMillis(1_700_000_000_000), WallMillis(-1));
        Checksums { base, size, modified, made, blocks }
    }

    #[test]
    fn the_crc_is_castagnoli_s() {
        assert_eq!(crc(b"123456789"), 0xE306_9283);
        assert_eq!(crc(b""), 0);
    }

    #[test]
    fn the_layout_is_the_one_of_the_page() {
        let written = checksums(4096, vec![Some(0x0102_0304), None], 5);
        let expected = [
            b"HFCRC32C".as_slice(),
            &[0, 0, 0, 1, 0, 1, 0, 0],
            &[0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 1, 0, 5],
            &[0, 0, 1, 0x8b, 0xcf, 0xe5, 0x68, 0],
            &[0xff; 8],
            &[1, 2, 3, 4, 0, 0, 0, 0, 1],
        ]
        .concat();
        let own = crc(&expected).to_be_bytes();
        assert_eq!(written.encode(), [expected.as_slice(), &own].concat());
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_and_nothing_else(
            base: u64,
            blocks in prop::collection::vec(any::<Option<u32>>(), 1..40),
            last in 1..=BLOCK_SIZE as u64,
            at: prop::sample::Index,
            bit in 0..8u8,
        ) {
            let written = checksums(base, blocks, last);
            let bytes = written.encode();
            prop_assert!(bytes.len() as u64 <= SIZE_MAX);
            prop_assert_eq!(Checksums::decode(&bytes, base, written.size), Some(written.clone()));
            prop_assert_eq!(Checksums::decode(&bytes, base ^ 1, written.size), None);
            prop_assert_eq!(Checksums::decode(&bytes, base, written.size + 1), None);
            prop_assert_eq!(Checksums::decode(&bytes[1..], base, written.size), None);
            let mut flipped = bytes.clone();
            flipped[at.index(bytes.len())] ^= 1 << bit;
            prop_assert_eq!(Checksums::decode(&flipped, base, written.size), None);
        }
    }
}
