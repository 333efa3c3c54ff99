//! Reading messages by queue offset: the words.

pub use super::task::cold_read::ColdRead;
use crate::format::consume_queue_unit::QueueUnit;
use crate::model::QueueOffset;
use bytes::Bytes;

/// How much one read may return.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimits {
    /// Units: messages. The store's own limits for hot and cold reads apply too.
    pub count: usize,
}

/// Source: GetMessageStatus (4.9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadStatus {
    Found,
    MessageWasRemoving,
    NoMatchedMessage,
    NoMessageInQueue,
    OffsetFoundNull,
    OffsetOverflowBadly,
    OffsetOverflowOne,
    OffsetTooSmall,
}

impl ReadStatus {
    /// The name that a pull reply carries as its remark.
    pub fn name(self) -> &'static str {
        match self {
            ReadStatus::Found => "FOUND",
            ReadStatus::MessageWasRemoving => "MESSAGE_WAS_REMOVING",
            ReadStatus::NoMatchedMessage => "NO_MATCHED_MESSAGE",
            ReadStatus::NoMessageInQueue => "NO_MESSAGE_IN_QUEUE",
            ReadStatus::OffsetFoundNull => "OFFSET_FOUND_NULL",
            ReadStatus::OffsetOverflowBadly => "OFFSET_OVERFLOW_BADLY",
            ReadStatus::OffsetOverflowOne => "OFFSET_OVERFLOW_ONE",
            ReadStatus::OffsetTooSmall => "OFFSET_TOO_SMALL",
        }
    }
}

/// What a read found.
#[derive(Clone, Debug)]
pub struct ReadResult {
    pub status: ReadStatus,
    /// Where the reader goes on.
    pub next: QueueOffset,
    pub min: QueueOffset,
    pub max: QueueOffset,
    /// Whole records in order, as they lie in the log; neighbours are joined.
    pub messages: Vec<Bytes>,
    /// Units: messages in `messages`.
    pub count: usize,
    /// Units: bytes in `messages`.
    pub size: usize,
    /// The reader is further behind than memory holds: a slave should serve it.
    pub suggest_slave: bool,
}

/// A read is answered at once from memory, or must wait for files.
#[derive(Debug)]
pub enum Read {
    Ready(ReadResult),
    Cold(ColdRead),
}

/// Entries of a queue, for a reader that decides by them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueSlice {
    pub min: QueueOffset,
    /// One past the newest visible entry.
    pub end: QueueOffset,
    /// From the offset that was asked for on; blank ones and those whose record is gone included.
    pub units: Vec<QueueUnit>,
}
