//! Dice as a value: whoever needs chance is handed a `Rng`.

/// A small fast generator (SplitMix64). Not for secrets.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The same seed gives the same throws, on every machine.
    pub fn from_seed(seed: u64) -> Self {
        Rng(seed)
    }

    /// Seeded by the operating system; in simulation by the seed of the run.
    #[cfg(not(madsim))]
    #[expect(clippy::disallowed_methods, reason = "the one place where dice enter production")]
    pub fn from_entropy() -> Self {
        Rng(rand::random())
    }
    #[cfg(madsim)]
    pub fn from_entropy() -> Self {
        use madsim::rand::RngCore;
        Rng(madsim::rand::thread_rng().next_u64())
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut y = self.0;
        y = (y ^ (y >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        y = (y ^ (y >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        y ^ (y >> 31)
    }

    /// A number in `0..n`; 0 when `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(n)) >> 64) as u64
    }

    /// A number in `lo..=hi`.
    pub fn between(&mut self, lo: u64, hi: u64) -> u64 {
        assert!(lo <= hi, "an empty range of dice: {lo}..={hi}");
        lo + self.below((hi - lo).saturating_add(1))
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        ((self.next_u64() >> 11) as f64) < p * (1u64 << 53) as f64
    }

    /// One element of a slice that is not empty.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}
