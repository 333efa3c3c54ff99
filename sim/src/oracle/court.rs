//! Where a run is judged: the clients' history, the machines' files, and the promises between.

use super::comeback::Returns;
use super::replica::LogFiles;
use super::retention::Terms;
use super::{delay, files, index, judge, progress, retry, timer, transaction};
use crate::history::History;
use crate::plan::Plan;
use crate::scenario::{FaultKind, Oracle};
use crate::trace;
use crate::world::World;
use hotfire::rt::sim::mark;
use hotfire::rt::sync::{Mutex, Notify};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

/// The store's directory on every machine that has one.
pub const ROOT: &str = "/data/store";

struct Shared {
    plan: Plan,
    history: Mutex<History>,
    /// The last act has deleted what is derived, and with it the topics' floors.
    derived_deleted: Mutex<bool>,
    /// Per machine: the generations in which its store opened.
    opened: Mutex<BTreeMap<usize, Vec<u64>>>,
    /// What the store of each machine was told of retention.
    terms: Mutex<BTreeMap<usize, Terms>>,
    /// What is known of each machine's delayed messages.
    delays: Mutex<BTreeMap<usize, delay::Terms>>,
    /// How often the broker of each machine asks for a transaction.
    checks_max: Mutex<BTreeMap<usize, u32>>,
    /// Slots and entries of each machine's index files.
    index_shapes: Mutex<BTreeMap<usize, (u32, u32)>>,
    /// The logs of the masters that are lost, as they were then.
    lost: Mutex<BTreeMap<usize, Arc<LogFiles>>>,
    returns: Mutex<Returns>,
    world: OnceLock<World>,
    /// Rung when the history moved.
    moved: Notify,
}

/// Cloning shares the court.
#[derive(Clone)]
pub struct Court(Arc<Shared>);

impl Court {
    pub fn new(plan: &Plan) -> Self {
        Court(Arc::new(Shared {
            plan: plan.clone(),
            history: Mutex::default(),
            derived_deleted: Mutex::default(),
            opened: Mutex::default(),
            terms: Mutex::default(),
            delays: Mutex::default(),
            checks_max: Mutex::default(),
            index_shapes: Mutex::default(),
            lost: Mutex::default(),
            returns: Mutex::default(),
            world: OnceLock::new(),
            moved: Notify::new(),
        }))
    }

    /// A court belongs to one world; call it before the first process starts.
    pub fn enter(&self, world: &World) {
        let _ = self.0.world.set(world.clone());
        let court = Arc::downgrade(&self.0);
        world.watch_power(move |machine| {
            if let Some(shared) = court.upgrade() {
                Court(shared).before_power_loss(machine);
            }
        });
    }

    pub fn world(&self) -> &World {
        self.0.world.get().expect("the court has entered its world before a process starts")
    }

    pub fn history<T>(&self, work: impl FnOnce(&mut History) -> T) -> T {
        work(&mut self.0.history.lock())
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.0.plan
    }

    pub(super) fn keep_lost(&self, machine: usize, copy: Arc<LogFiles>) {
        self.0.lost.lock().insert(machine, copy);
    }

    pub(super) fn lost_copy(&self, machine: usize) -> Option<Arc<LogFiles>> {
        self.0.lost.lock().get(&machine).cloned()
    }

    pub(super) fn returns(&self) -> &Mutex<Returns> {
        &self.0.returns
    }

    pub fn wants(&self, oracle: Oracle) -> bool {
        self.0.plan.oracles.contains(&oracle)
    }

    pub fn check(&self, name: &str, verdict: judge::Verdict) {
        if let Err(what) = verdict {
            self.world().violate(name, what);
            self.0.moved.notify_waiters();
        }
    }

    /// Wakes everybody who waits for the history.
    pub fn moved(&self) {
        self.0.moved.notify_waiters();
    }

    pub async fn next_move(&self) {
        self.0.moved.notified().await;
    }

    /// Waits until `holds`, or until something is broken anyway.
    pub async fn until(&self, holds: impl Fn() -> bool) {
        loop {
            let moved = self.0.moved.notified();
            let mut moved = std::pin::pin!(moved);
            moved.as_mut().enable();
            if self.world().violation().is_some() || holds() {
                return;
            }
            moved.await;
        }
    }

    /// Whether this generation's store has opened.
    pub fn is_open(&self, machine: usize, generation: u64) -> bool {
        self.0.opened.lock().get(&machine).is_some_and(|all| all.contains(&generation))
    }

