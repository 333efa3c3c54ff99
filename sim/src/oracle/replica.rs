//! Masters and slaves, judged from their files and from what producers were told.

use super::court::{Court, ROOT};
use super::files::{self, Log, Record};
use super::judge::Verdict;
use super::timer;
use crate::disk::SimDisk;
use crate::history::{self, Fate, History, Id, Place};
use crate::plan::{PairPlan, Role};
use crate::scenario::Oracle;
use hotfire::rt::sim::mark;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A producer was told that a slave has its message.
#[derive(Clone, Debug)]
pub struct Replicated {
    pub id: Id,
    pub place: Place,
    /// How often each slave had lost power when the message was sent.
    pub powers: Powers,
}

/// Slave → power losses.
pub type Powers = BTreeMap<usize, u64>;

/// The bytes of a commit log by the offset at which each file begins.
pub struct Raw(BTreeMap<u64, Vec<u8>>);

impl Raw {
    /// As a process would read them now; or as they would be after a loss of power.
    pub fn of(disk: &SimDisk, is_durable: bool) -> Raw {
        let dir = format!("{ROOT}/commitlog");
        let mut all = BTreeMap::new();
        for path in disk.files() {
            let Some(base) = files::log_base(&path, &dir) else { continue };
            let bytes = if is_durable { disk.peek_durable(&path) } else { disk.peek(&path) };
            all.insert(base, bytes.unwrap_or_default());
        }
        Raw(all)
    }

    fn from(&self, physical: u64) -> Option<&[u8]> {
        let (base, bytes) = self.0.range(..=physical).next_back()?;
        bytes.get(usize::try_from(physical - base).ok()?..)
    }

    pub fn record(&self, physical: u64) -> Option<Record> {
        files::record(physical, self.from(physical)?).ok()
    }

    /// Whether message `id` lies where a producer was told. A timed one was told its own queue.
    pub fn has(&self, id: Id, place: &Place) -> bool {
        self.record(place.physical).is_some_and(|record| {
            history::id_in(&record.properties) == Some(id)
                && (record.queue == place.queue || record.topic == timer::TOPIC)
                && record.queue_offset == place.queue_offset
        })
    }
}

/// A commit log as it is at one moment.
pub struct LogFiles {
    pub log: Log,
    pub raw: Raw,
}

impl LogFiles {
    pub fn of(disk: &SimDisk) -> LogFiles {
        LogFiles { log: files::log(disk, &format!("{ROOT}/commitlog")), raw: Raw::of(disk, false) }
    }
}

/// A slave has the same records at the same places as far as both logs reach, and nothing more.
/// What lies behind a blank record does not count.
pub fn is_prefix(slave: &LogFiles, master: &LogFiles) -> Verdict {
    let (ours, theirs) = (&slave.log, &master.log);
    if ours.end > theirs.end {
        return Err(format!("it ends at {}, its master's at {}", ours.end, theirs.end));
    }
    let from = ours.start.max(theirs.start);
    let both = |r: &&Record| r.physical >= from && r.physical < ours.end;
    let mut wanted = theirs.records.iter().filter(both);
    for record in ours.records.iter().filter(both) {
        let (at, size) = (record.physical, record.size as usize);
        let Some(want) = wanted.next() else {
            return Err(format!("the record at {at} is not its master's"));
        };
        let (have, is) = (slave.raw.from(at), master.raw.from(at));
        let is_same = have.and_then(|b| b.get(..size)) == is.and_then(|b| b.get(..size));
        if want.physical != at || want.size as usize != size || !is_same {
            let (want, end) = (want.physical, ours.end);
            return Err(format!(
                "the record at {at} of {size} bytes is not its master's, which has one at {want} \
                 (it ends at {end})"
            ));
        }
    }
    match wanted.next() {
        Some(record) => Err(format!("the record at {} of its master is left out", record.physical)),
        None => Ok(()),
    }
}

impl Court {
    pub fn pair(&self, machine: usize) -> Option<&PairPlan> {
        self.plan().machines.get(machine)?.pair.as_ref()
    }

    pub fn slaves_of(&self, master: usize) -> Vec<usize> {
        let machines = &self.plan().machines;
        let follows = |n: &usize| self.pair(*n).is_some_and(|pair| pair.master == master);
        (0..machines.len()).filter(|n| machines[*n].role == Role::Slave).filter(follows).collect()
    }

    pub fn powers(&self, master: usize) -> Powers {
        let slaves = self.slaves_of(master).into_iter();
        slaves.map(|slave| (slave, self.world().power_losses(slave))).collect()
    }

    /// A slave that has not the whole log of its master: which, how far, and how far it should.
    pub fn slave_behind(&self) -> Option<(usize, u64, u64)> {
        let end = |n: usize| files::log(self.disk(n), &format!("{ROOT}/commitlog")).end;
        let all = 0..self.plan().machines.len();
        let slaves = all.filter(|n| self.plan().machines[*n].role == Role::Slave);
        let behind = |slave| {
            let master = self.pair(slave)?.master;
            let (has, want) = (end(slave), end(master));
            (has != want && self.lost_copy(master).is_none()).then_some((slave, has, want))
        };
        slaves.filter_map(behind).next()
    }

    /// Whether a slave's log begins behind a place.
    pub fn is_outside(&self, slave: usize, physical: u64) -> bool {
        self.pair(slave).is_some() && physical < self.log_start(slave)
    }

    /// Whether any record lies at a place of a slave's log.
    pub fn has(&self, slave: usize, physical: u64) -> bool {
        Raw::of(self.disk(slave), false).record(physical).is_some()
    }

