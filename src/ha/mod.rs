//! Copies commit-log bytes from master to slave, reports how far, and finds where two logs part.
//!
//! Owns: the HA port and its connections. The stream is that of 4.9, so that either end may be
//! Java's: docs/formats/ha_stream.md. Must never: know what a record means; the store checks what
//! a slave takes in.
//!
//! Invariants:
//! - A slave's log is a byte prefix of its master's, but for what lies behind blank records.
//! - A slave reports only what it has as its own flush mode says, and a master counts only reports
//!   of what it sent on that connection or has itself (W-41, W-43).
//! - Between two Hotfires nothing flows before both know what their logs have in common (ADR-0026).
//! - Records travel while they are synced here: the two waits of SYNC_MASTER do not add up.

pub mod greeting;
pub mod master;
pub mod options;
pub mod transfer_frame;

pub mod driver;
mod task;

pub use driver::{Admission, Followed, Ha, HaDeps};
pub use greeting::{Course, Greeted, Greeter, Position, Welcome};
pub use master::SlaveRow;
pub use options::Options;
