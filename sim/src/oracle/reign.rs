//! Masters and those who take over from them: what a producer was told holds for the next one.
//!
//! Judged from answers, from the moments at which ports open, and from the files of all machines.

use super::court::{Court, ROOT};
use super::files;
use super::judge::Verdict;
use super::replica::{self, LogFiles, Raw};
use crate::history::{Id, Place};
use crate::plan::Role;
use crate::scenario::Oracle;
use crate::trace;
use crate::workload::cluster::HA_PORT;
use hotfire::client::SendStatus;
use hotfire::rt::sim::mark;
use std::collections::{BTreeMap, BTreeSet};

/// A slave whose port is open so long has said so to everybody who asks. Units: microseconds.
const SETTLED_US: u64 = 300_000;

/// The last pause of a start that asks is not waited for. Units: microseconds.
pub(super) const SLACK_US: u64 = 400_000;

/// After an orderly stop nobody is waited for longer. Units: microseconds.
const WHOLE_WAIT_US: u64 = 6_000_000;

/// A producer was told that its message is stored.
#[derive(Clone, Debug)]
pub struct Ack {
    pub id: Id,
    pub place: Place,
    pub status: SendStatus,
    /// The broker waits for a slave before it says OK.
    pub is_sync_master: bool,
    /// How often each machine had lost power, and its disk, before the message was sent.
    pub losses: Vec<(u64, u64)>,
    /// When the process that acked it opened its port. Units: microseconds.
    pub open_us: u64,
    pub fate: AckFate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckFate {
    Kept,
    /// The one who goes on has it not, as the answer allowed.
    Lost,
}

/// A broker may write, since it opened its first port.
#[derive(Clone, Copy, Debug)]
pub struct Reign {
    pub machine: usize,
    pub generation: u64,
    pub since_us: u64,
}

/// What is promised of a process that becomes a master.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// Units: microseconds.
    pub started_us: u64,
    /// How long it asks those of whom it hears nothing. Units: microseconds.
    pub wait_us: u64,
}

/// A process that others can ask.
#[derive(Clone, Copy, Debug)]
pub struct Open {
    pub generation: u64,
    /// When the process began, and when its port opened. Units: microseconds.
    pub started_us: u64,
    pub since_us: u64,
    pub is_master: bool,
}

/// What is known of one pair.
#[derive(Default)]
pub struct Ledger {
    pub acks: Vec<Ack>,
    /// In order.
    pub reigns: Vec<Reign>,
    /// Those that began where nobody heard them: what they left out nobody has judged.
    pub unjudged: Vec<Reign>,
    /// Per machine: the process whose port is open.
    pub open: BTreeMap<usize, Open>,
    /// Per machine: when it opened its port as a slave. Units: microseconds.
    pub slave_us: BTreeMap<usize, Vec<u64>>,
    /// Machines that none of the others hears.
    pub isolated: BTreeSet<usize>,
    /// When a machine was last alone. Units: microseconds.
    pub alone_us: BTreeMap<usize, u64>,
    /// When a machine lost its disk. Units: microseconds.
    pub disk_losses_us: BTreeMap<usize, Vec<u64>>,
    /// Per machine: the last process that ended in order.
    pub in_order: BTreeMap<usize, u64>,
}

impl Ledger {
    pub fn losses(&self, court: &Court) -> Vec<(u64, u64)> {
        let all = 0..court.world().machines().len();
        let disks = |n| self.disk_losses_us.get(&n).map_or(0, |all| all.len() as u64);
        all.map(|n| (court.world().power_losses(n), disks(n))).collect()
    }

    /// When a machine lost its disk last; 0 when it has the first one.
    pub fn disk_lost_us(&self, machine: usize) -> u64 {
        self.disk_losses_us.get(&machine).and_then(|all| all.last().copied()).unwrap_or(0)
    }

    /// Of a process that is given so long to ask those of whom it hears nothing.
    pub fn start(
        &self,
        (machine, generation): (usize, u64),
        started_us: u64,
        wait_us: u64,
    ) -> Start {
        let is_whole = self.in_order.get(&machine).is_some_and(|last| last + 1 == generation);
        let wait_us = if is_whole { wait_us.min(WHOLE_WAIT_US) } else { wait_us };
        Start { started_us, wait_us }
    }

    /// Whether whoever asks this machine is answered, and has been since `since_us`.
    pub fn answers(&self, court: &Court, machine: usize, since_us: u64) -> bool {
        let world = court.world();
        let Some(open) = self.open.get(&machine) else { return false };
        world.is_up(machine)
            && !world.is_stopping(machine)
            && world.generation(machine) == open.generation
            && open.since_us + SETTLED_US < since_us
            && !self.isolated.contains(&machine)
            && self.alone_us.get(&machine).copied().unwrap_or(0) < since_us
    }

