//! How a disk behaves, how often its calls fail, and what a power loss took.

/// How this disk behaves all through a seed.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Habits {
    /// A torn page is possible; otherwise a page is kept or dropped as one.
    pub sectors_are_atomic: bool,
    /// Of the pending directory operations a prefix survives; otherwise any subset.
    pub names_are_journalled: bool,
    /// Chance that a write makes the kernel write back one dirty page.
    pub writeback: f64,
    /// How long a sync takes. Units: microseconds, from and to.
    pub sync_us: (u64, u64),
    /// Units: bytes.
    pub capacity: u64,
    /// Reads through a view share the page cache's memory; otherwise they are copies.
    #[serde(default)]
    pub views: bool,
}

impl Default for Habits {
    fn default() -> Self {
        Habits {
            sectors_are_atomic: true,
            names_are_journalled: false,
            writeback: 0.02,
            sync_us: (300, 3_000),
            capacity: 1 << 30,
            views: false,
        }
    }
}

/// Chances that a call fails, while a nemesis wants it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    pub read: f64,
    pub write: f64,
    pub sync: f64,
}

/// What a power loss took.
#[derive(Clone, Debug, Default)]
pub struct PowerCut {
    pub sectors_kept: u64,
    pub sectors_dropped: u64,
    pub names_lost: u64,
    /// For the story: file and first dropped sector, a few of them.
    pub examples: Vec<String>,
}