    /// The store of a machine is about to be opened: slots and entries of its index files.
    pub fn on_index_shape(&self, machine: usize, shape: (u32, u32)) {
        self.0.index_shapes.lock().insert(machine, shape);
    }

    pub fn index_shape(&self, machine: usize) -> Option<(u32, u32)> {
        self.0.index_shapes.lock().get(&machine).copied()
    }

    /// The broker of a machine is about to start with these delay levels.
    pub fn on_levels(&self, machine: usize, levels_ms: &[i64]) {
        let mut delays = self.0.delays.lock();
        let terms = delays.entry(machine).or_default();
        terms.levels_ms = levels_ms.to_vec();
        for fault in self.0.plan.faults.iter().filter(|fault| fault.target == machine) {
            terms.clock_steps |= fault.kind == FaultKind::ClockStep;
            terms.disk_trouble |= fault.kind.is_disk_trouble();
        }
    }

    /// The broker of a machine is about to start, and asks for a transaction at most so often.
    pub fn on_checks_max(&self, machine: usize, checks_max: u32) {
        self.0.checks_max.lock().insert(machine, checks_max);
    }

    /// It stopped as it was asked to, and perhaps not in order.
    pub fn on_stopped(&self, machine: usize) {
        let disk = &self.world().machines()[machine].disk;
        let is_unclean = disk.peek(&format!("{ROOT}/abort")).is_some();
        self.0.delays.lock().entry(machine).or_default().unclean_ends += usize::from(is_unclean);
    }

    pub fn delays(&self, machine: usize) -> delay::Terms {
        let mut terms = self.0.delays.lock().get(&machine).cloned().unwrap_or_default();
        terms.unclean_ends += self.world().crashes_us(machine).len();
        if self.wants(Oracle::Reigns) {
            terms.hands_over = true;
            // Whoever takes over goes on from what it heard of its master's progress last.
            let machines = &self.plan().machines;
            let all: Vec<_> = (0..machines.len()).filter(|n| machines[*n].pair.is_some()).collect();
            terms.unclean_ends +=
                all.iter().map(|n| self.world().generation(*n) as usize).sum::<usize>();
            let skews: BTreeSet<i64> = all.iter().map(|n| machines[*n].skew_ms).collect();
            terms.clock_steps |= skews.len() > 1;
        }
        terms
    }

    /// Whether all that waited in a log has come, and all that was open has ended.
    pub fn has_delivered(&self, machine: usize) -> judge::Verdict {
        let log = files::log(self.disk(machine), &format!("{ROOT}/commitlog"));
        delay::delivered(&log, &self.delays(machine), true)?;
        timer::delivered(&log, &self.delays(machine), true)?;
        self.transactions(machine, &log, true)
    }

    fn transactions(&self, machine: usize, log: &files::Log, is_end: bool) -> judge::Verdict {
        if !self.wants(Oracle::Transactions) {
            return Ok(());
        }
        let opened = self.0.opened.lock().get(&machine).cloned().unwrap_or_default();
        let checks_max = self.0.checks_max.lock().get(&machine).copied().unwrap_or(0);
        let (now, history) = (self.moment(machine), &mut *self.0.history.lock());
        let mut promises = transaction::Promises { history, now, opened: &opened };
        transaction::resolved(log, &mut promises, checks_max, is_end)
    }

    fn moment(&self, machine: usize) -> judge::Moment {
        judge::Moment { machine, power_losses: self.world().power_losses(machine) }
    }

    /// Judges what recovery left, before anybody is told anything new. Gives the end of each queue
    /// of the log.
    pub fn on_open(&self, machine: usize, generation: u64) -> BTreeMap<(String, u32), u64> {
        self.world().on_open(machine);
        self.judge_removed(machine);
        let disk = &self.world().machines()[machine].disk;
        let log = files::log(disk, &format!("{ROOT}/commitlog"));
        if let Some(why) = &log.why {
            self.check("clean_tail", Err(format!("the log ends badly after recovery: {why}")));
        }
        self.check("durable_open", judge::durable_open(disk, &format!("{ROOT}/commitlog")));
        self.judge_log(machine, &log, false);
        self.on_store_open(machine);
        self.forget_replicated(machine);
        self.judge_pairs(machine, false);
        let mut opened = self.0.opened.lock();
        opened.entry(machine).or_default().push(generation);
        let end = |r: &files::Record| ((r.topic.clone(), r.queue), r.queue_offset + 1);
        log.records.iter().map(end).collect()
    }