    pub(super) fn disk(&self, machine: usize) -> &SimDisk {
        &self.world().machines()[machine].disk
    }

    /// A store opened, or stopped for the last time (`is_end`): slaves against their masters.
    pub fn judge_pairs(&self, machine: usize, is_end: bool) {
        let Some(pair) = self.pair(machine) else { return };
        let (master, is_master) = (pair.master, pair.master == machine);
        let slaves = if is_master { self.slaves_of(master) } else { vec![machine] };
        let lost = self.lost_copy(master);
        let theirs = lost.clone().or_else(|| self.log_to_follow(master));
        if let Some(theirs) = theirs.filter(|_| self.wants(Oracle::Replicas)) {
            let may_differ = |slave| self.left_from(slave).is_some() && (!is_end || lost.is_some());
            // What a crash left of a slave's log is no log before its store has opened.
            let is_whole = |slave: &usize| {
                let is_open = self.is_open(*slave, self.world().generation(*slave));
                *slave == machine || (self.world().is_up(*slave) && is_open)
            };
            for slave in slaves.into_iter().filter(is_whole) {
                let ours = LogFiles::of(self.disk(slave));
                let verdict = is_prefix(&ours, &theirs);
                let name = &self.plan().machines[slave].name;
                match verdict {
                    Ok(()) if !is_master => self.on_same_again(slave),
                    Ok(()) => {}
                    Err(_) if may_differ(slave) => {}
                    Err(what) => {
                        let told = format!("the log of {name}: {what}");
                        self.check("replica_prefix", Err(told));
                    }
                }
            }
        }
        self.judge_replicated(master);
    }

    /// A master came back without these, as their answers allowed: what was said of slaves when
    /// they were answered binds nobody any more.
    pub(super) fn forget_replicated(&self, master: usize) {
        self.history(|history| {
            let History { replicated, sent, shown_alone, .. } = history;
            replicated.retain(|told| {
                let fate = sent.get(told.id as usize).map(|sent| sent.fate);
                told.place.machine != master || fate != Some(Fate::LostLegally)
            });
            let raw = Raw::of(self.disk(master), false);
            shown_alone.retain(|(machine, id, physical)| {
                let is_there = raw
                    .record(*physical)
                    .is_some_and(|record| history::id_in(&record.properties) == Some(*id));
                *machine != master || is_there
            });
        });
    }

    /// A master says that a slave has the message: one has it, whatever happens to it next.
    pub fn on_replicated(&self, told: Replicated) {
        if !self.wants(Oracle::SyncMaster) {
            return;
        }
        let verdict = self.is_replicated(&told, true);
        self.check("sync_master_acks", verdict.map(|_| ()));
        self.history(|h| h.replicated.push(told));
    }

    /// Whether a reader sees at a SYNC_MASTER what no slave has.
    pub fn is_alone(&self, master: usize, id: Id, place: &Place) -> bool {
        let waits = self.pair(master).is_some_and(|pair| pair.is_sync_master);
        let slaves = self.slaves_of(master);
        let has = |slave: &usize| Raw::of(self.disk(*slave), false).has(id, place);
        waits && self.wants(Oracle::SyncMaster) && !slaves.iter().any(has)
    }

    /// What was said to be at a slave is still at one.
    pub fn judge_replicated(&self, master: usize) {
        if !self.wants(Oracle::SyncMaster) {
            return;
        }
        let (ours, others): (Vec<_>, Vec<_>) = self.history(|h| {
            std::mem::take(&mut h.replicated).into_iter().partition(|r| r.place.machine == master)
        });
        let mut kept = others;
        for told in ours {
            match self.is_replicated(&told, false) {
                Ok(true) => kept.push(told),
                Ok(false) => {}
                Err(what) => self.check("sync_master_acks", Err(what)),
            }
        }
        self.history(|h| h.replicated = kept);
    }

    /// False: the only slaves that may have had it wrote before they synced, and one of them lost
    /// power. `is_now`: the answer came this moment.
    fn is_replicated(&self, told: &Replicated, is_now: bool) -> Result<bool, String> {
        let machines = &self.plan().machines;
        let mut is_void = false;
        for (slave, before) in &told.powers {
            let is_sync = machines[*slave].sync_flush;
            if Raw::of(self.disk(*slave), is_sync).has(told.id, &told.place) {
                return Ok(true);
            }
            is_void |= !is_sync && self.world().power_losses(*slave) != *before;
        }
        if is_void {
            mark("ha: an asynchronous slave lost what it had said it had");
            return Ok(false);
        }
        let (id, at) = (told.id, told.place.physical);
        let when = if is_now { "when that was said" } else { "now" };
        Err(format!("message {id} at {at} was said to be at a slave, and {when} none has it"))
    }

    /// A master is lost with its disk. What no slave has is lost, unless one was said to have it.
    pub fn lose(&self, master: usize) {
        self.world().lose(master);
        self.judge_pairs(master, false);
        let now = || Arc::new(LogFiles::of(self.disk(master)));
        self.keep_lost(master, self.log_to_follow(master).unwrap_or_else(now));
        self.disk(master).erase_tree("/data");
        mark("ha: a master was lost with its disk");
        let slaves = self.slaves_of(master).into_iter();
        let slaves: Vec<Raw> = slaves.map(|n| Raw::of(self.disk(n), false)).collect();
        self.history(|history| {
            for (id, sent) in history.sent.iter_mut().enumerate() {
                let Fate::Acked { place, .. } = sent.fate else { continue };
                let is_there = slaves.iter().any(|raw| raw.has(id as Id, &place));
                if place.machine == master && !is_there {
                    sent.fate = Fate::LostLegally;
                }
            }
        });
    }
}
