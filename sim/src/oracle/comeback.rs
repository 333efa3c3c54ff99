//! A master whose power failed comes back: what slaves have of its log, and what readers were given
//! of it, is there again before its first port opens.
//!
//! A SYNC_FLUSH master lost nothing that it had acked or shown. An ASYNC_FLUSH master lost what was
//! not synced, and of that nothing is missed that a slave had which could be asked
//! ([`Court::could_be_asked`]). What is left over is excused, and only this: bytes that the master
//! no longer has, and that lie on a slave that it could not ask in the time that it waits, or on
//! none. Such a slave gives its bytes up when it next follows, and keeps them in `hotfire/cut/`;
//! until then, and from the place where its master went on, it may show what is taken back.

use super::court::{Court, ROOT};
use super::judge::Verdict;
use super::replica::{self, LogFiles, Raw};
use crate::history::{self, Fate, Id};
use crate::scenario::{FaultKind, Oracle};
use crate::trace;
use hotfire::rt::sim::mark;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A slave whose port is open so long has said so to everybody who asks. Units: microseconds.
const SETTLED_US: u64 = 300_000;

/// A connection that a broken link has cut is noticed, and made anew, by then. Units: microseconds.
const REJOINED_US: u64 = 8_000_000;

/// Its last pause is not waited for. Units: microseconds.
const SLACK_US: u64 = 400_000;

/// A round of questions to silent name servers and peers. Units: microseconds.
const ROUND_US: u64 = 4_000_000;

/// What is known of masters that came back.
#[derive(Default)]
pub struct Returns {
    /// Per machine: the process whose main port is open, and since when. Units: microseconds.
    listening: BTreeMap<usize, (u64, u64)>,
    /// Per machine: how often it had lost power when its store opened last.
    opened: BTreeMap<usize, u64>,
    /// Per master: its log when its power failed for the first time since its store opened.
    before: BTreeMap<usize, Arc<LogFiles>>,
    /// Per slave: what its master came back without.
    left: BTreeMap<usize, Left>,
}

/// What a slave has and its master has not any more.
#[derive(Clone, Debug)]
struct Left {
    /// The logs are the same below.
    from: u64,
    ids: BTreeSet<Id>,
    /// How often the slave had lost power then.
    power_losses: u64,
}

impl Court {
    /// Clients can reach this process from now on.
    pub fn on_listening(&self, machine: usize, generation: u64) {
        self.returns().lock().listening.insert(machine, (generation, trace::now_us()));
    }

    pub(super) fn on_store_open(&self, machine: usize) {
        let power_losses = self.world().power_losses(machine);
        self.returns().lock().opened.insert(machine, power_losses);
    }

    /// Whether its log is what it was when its store opened, and what was appended since: a power
    /// loss has taken nothing that the next start would get back.
    pub(super) fn is_settled(&self, machine: usize) -> bool {
        let opened = self.returns().lock().opened.get(&machine).copied();
        opened == Some(self.world().power_losses(machine))
    }

    /// The power of a machine fails now, and its disk is still whole.
    pub(super) fn before_power_loss(&self, machine: usize) {
        let is_master = self.pair(machine).is_some_and(|pair| pair.master == machine);
        if is_master && self.wants(Oracle::Replicas) && self.is_settled(machine) {
            let log = Arc::new(LogFiles::of(self.disk(machine)));
            self.returns().lock().before.insert(machine, log);
        }
    }

    /// What slaves of a master can have: its log as it is, or as it was before its power failed
    /// when its store has not opened since. What the power left of the last records counts for
    /// nothing. None: its store never opened.
    pub(super) fn log_to_follow(&self, master: usize) -> Option<Arc<LogFiles>> {
        if self.is_settled(master) {
            return Some(Arc::new(LogFiles::of(self.disk(master))));
        }
        self.returns().lock().before.get(&master).cloned()
    }

    /// From where on a slave's log may be cut off when it next follows.
    pub fn left_from(&self, slave: usize) -> Option<u64> {
        self.returns().lock().left.get(&slave).map(|left| left.from)
    }

