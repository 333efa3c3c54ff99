//! Which machines can know of each other, judged from what the simulated wire took and lost.

use super::court::Court;
use super::reign::{Ledger, Reign, SLACK_US, Start};
use super::replica::Raw;
use crate::plan::Role;
use crate::workload::cluster::{BROKER_PORT, HA_PORT, NAME_SERVER_PORT};
use hotfire::rt::sim::mark;

/// What a name server was connected to for so long it has heard of. Units: microseconds.
const REGISTERED_US: u64 = 1_000_000;

impl Court {
    /// Whether a master knows where the other is, whatever name servers say: it followed this one,
    /// and this one has its disk.
    pub(super) fn knows(&self, ledger: &Ledger, machine: usize, other: usize) -> bool {
        let raw = Raw::of(&self.world().machines()[other].disk, false);
        let now = ledger.losses(self);
        let mut own = ledger.acks.iter().filter(|ack| ack.place.machine == machine);
        own.any(|ack| ack.losses[machine].1 == now[machine].1 && raw.has(ack.id, &ack.place))
    }

    /// Whether a process can know where the other is: with the disk that its machine has it has
    /// followed somebody, or was followed, or a name server has answered it that had heard of the
    /// other.
    pub(super) fn can_find(
        &self,
        ledger: &Ledger,
        machine: usize,
        started_us: u64,
        other: usize,
    ) -> bool {
        let taken_us = |from, to, port| self.world().net().line(from, to, port).taken_us;
        let since = |us: Option<u64>, from: u64| us.filter(|us| *us >= from);
        let lost_us = ledger.disk_lost_us(machine);
        let machines = 0..self.plan().machines.len();
        let has_met = machines.clone().any(|n| {
            let met_us = taken_us(machine, n, HA_PORT).max(taken_us(n, machine, HA_PORT));
            since(met_us, lost_us).is_some()
        });
        let Some(open) = ledger.open.get(&other) else { return has_met };
        let is_told = machines.into_iter().any(|n| {
            // It forgets when it starts again.
            let from_us = open.started_us.max(self.world().down_us(n));
            let told_us = since(taken_us(other, n, NAME_SERVER_PORT), from_us);
            let asked_us = since(taken_us(machine, n, NAME_SERVER_PORT), started_us);
            asked_us.is_some() && told_us.is_some_and(|us| us + REGISTERED_US < started_us)
        });
        has_met || is_told
    }

    /// Whether a process whose machine lost its disk cannot know of anybody.
    pub(super) fn is_blind(&self, ledger: &Ledger, machine: usize, started_us: u64) -> bool {
        let others = (0..self.plan().machines.len()).filter(|n| *n != machine);
        let mut others = others.filter(|n| self.plan().machines[*n].pair.is_some());
        let is_blind = ledger.disk_lost_us(machine) > 0
            && !others.any(|n| self.can_find(ledger, machine, started_us, n));
        if is_blind {
            mark("promotion: a master began that could not know of anybody");
        }
        is_blind
    }

    /// Whether a slave lets the other read its log. Of two slaves one may never have heard of the
    /// other, which no name server knows while it starts: they know each other when one of them
    /// has followed the other with the disk that the slave has now, or when the slave came after
    /// the other to a master that both have followed, which told it.
    pub(super) fn lets_read(
        &self,
        ledger: &Ledger,
        slave: usize,
        machine: usize,
        others: &[usize],
    ) -> bool {
        let lost_us = |n: usize| ledger.disk_lost_us(n);
        let taken_us = |from, to| self.world().net().line(from, to, HA_PORT).taken_us;
        let has_followed = |from, to| taken_us(from, to).is_some_and(|us| us >= lost_us(slave));
        let has_been_told = |master: usize| {
            let (first, then) = (taken_us(machine, master), taken_us(slave, master));
            let first = first.filter(|us| *us >= lost_us(master));
            first.is_some_and(|first| then.is_some_and(|us| us >= first.max(lost_us(slave))))
        };
        let machines = self.plan().machines.iter();
        let is_only_one = machines.filter(|m| m.role == Role::Slave).count() == 1;
        let is_known = is_only_one && others.len() == 1;
        let is_told = (0..self.plan().machines.len()).any(has_been_told);
        if is_told {
            mark("promotion: a slave was told by its master who else follows it");
        }
        is_known || has_followed(slave, machine) || has_followed(machine, slave) || is_told
    }

    /// Whether a master asked another as long as it is to, and the network lost it all: not even a
    /// connection came about. It is told of more only later.
    pub(super) fn asked_in_vain(&self, reign: Reign, start: Start, other: usize) -> bool {
        let line = self.world().net().line(reign.machine, other, BROKER_PORT);
        let is_lost = line.lost_us.is_some_and(|us| us >= start.started_us);
        let until_us = (start.started_us + start.wait_us).saturating_sub(SLACK_US);
        let is_asked = |us: &u64| (start.started_us..=until_us).contains(us);
        let is_in_vain = is_lost && !line.answered_us.iter().any(is_asked);
        let has_waited = reign.since_us >= until_us;
        if is_in_vain && has_waited {
            mark("promotion: a master began without a word of one that answers others");
        }
        is_in_vain && has_waited
    }
}
