//! A simulated machine's disk, as unkind as the kernel: page cache above, platter below.
//!
//! * A write is seen at once by every process of the machine and is durable only when a sync that
//!   started after it returns. `sync_data` covers the sectors that were dirty when it started;
//!   later ones only by chance. A failed sync marks its pages clean without writing them.
//! * A name is durable only after `sync_dir` of exactly its directory; a new directory needs its
//!   parent's sync.
//! * A process crash keeps the cache; handles die (their calls fail) and locks are given back.
//! * Power loss keeps or drops each dirty sector (or whole page, per seed), each pending directory
//!   operation (any subset, or a prefix, per seed), and the old or the new length.
//!
//! * A view is the page cache's own memory (in some seeds): whoever changes bytes below a live view
//!   breaks a promise.
//!
//! Its dice are its own, drawn from the seed: other choices of a run do not move them.

mod device;
mod platter;
pub mod suite;
mod views;

pub use device::SimDisk;
pub use platter::{Habits, PowerCut, Rates, Removed};

/// What the device writes as one. Units: bytes.
pub const SECTOR: usize = 512;
/// What the page cache handles as one. Units: bytes.
pub const PAGE: usize = 4096;
