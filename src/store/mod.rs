//! Appends message units to the commit log and derives consume queues and index from it.
//!
//! Owns: the store directory (commitlog, consumequeue, checkpoint, abort, lock, hotfire), the
//! offsets of every queue, and the moment at which a message may be acknowledged and seen.
//! Must never: know what a consumer group is, answer a request, or write through a mapping.
//!
//! Invariants:
//! - *Visible if and only if ackable* (ADR-0005): a record enters its queue, `max_offset`, pulls
//!   and arrivals exactly when its producer may be answered: ASYNC_FLUSH when it is written,
//!   SYNC_FLUSH when a sync that began after the write has returned.
//! - *Poison* (ADR-0006): after a failed write or sync of the log nothing is acknowledged again by
//!   this process; recovery rewrites what was not known durable.
//! - *Zero discipline* (ADR-0007): every byte past the log's end is zero on disk.
//! - A record never straddles segments, a batch is contiguous in one segment.
//! - Of all accepted appends exactly one outcome each reaches `StoreEvents`.
//!
//! How a message passes: `append` encodes it into the pending pieces (`commit_log`) and returns;
//! `task/log_writer` writes the pieces, syncs as `flush` says, and hands what became visible to
//! `dispatch`, which enters it in `consume_queue`; `task/queue_writer` writes queue entries in
//! runs and moves floor, snapshot and checkpoint; `task/index_writer` follows what is visible and
//! enters keys in the `index`; `read` serves from `tail_cache` or plans a cold
//! read. `task/recover` makes the directory right before any of them runs.

pub mod append;
pub mod error;
pub mod intake;
pub mod options;
pub mod query;
pub mod read;
pub mod replicas;

mod allocate;
mod commit_log;
mod consume_queue;
mod dispatch;
mod events;
mod flush;
mod gather;
mod index;
mod log_paths;
mod open_files;
mod queue_files;
mod recovery;
pub mod retention;
pub mod scrub;
mod segment;
mod select;
mod shared;
mod snapshot;
mod stall;
mod state;
mod tail_cache;
pub mod walk;

pub mod driver;
mod task;

pub use append::{Append, AppendError, Appended, BatchMember, Outcome, Rejection, Ticket};
pub use dispatch::SCHEDULE_TOPIC;
pub use driver::{Rehearsal, Store, rehearse};
pub use error::{Error, RecoveryReport, Rot};
pub use events::{Arrival, Cut, Deleted, Stats, StoreEvents};
pub use intake::{Intake, IntakeError};
pub use log_paths::LogPaths;
pub use options::{FlushMode, Options, ReadMode, Replicate, Visibility};
pub use query::{Queried, Query};
pub use read::{ColdRead, QueueSlice, Read, ReadLimits, ReadResult, ReadStatus};
pub use replicas::SlaveReport;
pub use segment::{base as segment_base, name as segment_name};
pub use stall::{Resource, Stall};
pub use task::raw::RawLog;
pub use task::recover::cut_progress::CutProgress;
pub use task::shutdown::Abort;