    fn judge_log(&self, machine: usize, log: &files::Log, is_end: bool) {
        let opened = self.0.opened.lock().get(&machine).cloned().unwrap_or_default();
        let now = self.moment(machine);
        let mut history = self.0.history.lock();
        if self.wants(Oracle::AckedSurvives) {
            let verdict = judge::acked_survives(log, &mut history, now, &opened);
            self.check("acked_survives", verdict);
        }
        if self.wants(Oracle::VisibleStays) {
            let left = (self.left_from(machine), &self.left_behind(machine));
            let verdict = judge::visible_stays(log, &mut history, now, left, &opened);
            self.check("visible_stays", verdict);
        }
        if self.wants(Oracle::NoPhantom) {
            self.check("no_phantom", judge::no_phantom(log, &history));
        }
        if self.wants(Oracle::DenseOrder) {
            self.check("dense_order", judge::dense_order(log, &history));
        }
        if self.wants(Oracle::Retries) {
            self.check("retries", retry::retried(log, &history));
        }
        drop(history);
        self.check("transactions", self.transactions(machine, log, is_end));
        if self.wants(Oracle::Transactions) {
            self.check("transactions", progress::of_halves(log, self.disk(machine)));
        }
        if self.wants(Oracle::Delays) {
            self.check("delays", delay::delivered(log, &self.delays(machine), is_end));
            self.check("delays", timer::delivered(log, &self.delays(machine), is_end));
            self.check("delays", progress::of_levels(log, self.disk(machine)));
        }
        self.check("clean_tail", judge::clean_tail(log));
    }

    /// Judges the files of the log that processes deleted since the last look.
    pub fn judge_removed(&self, machine: usize) {
        let removed = self.world().machines()[machine].disk.take_removed();
        if !self.wants(Oracle::Retention) {
            return;
        }
        let Some(terms) = self.0.terms.lock().get(&machine).cloned() else { return };
        let dir = format!("{ROOT}/commitlog");
        for file in removed.iter().filter(|file| files::log_base(&file.path, &dir).is_some()) {
            if file.has_data {
                mark("retention: a log file was deleted");
            }
            self.check("retention", super::retention::may_go(file, &terms));
        }
    }

    /// A store opened under these terms.
    pub fn on_terms(&self, machine: usize, mut terms: Terms) {
        let mut all = self.0.terms.lock();
        if let Some(known) = all.get(&machine) {
            terms.opened_us = known.opened_us.clone();
        }
        terms.opened_us.push(trace::now_us());
        all.insert(machine, terms);
    }

    pub fn terms(&self, machine: usize) -> Option<Terms> {
        self.0.terms.lock().get(&machine).cloned()
    }

    /// Where the log of a machine begins, as its disk says now.
    pub fn log_start(&self, machine: usize) -> u64 {
        files::log_start(&self.world().machines()[machine].disk, &format!("{ROOT}/commitlog"))
    }

    /// The last word: files after a clean stop, by entry.
    pub fn check_files(&self, machine: usize) {
        self.judge_removed(machine);
        let disk = &self.world().machines()[machine].disk;
        let log = files::log(disk, &format!("{ROOT}/commitlog"));
        self.judge_log(machine, &log, true);
        self.judge_pairs(machine, true);
        // A store that says it did not stop in order owes no whole queues: its next start does.
        let stopped_in_order = disk.peek(&format!("{ROOT}/abort")).is_none();
        if !stopped_in_order {
            mark("store: could not stop in order");
        }
        if stopped_in_order && self.wants(Oracle::DerivedFollow) {
            let dir = format!("{ROOT}/consumequeue");
            let kept = !*self.0.derived_deleted.lock();
            let delays = self.delays(machine);
            let place = (disk, dir.as_str());
            let verdict = self.history(|h| judge::derived_follow(&log, h, kept, &delays, place));
            self.check("derived_follow", verdict);
            let dir = format!("{ROOT}/index");
            let shape = self.index_shape(machine);
            let follows = |shape| index::follows(&log, disk, &dir, shape);
            self.check("index_follows", shape.map_or(Ok(()), follows));
        }
    }

    /// Nothing that lay in `hotfire/` is there any more.
    pub fn own_files_deleted(&self) -> bool {
        *self.0.derived_deleted.lock()
    }

    /// What an operator may delete at any time.
    pub fn delete_derived(&self, machine: usize) {
        let disk = &self.world().machines()[machine].disk;
        let name = &self.0.plan.machines[machine].name;
        trace::tell(name, format_args!("hotfire, consumequeue, index, checkpoint are deleted"));
        *self.0.derived_deleted.lock() = true;
        for name in ["hotfire", "consumequeue", "index", "checkpoint"] {
            disk.delete_tree(&format!("{ROOT}/{name}"));
        }
    }
}
