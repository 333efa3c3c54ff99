//! The handle of a store, and how one is opened.

use super::append::{Append, AppendError, Appended, BatchMember, Outcome, Ticket};
use super::error::{Error, RecoveryReport};
use super::options::Options;
use super::read::{Read, ReadLimits, ReadResult, ReadStatus};
use crate::disk::Disk;
use crate::model::{PhysicalOffset, QueueKey, QueueOffset, WallMillis};
use crate::rt::task::TaskGroup;
use crate::rt::time::Clock;
use bytes::Bytes;
use std::io;
use std::sync::Arc;

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
    /// Errors on derived files since the start.
    pub derived_errors: u64,
}

/// The message store of one broker. Cloning is cheap.
#[derive(Clone)]
pub struct Store {}

impl Store {
    /// Locks the directory before looking into it, makes it right, and starts the store's tasks.
    /// Durable: on return everything up to the log's end is on disk, and the rest of its file is
    /// zero there.
    /// Errors: `Locked` names the holder and nothing was touched; `Foreign` names a file that
    /// should not be there or has the wrong length, and nothing was overwritten.
    pub async fn open(
        _disk: Arc<dyn Disk>,
        _clock: Clock,
        _group: &TaskGroup,
        _options: Options,
        _events: Arc<dyn StoreEvents>,
    ) -> Result<(Store, RecoveryReport), Error> {
        Err(Error::Options("the store is being built".into()))
    }

    /// Takes a message into the log. Its place is assigned at once; nothing waits here.
    /// Durable: nothing yet. The outcome comes through `StoreEvents::on_outcomes`, exactly once.
    pub fn append(&self, _append: &Append<'_>) -> Result<Appended, AppendError> {
        Err(AppendError::Stopped)
    }

    /// Takes the members of a batch, contiguous in one segment, with one outcome for all. Body,
    /// properties, flag and tags code of `shared` are not looked at. `places` gets the physical
    /// offset of each.
    pub fn append_batch(
        &self,
        _shared: &Append<'_>,
        _members: &[BatchMember<'_>],
        _places: &mut Vec<PhysicalOffset>,
    ) -> Result<Appended, AppendError> {
        Err(AppendError::Stopped)
    }

    /// Messages of a queue from `from` on whose tags code passes `filter`.
    pub fn read(
        &self,
        _key: &QueueKey,
        from: QueueOffset,
        _limits: &ReadLimits,
        _filter: &dyn Fn(i64) -> bool,
    ) -> Read {
        let (status, zero) = (ReadStatus::NoMessageInQueue, QueueOffset(0));
        Read::Ready(ReadResult {
            status,
            next: from,
            min: zero,
            max: zero,
            messages: Vec::new(),
            count: 0,
            size: 0,
            suggest_slave: false,
        })
    }

    /// The oldest offset that can be read; 0 for an unknown queue.
    pub fn min_offset(&self, _key: &QueueKey) -> QueueOffset {
        QueueOffset(0)
    }
    /// One past the newest visible message; 0 for an unknown queue.
    pub fn max_offset(&self, _key: &QueueKey) -> QueueOffset {
        QueueOffset(0)
    }
    /// Whether the message can be read only from disk. Source: #checkInDiskByConsumeOffset.
    pub async fn is_cold(&self, _key: &QueueKey, _offset: QueueOffset) -> io::Result<bool> {
        Ok(false)
    }
    /// The queue offset whose store time is nearest to `at`; 0 for an unknown queue.
    pub async fn search_by_time(
        &self,
        _key: &QueueKey,
        _at: WallMillis,
    ) -> io::Result<QueueOffset> {
        Ok(QueueOffset(0))
    }
    /// When the message was stored; `None` when it is not there.
    pub async fn store_time_of(
        &self,
        _key: &QueueKey,
        _offset: QueueOffset,
    ) -> io::Result<Option<WallMillis>> {
        Ok(None)
    }
    /// The record at a physical offset; `None` when no visible record begins there.
    pub async fn record_at(&self, _at: PhysicalOffset) -> io::Result<Option<Bytes>> {
        Ok(None)
    }
    /// Every queue with its min and max offset, in order of topic and queue.
    pub fn queues(&self) -> Vec<(QueueKey, QueueOffset, QueueOffset)> {
        Vec::new()
    }
    /// Forgets the queues of a topic, for good: recovery will not bring them back.
    pub async fn delete_topic(&self, _topic: &str) -> Result<(), Error> {
        Ok(())
    }
    pub fn stats(&self) -> Stats {
        Stats::default()
    }
    /// Stops in order: what was accepted is written and synced, queues and checkpoint too, then
    /// `abort` is removed. Durable on return: everything.
    pub async fn shutdown(&self) -> Result<(), Error> {
        Ok(())
    }
}
