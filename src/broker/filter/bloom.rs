//! The bits that 4.9.3 would set for a group's filter: only consumerFilter.json holds them here.
//!
//! Source: BloomFilter (4.9.3). A Java broker takes the file only when the count of bits of every
//! entry is its own.

/// The geometry. Differs: 4.9.3 takes it from `maxErrorRateOfBloomFilter` and
/// `expectConsumerNumUseFilter`; these are what it gets from their defaults, 20 and 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bloom {
    /// Units: hashes per entry.
    pub hashes: u32,
    pub bits: i32,
}

impl Bloom {
    /// `error_percent` is 1 to 99, `entries` at least 1. Source: BloomFilter#createByFn (4.9.3).
    pub fn new(error_percent: u32, entries: u32) -> Self {
        let error = f64::from(error_percent) / 100.0;
        let log = |base: f64, of: f64| of.ln() / base.ln();
        let hashes = log(0.5, error).ceil();
        let bits =
            (f64::from(entries) * log(2.0, 1.0 / error) * log(2.0, std::f64::consts::E)).ceil();
        Bloom { hashes: hashes as u32, bits: ((bits / 8.0).ceil() * 8.0) as i32 }
    }

    /// Source: BloomFilter#calcBitPositions (4.9.3), over `group#topic`.
    pub fn positions(&self, group: &str, topic: &str) -> Vec<i32> {
        let hash = murmur3_low(format!("{group}#{topic}").as_bytes());
        let (first, second) = (hash as i32, (hash >> 32) as i32);
        let position = |turn: i32| {
            let mixed = first.wrapping_add(turn.wrapping_mul(second));
            (if mixed < 0 { !mixed } else { mixed }) % self.bits
        };
        (1..=self.hashes as i32).map(position).collect()
    }
}

const C1: u64 = 0x87c3_7b91_1142_53d5;
const C2: u64 = 0x4cf5_ad43_2745_937f;

/// The low half of MurmurHash3 x64 128 with seed 0.
fn murmur3_low(bytes: &[u8]) -> u64 {
    let (mut h1, mut h2) = (0u64, 0u64);
    let mut blocks = bytes.chunks_exact(16);
    for block in blocks.by_ref() {
        h1 ^= mix(word(&block[..8]), C1, 31, C2);
        h1 = h1.rotate_left(27).wrapping_add(h2).wrapping_mul(5).wrapping_add(0x52dc_e729);
        h2 ^= mix(word(&block[8..]), C2, 33, C1);
        h2 = h2.rotate_left(31).wrapping_add(h1).wrapping_mul(5).wrapping_add(0x3849_5ab5);
    }
    let (low, high) = blocks.remainder().split_at(blocks.remainder().len().min(8));
    h2 ^= mix(word(high), C2, 33, C1);
    h1 ^= mix(word(low), C1, 31, C2);
    let size = bytes.len() as u64;
    h1 ^= size;
    h2 ^= size;
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    finish(h1).wrapping_add(finish(h2))
}

/// Up to 8 bytes, little-endian.
fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

fn mix(word: u64, first: u64, turn: u32, second: u64) -> u64 {
    word.wrapping_mul(first).rotate_left(turn).wrapping_mul(second)
}

fn finish(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 33
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn geometry_and_positions_are_those_that_java_wrote() {
        let bloom = Bloom::new(20, 32);
        assert_eq!(bloom, Bloom { hashes: 3, bits: 112 });
        assert_eq!(bloom.positions("CGSQL", "TopicTest"), [6, 92, 66]);
        assert_eq!(bloom.positions("CG1", "TopicA"), [23, 67, 32]);
    }
}
