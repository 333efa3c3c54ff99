//! Finds what will hurt before it hurts.
//!
//! Owns: the examination of a store directory, ours or Java's, stopped or live, and its report.
//! Must never: write, create, rename, remove or lock anything in the directory. What a start would
//! do is found by running the store's own recovery over an overlay that keeps its writes in memory.
//!
//! `report` is what is said, `driver` runs the tasks one after another: `layout` (which files are
//! there), `start` (what a start would do), `log` (records and checksums), `queues` (entries
//! against records), `states` (the small files).

pub mod driver;
pub mod options;
pub mod report;

mod task;

pub use driver::{Progress, examine};
pub use options::Options;
pub use report::{Finding, Level, Report};