    /// The last one to begin, if it still writes.
    pub fn reigning(&self, court: &Court) -> Option<Reign> {
        let last = self.reigns.last().copied()?;
        let world = court.world();
        let is_alive = world.is_up(last.machine)
            && world.generation(last.machine) == last.generation
            && !world.is_stopping(last.machine);
        is_alive.then_some(last)
    }
}

fn raw(court: &Court, machine: usize) -> Raw {
    Raw::of(&court.world().machines()[machine].disk, false)
}

fn log_files(court: &Court, machine: usize) -> LogFiles {
    LogFiles::of(&court.world().machines()[machine].disk)
}

impl Court {
    /// A broker that may write opens its first port. `others`: the slaves of its name.
    pub fn on_reign(&self, ledger: &mut Ledger, reign: Reign, start: Start, others: &[usize]) {
        let started_us = start.started_us;
        // Who starts where nobody hears it cannot know of others. What it takes then is judged when
        // it is heard again.
        let alone_us = ledger.alone_us.get(&reign.machine);
        let is_alone = ledger.isolated.contains(&reign.machine)
            || alone_us.is_some_and(|alone_us| *alone_us >= started_us)
            || self.is_blind(ledger, reign.machine, started_us);
        if !self.wants(Oracle::Reigns) {
            return;
        }
        if is_alone {
            ledger.unjudged.push(reign);
            return;
        }
        let only = self.is_only_one(ledger, reign, started_us);
        let beside = ledger.reigning(self).filter(|_| only.is_err());
        if beside.is_some_and(|other| self.asked_in_vain(reign, start, other.machine)) {
            // So is what is taken by one that hears nothing as long as it is to ask.
            ledger.unjudged.push(reign);
            return;
        }
        self.check("second_master", only);
        let mine = log_files(self, reign.machine);
        let answers = |n: &usize| {
            ledger.answers(self, *n, started_us)
                && self.can_find(ledger, reign.machine, started_us, *n)
                && !self.asked_in_vain(reign, start, *n)
        };
        let answering: Vec<usize> = others.iter().copied().filter(answers).collect();
        for other in answering.iter().filter(|n| self.lets_read(ledger, **n, reign.machine, others))
        {
            self.check("catch_up", self.has_taken(&mine, reign.machine, *other));
        }
        self.check("next_master_has_it", self.judge_acks(ledger, reign, &mine, Some(&answering)));
        ledger.reigns.push(reign);
    }

    /// Nobody begins to write beside one who has begun later than it and can be asked.
    fn is_only_one(&self, ledger: &Ledger, reign: Reign, started_us: u64) -> Verdict {
        match ledger.reigning(self) {
            Some(other)
                if other.machine != reign.machine
                    && ledger.answers(self, other.machine, started_us)
                    && self.knows(ledger, reign.machine, other.machine) =>
            {
                Err(format!(
                    "machine {} begins to write beside machine {}, which is master since {:.3} s \
                     and answers",
                    reign.machine,
                    other.machine,
                    other.since_us as f64 / 1e6
                ))
            }
            _ => Ok(()),
        }
    }

    /// What a slave that answers has more was taken, unless both went different ways before, or its
    /// log begins behind the end of this one.
    pub(super) fn has_taken(&self, mine: &LogFiles, machine: usize, other: usize) -> Verdict {
        let theirs = log_files(self, other);
        let is_apart = theirs.log.start > mine.log.end;
        let is_longer = theirs.log.end > mine.log.end && !is_apart;
        if !is_longer || replica::is_prefix(mine, &theirs).is_err() {
            return Ok(());
        }
        // A slave that syncs first has what it has synced: the rest it has told nobody of.
        let is_sync = self.plan().machines[other].sync_flush;
        let disk = &self.world().machines()[other].disk;
        if is_sync && Raw::of(disk, true).record(mine.log.end).is_none() {
            return Ok(());
        }
        Err(format!(
            "machine {machine} begins to write at {}, and machine {other}, which answers, has the \
             same log up to {}",
            mine.log.end, theirs.log.end
        ))
    }

