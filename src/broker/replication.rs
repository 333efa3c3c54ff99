//! What this broker is to others of its name: master or slave, and what a slave takes over.

pub mod peers;
pub mod wire;

use super::offsets::OffsetFile;
use crate::ha::Ha;
use crate::model::PhysicalOffset;
use crate::protocol::body::offset::DelayOffsets;
use crate::rt::sync::watch;
use peers::{Admission, KnownSlaves};
use std::sync::Arc;

/// `brokerRole`. Source: BrokerRole (4.9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    AsyncMaster,
    SyncMaster,
    Slave,
}

impl Role {
    pub fn is_slave(self) -> bool {
        self == Role::Slave
    }
}

/// The running side of it.
pub struct Replication {
    pub role: Role,
    pub ha: Ha,
    pub admission: Arc<Admission>,
    pub known_slaves: KnownSlaves,
    /// What clients dial to reach the master, as the name servers say; a slave copies from there.
    pub master: watch::Sender<Option<String>>,
}

/// How far consumers and delay levels were at the master when its log ended at `at`. What they say
/// is done was done below: a slave must have the log up to there before it says so too, or a
/// promotion would leave out what it lacks.
#[derive(Debug)]
pub struct Progress {
    pub at: PhysicalOffset,
    pub offsets: OffsetFile,
    pub delays: DelayOffsets,
}

/// A slave's copy of the master's progress that waits for the log.
#[derive(Debug, Default)]
pub struct Pending(Option<Progress>);

impl Pending {
    /// The master was asked. What waits already goes before: on a slave that is always behind the
    /// newest would never be due.
    pub fn on_copied(&mut self, progress: Progress) {
        self.0.get_or_insert(progress);
    }

    /// What may be taken over now that the log is written up to `written`.
    pub fn take_due(&mut self, written: PhysicalOffset) -> Option<Progress> {
        self.0.take_if(|progress| progress.at <= written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(at: u64) -> Progress {
        let (offsets, delays) = (OffsetFile::default(), DelayOffsets::default());
        Progress { at: PhysicalOffset(at), offsets, delays }
    }

    #[test]
    fn progress_waits_for_the_log_and_the_oldest_goes_first() {
        let mut pending = Pending::default();
        pending.on_copied(progress(100));
        assert!(pending.take_due(PhysicalOffset(99)).is_none());
        pending.on_copied(progress(200));
        let due = pending.take_due(PhysicalOffset(100)).map(|progress| progress.at);
        assert_eq!(due, Some(PhysicalOffset(100)));
        assert!(pending.take_due(PhysicalOffset(500)).is_none());
    }
}