    /// What slaves of this master have that it came back without.
    pub(super) fn left_behind(&self, master: usize) -> BTreeSet<Id> {
        let returns = self.returns().lock();
        let slaves = self.slaves_of(master).into_iter();
        slaves
            .filter_map(|slave| returns.left.get(&slave))
            .flat_map(|left| left.ids.clone())
            .collect()
    }

    /// A broker opens its first port, in a process that began at `started_us`. `wait_us`: how long
    /// a master waits for those that it does not hear.
    pub fn on_comeback(&self, machine: usize, started_us: u64, wait_us: u64) {
        let is_master = self.pair(machine).is_some_and(|pair| pair.master == machine);
        if !is_master || !self.wants(Oracle::Replicas) {
            return;
        }
        let mine = LogFiles::of(self.disk(machine));
        for slave in self.slaves_of(machine) {
            let theirs = LogFiles::of(self.disk(slave));
            if self.could_be_asked(machine, slave, started_us) {
                self.check("catch_up", self.has_taken(&mine, machine, slave));
                self.check("catch_up", self.has_acked(&mine, machine, slave));
            } else if trace::now_us() + SLACK_US < started_us + wait_us {
                self.check(
                    "catch_up",
                    self.has_waited(&mine, &theirs, (machine, slave), started_us),
                );
            }
            self.leave(&mine, &theirs, (machine, slave));
        }
    }

    /// Nothing that this master acked is with the slave alone.
    fn has_acked(&self, mine: &LogFiles, master: usize, slave: usize) -> Verdict {
        let is_sync = self.plan().machines[slave].sync_flush;
        let theirs = Raw::of(self.disk(slave), is_sync);
        self.history(|history| {
            for (id, sent) in history.sent.iter().enumerate() {
                let (id, Fate::Acked { place, .. }) = (id as Id, sent.fate) else { continue };
                let is_own = place.machine == master && place.physical >= mine.log.start;
                if is_own && !mine.raw.has(id, &place) && theirs.has(id, &place) {
                    return Err(format!(
                        "message {id} at {} was acked by machine {master}, which begins to write \
                         at {} without it; machine {slave} has it and answers",
                        place.physical, mine.log.end
                    ));
                }
            }
            Ok(())
        })
    }

    /// A master whose power failed waits for a slave that is away and has more.
    fn has_waited(
        &self,
        mine: &LogFiles,
        theirs: &LogFiles,
        (master, slave): (usize, usize),
        started_us: u64,
    ) -> Verdict {
        let is_away = self.world().apart_us(master, slave).is_some_and(|us| us <= started_us);
        let has_more = theirs.log.end > mine.log.end
            && theirs.log.start <= mine.log.end
            && replica::is_prefix(mine, theirs).is_ok();
        let was_open = self.returns().lock().opened.contains_key(&master);
        if !is_away || !has_more || !was_open || self.is_settled(master) {
            return Ok(());
        }
        Err(format!(
            "machine {master} lost power and begins to write at {} without waiting for machine \
             {slave}, which has the same log up to {}",
            mine.log.end, theirs.log.end
        ))
    }

    /// Notes from where on a slave has what its master went on without.
    fn leave(&self, mine: &LogFiles, theirs: &LogFiles, (master, slave): (usize, usize)) {
        let Err(why) = replica::is_prefix(theirs, mine) else {
            self.returns().lock().left.remove(&slave);
            return;
        };
        let goes_on = replica::is_prefix(mine, theirs).is_ok();
        let mut returns = self.returns().lock();
        let before = returns.left.get(&slave).map(|left| left.from);
        // What a crash left of a slave's log is no log before its store has opened.
        let is_whole =
            self.world().is_up(slave) && self.is_open(slave, self.world().generation(slave));
        if !goes_on && before.is_none() {
            drop(returns);
            if !is_whole {
                return;
            }
            let what = format!("machine {master} came back with another log than {slave}: {why}");
            return self.check("replica_prefix", Err(what));
        }
        let from = before.unwrap_or(mine.log.end).min(mine.log.end);
        let is_left = |record: &&super::files::Record| is_whole && record.physical >= from;
        let ids = theirs.log.records.iter().filter(is_left);
        let ids: BTreeSet<Id> = ids.filter_map(|r| history::id_in(&r.properties)).collect();
        let name = &self.plan().machines[slave].name;
        trace::tell(name, format_args!("its master went on at {from} without {ids:?}"));
        mark("ha: a master came back without what a slave has that it could not ask");
        let power_losses = self.world().power_losses(slave);
        returns.left.insert(slave, Left { from, ids, power_losses });
    }