    /// What was acked is there, as far as the answers bind. `answering`: the slaves that could be
    /// asked; `None` at the end, when nothing is excused by those who could not.
    fn judge_acks(
        &self,
        ledger: &mut Ledger,
        reign: Reign,
        mine: &LogFiles,
        answering: Option<&[usize]>,
    ) -> Verdict {
        let now = ledger.losses(self);
        let machines = &self.plan().machines;
        let all = (0..machines.len()).filter(|n| machines[*n].pair.is_some());
        let all = all.filter(|n| answering.is_some() && *n != reign.machine);
        let (held, away): (Vec<_>, Vec<_>) =
            all.partition(|n| answering.is_some_and(|all| all.contains(n)));
        // What a slave that syncs first has not synced it has told nobody of.
        let told = |n: usize| Raw::of(&self.world().machines()[n].disk, machines[n].sync_flush);
        let held: Vec<_> = held.into_iter().map(|n| (n, told(n))).collect();
        let mut away: Vec<_> = away.into_iter().map(|n| (n, raw(self, n))).collect();
        // Nobody takes from a master, which is judged for itself.
        let is_master = |n: &usize| ledger.open.get(n).is_some_and(|open| open.is_master);
        away.retain(|(n, _)| !(is_master(n) && ledger.answers(self, *n, reign.since_us)));
        for ack in ledger.acks.iter_mut().filter(|ack| ack.fate == AckFate::Kept) {
            let is_there = mine.raw.has(ack.id, &ack.place);
            if is_there || ack.place.physical < mine.log.start {
                continue;
            }
            let (id, at, by) = (ack.id, ack.place.physical, ack.place.machine);
            let has = |(n, raw): &&(usize, Raw)| *n != by && raw.has(id, &ack.place);
            if by != reign.machine && away.iter().any(|one| has(&one)) {
                mark("promotion: an acked message was left to a slave that could not be asked");
                ack.fate = AckFate::Lost;
                continue;
            }
            if let Some(why) = self.binds(ack, reign.machine, &now) {
                if self.gave_up(ack, &ledger.unjudged) {
                    mark("promotion: an acked message was given up to a master that nobody judged");
                    ack.fate = AckFate::Lost;
                    continue;
                }
                if self.has_come_back(ack, reign.machine, &ledger.reigns, &ledger.slave_us) {
                    mark("promotion: a replaced master came back and took messages with a slave");
                    ack.fate = AckFate::Lost;
                    continue;
                }
                return Err(format!(
                    "message {id} at {at} was acked by machine {by}, {why}, and machine {} begins \
                     to write at {} without it",
                    reign.machine, mine.log.end
                ));
            }
            let is_own = by == reign.machine;
            if is_own && let Some((n, _)) = held.iter().find(|(_, raw)| raw.has(id, &ack.place)) {
                return Err(format!(
                    "message {id} at {at} was acked by machine {by}, which begins to write \
                     without it; machine {n} has it and answers"
                ));
            }
            mark("promotion: an acked message was left behind, as its answer allowed");
            ack.fate = AckFate::Lost;
        }
        Ok(())
    }

    /// Whether a machine cut off and kept what it had acked, as it should when it followed a later
    /// master that has it not. Nobody asked that one for it when it began. What a slave was said to
    /// have is not given up.
    fn gave_up(&self, ack: &Ack, unjudged: &[Reign]) -> bool {
        let by = ack.place.machine;
        let has_followed = |next: &Reign| {
            let taken_us = self.world().net().line(by, next.machine, HA_PORT).taken_us;
            next.machine != by
                && next.since_us > ack.open_us
                && taken_us.is_some_and(|us| us > next.since_us)
        };
        let is_at_slave = ack.is_sync_master && ack.status == SendStatus::Ok;
        !is_at_slave && unjudged.iter().any(has_followed) && self.is_in_cut(by, ack.id)
    }

    /// Whether a master came back, and not as a slave, although the next one had replaced it: of
    /// two slaves one may not have heard of that, and follow it until it has.
    fn has_come_back(
        &self,
        ack: &Ack,
        next: usize,
        reigns: &[Reign],
        slave_us: &BTreeMap<usize, Vec<u64>>,
    ) -> bool {
        let by = ack.place.machine;
        let as_slave = slave_us.get(&by).map_or(&[][..], Vec::as_slice);
        let has_replaced = |reign: &Reign| {
            let between = reign.since_us..ack.open_us;
            reign.machine == next
                && !between.is_empty()
                && !as_slave.iter().any(|us| between.contains(us))
        };
        let slaves = self.plan().machines.iter().filter(|m| m.role == Role::Slave).count();
        next != by && slaves > 1 && reigns.iter().any(has_replaced)
    }

    /// Why the next master must have it, if it must.
    fn binds(&self, ack: &Ack, next: usize, now: &[(u64, u64)]) -> Option<String> {
        let machines = &self.plan().machines;
        let (by, status) = (ack.place.machine, ack.status);
        let same_disk = |n: usize| ack.losses[n].1 == now[n].1;
        let same_power = |n: usize| ack.losses[n].0 == now[n].0;
        if next == by {
            let is_synced = machines[by].sync_flush && status == SendStatus::Ok;
            let binds = same_disk(by) && (same_power(by) || is_synced);
            return binds.then(|| format!("{status:?}, which lost nothing since"));
        }
        let slaves = (0..machines.len()).filter(|n| *n != by && machines[*n].pair.is_some());
        let keeps = |n: usize| same_disk(n) && (same_power(n) || machines[n].sync_flush);
        let mut slaves = slaves;
        let binds = ack.is_sync_master && status == SendStatus::Ok && slaves.all(keeps);
        binds.then(|| "which said that a slave has it".to_owned())
    }

