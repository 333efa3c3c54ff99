//! What can go wrong with a store, and what recovery has to say.

use crate::model::PhysicalOffset;
use std::io;

/// Messages read well after "failed to open the store: ".
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {what}")]
    Foreign { path: String, what: String },
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("lock failed, {root} is held by {owner}")]
    Locked { root: String, owner: String },
    #[error("the options are wrong: {0}")]
    Options(String),
    #[error("the commit log is poisoned: {0}")]
    Poisoned(String),
}

impl Error {
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        let what = what.into();
        move |source| Error::Io { what, source }
    }
}

/// A bad place below the durable floor: kept as it is, skipped by readers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rot {
    /// The commit log file.
    pub path: String,
    pub at: PhysicalOffset,
    /// Where the next good record begins.
    pub next: PhysicalOffset,
    pub what: String,
}

/// What recovery found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// The last process did not stop in order.
    pub unclean: bool,
    pub min: PhysicalOffset,
    pub end: PhysicalOffset,
    /// Everything below was known to be on disk.
    pub floor: PhysicalOffset,
    /// Where the scan of the log began.
    pub scanned_from: PhysicalOffset,
    /// Units: records.
    pub scanned_records: u64,
    /// Units: bytes past the log's end that were not zero, and are now.
    pub cut_bytes: u64,
    /// Why the log ends where it ends, when it is not simply its end.
    pub cut_reason: Option<String>,
    /// Units: bytes read and written again because they were not known to be on disk.
    pub rewritten_bytes: u64,
    /// Units: queues.
    pub queues: usize,
    /// Units: queue entries that were missing or wrong in the files.
    pub repaired_entries: u64,
    pub rot: Vec<Rot>,
    /// Those of them where the disk gave an error: they are tried again at the next start.
    pub unreadable: Vec<PhysicalOffset>,
    /// Files without a byte that a process which died had begun to make.
    pub removed: Vec<String>,
}
