//! What the store tells its owner.

use super::append::{Outcome, Ticket};
use super::stall::Stall;
use crate::model::{PhysicalOffset, QueueKey, QueueOffset};
use crate::rt::time::Duration;

/// Told what happened, on the store's own task and without any lock of the store held.
pub trait StoreEvents: Send + Sync {
    /// The listener empties the vector.
    fn on_outcomes(&self, outcomes: &mut Vec<(Ticket, Outcome)>);
    /// New messages may be read. Called after the outcomes of the same messages.
    fn on_arrivals(&self, arrivals: &[Arrival]);
    /// Files of the log were deleted, and with them messages: once per round of deletions.
    fn on_deleted(&self, _deleted: &Deleted) {}
    /// More of the log is written or synced. Called after the outcomes of the same records.
    fn on_log_moved(&self) {}
    /// The log is poisoned. Nothing is acknowledged any more; the process should end.
    fn on_poison(&self, reason: &str);
}

/// A message became visible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    pub key: QueueKey,
    /// The queue's new end: the message's offset + 1.
    pub end: QueueOffset,
    pub tags_code: i64,
}

/// What a round of deletions took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// Units: files of the commit log.
    pub files: usize,
    /// Where the log begins now.
    pub min: PhysicalOffset,
    pub why: String,
    /// The queues that lost messages, in order of topic and queue.
    pub queues: Vec<Cut>,
}

/// A queue begins further on: offsets from `from` to below `to` are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    pub key: QueueKey,
    pub from: QueueOffset,
    pub to: QueueOffset,
}

/// What a monitor sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub min: PhysicalOffset,
    /// Appended, perhaps not yet written.
    pub end: PhysicalOffset,
    pub written: PhysicalOffset,
    pub synced: PhysicalOffset,
    pub visible: PhysicalOffset,
    pub queues: usize,
    pub no_space: bool,
    /// Why appends are refused for want of space.
    pub full: Option<std::sync::Arc<str>>,
    /// What the log cannot keep up with.
    pub stall: Option<Stall>,
    /// The longest time that one write of the log took since the start.
    pub longest_write: Duration,
    /// Units: files of the commit log that retention deleted since the start.
    pub files_deleted: u64,
    pub poisoned: bool,
    /// Units: entries of consume queues that are not yet in files.
    pub entries_unwritten: usize,
    /// Keys of records below are in the index.
    pub indexed: PhysicalOffset,
    /// Errors on derived files since the start.
    pub derived_errors: u64,
    /// Units: places of rot that the scrub found in commit log files that are still there.
    pub rot: usize,
}