    /// A broker said that a message is stored, some time ago. One that was replaced may have been
    /// able to know it for `patience_us` and no longer.
    pub fn on_reign_ack(&self, ledger: &mut Ledger, mut ack: Ack, patience_us: u64) {
        let machine = ack.place.machine;
        let is_other = |reign: &Reign| reign.machine != machine;
        let is_since = |reign: &Reign| is_other(reign) && reign.since_us > ack.open_us;
        let is_replaced =
            ledger.reigns.last().is_some_and(is_other) || ledger.reigns.iter().any(is_since);
        // What it takes beside its successor binds nobody, unless the only slave has it. Of two
        // slaves one may not have heard of the successor, and follow the old one for a while.
        let others = self.plan().machines.iter().filter(|m| m.role == Role::Slave).count();
        let has_slave = ack.is_sync_master && ack.status == SendStatus::Ok && others == 1;
        if is_replaced && !has_slave {
            mark("promotion: a replaced master took a message");
            ack.fate = AckFate::Lost;
        }
        ledger.acks.push(ack);
        let Some(last) = ledger.reigning(self).filter(|last| last.machine != machine) else {
            return;
        };
        let now = trace::now_us();
        let alone = [machine, last.machine].map(|n| ledger.alone_us.get(&n).copied().unwrap_or(0));
        let since = alone.into_iter().max().unwrap_or(0).max(last.since_us);
        let is_apart = [machine, last.machine].iter().any(|n| ledger.isolated.contains(n));
        if self.wants(Oracle::Reigns) && !is_apart && now > since + patience_us {
            let what = format!(
                "machine {machine} stored a message, although machine {} is master since {:.3} s \
                 and both could hear of it since {:.3} s",
                last.machine,
                last.since_us as f64 / 1e6,
                since as f64 / 1e6
            );
            self.check("second_writer", Err(what));
        }
    }

    /// The end of a run: `master` goes on, everybody else has its log; what was cut was kept.
    pub fn check_reigns(&self, ledger: &mut Ledger, master: usize, others: &[usize]) {
        if !self.wants(Oracle::Reigns) {
            return;
        }
        let mine = log_files(self, master);
        let last = Reign { machine: master, generation: 0, since_us: trace::now_us() };
        self.check("next_master_has_it", self.judge_acks(ledger, last, &mine, None));
        for other in others {
            let theirs = log_files(self, *other);
            let is_same = replica::is_prefix(&theirs, &mine);
            let told = is_same.map_err(|what| format!("the log of machine {other}: {what}"));
            self.check("replica_prefix", told);
        }
        let now = ledger.losses(self);
        for ack in &ledger.acks {
            if mine.raw.has(ack.id, &ack.place) || ack.place.physical < mine.log.start {
                continue;
            }
            let (id, by, at) = (ack.id, ack.place.machine, ack.place.physical);
            if self.own_files_deleted() || ack.losses[by] != now[by] {
                continue;
            }
            if !self.is_in_cut(by, id) {
                let what = format!(
                    "message {id} at {at} was acked by machine {by}, which cut it off and did not \
                     keep it"
                );
                self.check("cut_is_kept", Err(what));
            } else {
                mark("promotion: what was cut off lies in hotfire/cut");
            }
        }
    }

    /// Where the log of a machine ends now.
    pub fn log_end(&self, machine: usize) -> u64 {
        files::log(&self.world().machines()[machine].disk, &format!("{ROOT}/commitlog")).end
    }
}

/// The place that an answer names. Errors: what cannot be read.
pub fn place_of(machine: usize, answer: &hotfire::protocol::Command) -> Result<Place, String> {
    let number = |name: &str| answer.get(name).and_then(|text| text.parse::<u64>().ok());
    let id = answer.get("msgId").unwrap_or_default();
    let physical = id.get(id.len().saturating_sub(16)..);
    let physical = physical.and_then(|hex| u64::from_str_radix(hex, 16).ok());
    match (physical, number("queueId"), number("queueOffset")) {
        (Some(physical), Some(queue), Some(queue_offset)) => {
            Ok(Place { machine, queue: queue as u32, queue_offset, physical })
        }
        _ => Err(format!("an ack with the message id {id:?}")),
    }
}
