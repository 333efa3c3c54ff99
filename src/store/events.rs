//! What the store tells its owner.

use super::append::{Outcome, Ticket};
use crate::model::{PhysicalOffset, QueueKey, QueueOffset};

/// Told what happened, on the store's own task and without any lock of the store held.
pub trait StoreEvents: Send + Sync {
    /// The listener empties the vector.
    fn on_outcomes(&self, outcomes: &mut Vec<(Ticket, Outcome)>);
    /// New messages may be read. Called after the outcomes of the same messages.
    fn on_arrivals(&self, arrivals: &[Arrival]);
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
