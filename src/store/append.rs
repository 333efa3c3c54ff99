//! What a producer's message is to the store, and what becomes of it.

use super::stall::Stall;
use crate::format::message_unit::{EncodeError, View};
use crate::model::{PhysicalOffset, QueueId, QueueOffset, TopicName, WallMillis};
use std::net::SocketAddr;

/// Names an append in its outcome. The caller chooses it; the store only gives it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// One message to be appended, or what the members of a batch share.
#[derive(Clone, Copy, Debug)]
pub struct Append<'a> {
    pub topic: &'a TopicName,
    pub queue: QueueId,
    pub flag: i32,
    pub sys_flag: i32,
    pub born_timestamp: WallMillis,
    pub born_host: SocketAddr,
    pub store_host: SocketAddr,
    pub reconsume_times: i32,
    pub prepared_transaction_offset: i64,
    pub body: &'a [u8],
    /// As it shall be stored (`format::properties`).
    pub properties: &'a [u8],
    /// The hash of TAGS when the caller knows it already; `None` makes the store look. Records of
    /// the schedule topic get their deliver time from `Options::delay_levels_ms` instead.
    pub tags_code: Option<i64>,
    /// False: the producer is answered as soon as the record is written, whatever the flush mode.
    pub wait: bool,
    pub ticket: Ticket,
}

impl<'a> Append<'a> {
    /// A record written again elsewhere, with everything that is not said here.
    pub fn again(
        record: &View<'a>,
        topic: &'a TopicName,
        queue: QueueId,
        ticket: Ticket,
    ) -> Append<'a> {
        Append {
            topic,
            queue,
            flag: record.flag(),
            sys_flag: record.sys_flag(),
            born_timestamp: record.born_timestamp(),
            born_host: record.born_host(),
            store_host: record.store_host(),
            reconsume_times: record.reconsume_times(),
            prepared_transaction_offset: record.prepared_transaction_offset(),
            body: record.body(),
            properties: record.properties(),
            tags_code: None,
            wait: true,
            ticket,
        }
    }
}

/// One message of a batch; everything else is shared.
#[derive(Clone, Copy, Debug)]
pub struct BatchMember<'a> {
    pub flag: i32,
    pub body: &'a [u8],
    pub properties: &'a [u8],
    pub tags_code: Option<i64>,
}

/// Where a message, or the first of a batch, will be once its outcome says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    pub physical: PhysicalOffset,
    pub queue_offset: QueueOffset,
    pub store_timestamp: WallMillis,
    /// Units: bytes, of the whole batch for a batch.
    pub size: usize,
}

/// Why a message was not taken. There will be no outcome for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    #[error("{pending} bytes wait to be written, at most {max} may")]
    Busy { pending: usize, max: usize },
    #[error("{0}")]
    DiskFull(std::sync::Arc<str>),
    #[error("the batch has no message")]
    EmptyBatch,
    #[error(transparent)]
    Illegal(#[from] EncodeError),
    #[error("disk full: no space left for the next commit log file of {size} bytes")]
    NoSpace { size: u64 },
    #[error("the commit log is poisoned: {0}")]
    Poisoned(std::sync::Arc<str>),
    #[error("the store has {0} queues, which is its limit")]
    Queues(usize),
    #[error("the record has {size} bytes, at most {max} are possible")]
    Size { size: usize, max: usize },
    #[error("{} has waited {} ms", .0.resource.name(), .0.waited_ms)]
    Stalled(Stall),
    #[error("the store was stopped")]
    Stopped,
}

impl Outcome {
    /// Whether the message is in the log.
    pub fn is_kept(self) -> bool {
        !matches!(self, Outcome::Rejected(_))
    }
}

/// What became of an accepted append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As durable as flush mode and role promise (with `wait: false`: written).
    Durable,
    /// Written, but no sync covered it in time. The message is kept and will become visible.
    FlushTimeout,
    /// Stored here as the flush mode says, but there was no slave when it came (SYNC_MASTER). The
    /// message is kept.
    NoSlave,
    /// Stored here, but no slave said in time that it has it (SYNC_MASTER). The message is kept and
    /// becomes visible.
    SlaveTimeout,
    /// The message is not in the log.
    Rejected(Rejection),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The next commit log file could not be allocated: the disk is full.
    NoSpace,
    /// A write or sync of the log failed. Whether the message survives is unknown.
    Poisoned,
    /// The next commit log file was not there in time, or could not be made.
    SegmentLate,
    /// It waited too long to be written.
    Stalled {
        stall: Stall,
        /// How many appends were rejected with it.
        count: usize,
    },
}