    /// A slave's log is that of its master again: what it gave up lies in `hotfire/cut/`.
    pub(super) fn on_same_again(&self, slave: usize) {
        let Some(left) = self.returns().lock().left.remove(&slave) else { return };
        if left.power_losses != self.world().power_losses(slave) || self.own_files_deleted() {
            return;
        }
        let raw = LogFiles::of(self.disk(slave));
        let has = |id: &Id| {
            let mut all = raw.log.records.iter();
            all.any(|record| history::id_in(&record.properties) == Some(*id))
        };
        match left.ids.iter().find(|id| !has(id) && !self.is_in_cut(slave, **id)) {
            Some(id) => {
                let what = format!("machine {slave} cut message {id} off and did not keep it");
                self.check("cut_is_kept", Err(what));
            }
            None => mark("ha: a slave gave up what its master came back without"),
        }
    }

    /// Whether a master that started at `started_us` and opens its first port now has heard this
    /// slave, if it asked. It asks after pauses that double, as long as its start does; between
    /// both nothing lies, and no disk is in trouble.
    fn could_be_asked(&self, master: usize, slave: usize, started_us: u64) -> bool {
        let (world, now_us) = (self.world(), trace::now_us());
        let listening = self.returns().lock().listening.get(&slave).copied();
        let Some((generation, open_us)) = listening else { return false };
        let Some(together_us) = world.together_us(master, slave) else { return false };
        let is_alive = world.is_up(slave) && !world.is_stopping(slave);
        let since_us = open_us.max(together_us) + SETTLED_US;
        let late_us = since_us.saturating_sub(started_us);
        let is_early = late_us == 0 || started_us + 2 * late_us + ROUND_US < now_us;
        is_alive
            && generation == world.generation(slave)
            && is_early
            && !self.is_troubled(slave, started_us)
            && !self.is_troubled(master, started_us)
    }

    /// Whether a client reaches a broker since `since_us` and longer, and nothing is wrong with it.
    pub fn is_in_reach(&self, client: usize, broker: usize, since_us: u64) -> bool {
        let world = self.world();
        let listening = self.returns().lock().listening.get(&broker).copied();
        let Some((generation, open_us)) = listening else { return false };
        let Some(together_us) = world.together_us(client, broker) else { return false };
        let is_together = together_us == 0 || together_us + REJOINED_US < since_us;
        world.is_up(broker)
            && !world.is_stopping(broker)
            && generation == world.generation(broker)
            && open_us + SETTLED_US < since_us
            && is_together
            && !self.is_troubled(broker, since_us.saturating_sub(SETTLED_US))
    }

    /// Whether something besides crashes and links was wrong with a machine since `since_us`.
    fn is_troubled(&self, machine: usize, since_us: u64) -> bool {
        let now_ms = trace::now_us() / 1_000;
        let mut faults = self.plan().faults.iter().filter(|fault| fault.target == machine);
        faults.any(|fault| {
            let kind = fault.kind.is_disk_trouble() || fault.kind == FaultKind::Pause;
            // Faults begin with the run.
            kind && fault.at_ms <= now_ms && (fault.at_ms + fault.for_ms) * 1_000 >= since_us
        })
    }

    /// Whether a machine's copies of what was cut off have a message.
    pub(super) fn is_in_cut(&self, machine: usize, id: Id) -> bool {
        let disk = self.disk(machine);
        let below = format!("{ROOT}/hotfire/cut/");
        let wanted = format!("SIM\u{1}{id:05}\u{2}");
        let files = disk.files().into_iter().filter(|path| path.starts_with(&below));
        let mut bytes = files.filter_map(|path| disk.peek(&path));
        bytes.any(|bytes| bytes.windows(wanted.len()).any(|part| part == wanted.as_bytes()))
    }
}
