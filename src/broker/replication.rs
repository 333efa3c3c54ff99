//! What this broker is to others of its name: master or slave, and what a slave takes over.

pub mod heir;
pub mod peers;
pub mod wire;

use super::offsets::OffsetFile;
use crate::format::epochs::Epoch;
use crate::ha::Ha;
use crate::model::PhysicalOffset;
use crate::protocol::body::offset::DelayOffsets;
use crate::rt::sync::{Notify, watch};
use peers::{Admission, KnownPeers};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;

/// `brokerRole`. Source: BrokerRole (4.9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    AsyncMaster,
    SyncMaster,
    Slave,
}

impl Role {
    /// As 4.9 spells it.
    pub fn name(self) -> &'static str {
        match self {
            Role::AsyncMaster => "ASYNC_MASTER",
            Role::SyncMaster => "SYNC_MASTER",
            Role::Slave => "SLAVE",
        }
    }

    pub fn is_slave(self) -> bool {
        self == Role::Slave
    }
}

/// The running side of it.
pub struct Replication {
    pub role: Role,
    pub ha: Ha,
    pub admission: Arc<Admission>,
    pub known_peers: Arc<KnownPeers>,
    /// What clients dial to reach the master, as the name servers say; a slave copies from there.
    pub master: watch::Sender<Option<String>>,
    /// The master's tables are others than those that were copied.
    pub master_changed: Notify,
    /// Another master of this name has a newer epoch: who.
    pub fenced: watch::Sender<Option<String>>,
}

/// How replication stands, for people and machines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// As `brokerRole` says it.
    pub role: Cow<'static, str>,
    /// The number of the newest epoch, and where it began.
    pub epoch: u64,
    pub epoch_start: u64,
    /// Units: offsets of the log.
    pub written: u64,
    pub visible: u64,
    /// Of a master.
    pub slaves: Vec<SlaveStatus>,
    /// Of a slave: the HA address of its master.
    pub master: Option<String>,
    pub is_connected: bool,
    /// Units: bytes of the master's log that are known and not here.
    pub behind_bytes: u64,
    /// Why the last connection to the master ended.
    pub fault: Option<String>,
    /// The newest file in `hotfire/cut/`, which names where it was cut.
    pub last_cut: Option<String>,
}

/// One slave of a master.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SlaveStatus {
    pub addr: String,
    /// Everything below is there. Units: offsets of the log.
    pub acked: u64,
    pub sent: u64,
    pub behind_bytes: u64,
    /// Since when it has not had all of the log; 0 while it has. Units: milliseconds.
    pub behind_ms: u64,
}

/// How far consumers and delay levels were at the master when its log ended at `at`. What they say
/// is done was done below: a slave must have the log up to there before it says so too, or a
/// promotion would leave out what it lacks.
#[derive(Debug)]
pub struct Progress {
    pub at: PhysicalOffset,
    /// The newest epoch of the master's log: another log has other records below `at`.
    pub epoch: Option<Epoch>,
    /// `Offsets::hand_overs` before the master was asked.
    pub hand_overs: u64,
    pub offsets: OffsetFile,
    pub delays: DelayOffsets,
}

/// How far the master's transactions had ended when its log ended at `at`: offsets of the half and
/// of the op topic. A start as master leaves out what has ended, so a power loss must not take its
/// op messages from the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub at: PhysicalOffset,
    pub half: Option<i64>,
    pub op: Option<i64>,
}

/// A slave's copy of the master's progress that waits for the log, or for its disk.
#[derive(Debug, Default)]
pub struct Pending {
    next: Option<Progress>,
    ended: Option<Ended>,
}

impl Pending {
    /// The master was asked. What waits already goes before: on a slave that is always behind the
    /// newest would never be due.
    pub fn on_copied(&mut self, progress: Progress) {
        self.next.get_or_insert(progress);
    }

    /// What may be taken over now that the log is written from `min` up to `written`. A log that
    /// shall begin where its master's last file does has nothing of it yet: until its first record
    /// is there, a crash leaves it empty at 0. What was said of a log that is followed no more, as
    /// `epoch` shows, is dropped.
    pub fn take_due(
        &mut self,
        min: PhysicalOffset,
        written: PhysicalOffset,
        epoch: Option<Epoch>,
    ) -> Option<Progress> {
        let has_begun = min < written || min.0 == 0;
        self.next.take_if(|progress| progress.epoch != epoch);
        self.next.take_if(|progress| has_begun && progress.at <= written)
    }

    /// The rest of this progress was taken over.
    pub fn on_taken(&mut self, ended: Ended) {
        self.ended.get_or_insert(ended);
    }

    /// What may be taken over now that the log is on disk up to `synced`.
    pub fn take_ended(&mut self, synced: PhysicalOffset) -> Option<Ended> {
        self.ended.take_if(|ended| ended.at <= synced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(at: u64) -> Progress {
        let (offsets, delays) = (OffsetFile::default(), DelayOffsets::default());
        Progress { at: PhysicalOffset(at), epoch: None, hand_overs: 0, offsets, delays }
    }

    #[test]
    fn progress_waits_for_the_log_and_the_oldest_goes_first() {
        let (mut pending, start) = (Pending::default(), PhysicalOffset(0));
        pending.on_copied(progress(100));
        assert!(pending.take_due(start, PhysicalOffset(99), None).is_none());
        pending.on_copied(progress(200));
        let due = pending.take_due(start, PhysicalOffset(100), None).map(|progress| progress.at);
        assert_eq!(due, Some(PhysicalOffset(100)));
        assert!(pending.take_due(start, PhysicalOffset(500), None).is_none());
    }

    #[test]
    fn progress_of_a_log_that_is_followed_no_more_is_dropped() {
        let (mut pending, start) = (Pending::default(), PhysicalOffset(0));
        let epoch = |number| Some(Epoch { number, id: 7, start: 0 });
        pending.on_copied(Progress { epoch: epoch(1), ..progress(100) });
        assert!(pending.take_due(start, PhysicalOffset(50), epoch(1)).is_none());
        assert!(pending.take_due(start, PhysicalOffset(200), epoch(2)).is_none());
        pending.on_copied(Progress { epoch: epoch(2), ..progress(150) });
        let due = pending.take_due(start, PhysicalOffset(200), epoch(2));
        assert_eq!(due.map(|progress| progress.at), Some(PhysicalOffset(150)));
    }

    #[test]
    fn ends_of_transactions_wait_for_the_disk_and_the_oldest_go_first() {
        let mut pending = Pending::default();
        let ended = |at| Ended { at: PhysicalOffset(at), half: Some(1), op: None };
        pending.on_taken(ended(100));
        pending.on_taken(ended(200));
        assert_eq!(pending.take_ended(PhysicalOffset(99)), None);
        assert_eq!(pending.take_ended(PhysicalOffset(100)), Some(ended(100)));
        assert_eq!(pending.take_ended(PhysicalOffset(500)), None);
    }

    #[test]
    fn progress_waits_for_the_first_record_of_a_log_that_begins_elsewhere() {
        let (mut pending, start) = (Pending::default(), PhysicalOffset(4_096));
        pending.on_copied(progress(4_000));
        assert!(pending.take_due(start, start, None).is_none());
        assert!(pending.take_due(start, PhysicalOffset(4_200), None).is_some());
        // A master that has no message yet may have offsets.
        pending.on_copied(progress(0));
        assert!(pending.take_due(PhysicalOffset(0), PhysicalOffset(0), None).is_some());
    }
}
