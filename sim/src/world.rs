//! The machines of one run: their disks, clocks and processes, started, killed and restarted.

use crate::disk::SimDisk;
use crate::net::SimNet;
use crate::plan::{CrashPoint, MachinePlan, Plan};
use crate::trace;
use hotfire::disk::{BoxFuture, Disk};
use hotfire::net::Net;
use hotfire::rt::rng::Rng;
use hotfire::rt::sim::mark;
use hotfire::rt::sync::{Mutex, Notify, mpsc, watch};
use hotfire::rt::time::{Clock, Duration};
use madsim::runtime::Handle;
use madsim::task::NodeId;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

/// How long a process that ended by itself stays down. Units: virtual milliseconds.
const RESTART_AFTER_MS: u64 = 300;

/// What a process gets when it starts.
pub struct Boot {
    pub machine: usize,
    pub name: String,
    /// Counts the starts of this machine's process, from 1.
    pub generation: u64,
    pub disk: Arc<dyn Disk>,
    pub net: Arc<dyn Net>,
    pub clock: Clock,
    /// True: stop in order.
    pub stop: watch::Receiver<bool>,
}

/// What a machine runs; called at every start.
pub type Program = Arc<dyn Fn(Boot) -> BoxFuture<'static, ()> + Send + Sync>;

struct Process {
    up: bool,
    generation: u64,
    /// A client was told that something is stored here.
    acked: bool,
    /// How often this machine lost power.
    power_losses: u64,
    /// It lost power since its store last opened.
    is_torn: bool,
    /// It lost Hotfire's own files since its store last opened.
    is_bare: bool,
    /// Since when no process runs. Units: microseconds of virtual time.
    down_us: u64,
    /// The machine is lost, mostly for good.
    is_gone: bool,
    /// When its process died without being asked to. Units: microseconds of virtual time.
    crashes_us: Vec<u64>,
    stop: Option<watch::Sender<bool>>,
}

pub struct Machine {
    pub plan: MachinePlan,
    pub node: NodeId,
    pub disk: SimDisk,
    pub clock: Clock,
    skew_ms: Arc<AtomicI64>,
    program: Program,
    process: Mutex<Process>,
}

/// A wish to start a machine's process again.
struct Restart {
    machine: usize,
    /// Void when the machine was started meanwhile.
    generation: u64,
    after_ms: u64,
    /// Power is lost first, whatever runs; nothing of it when the world was healed meanwhile.
    power: bool,
}

struct Inner {
    handle: Handle,
    net: SimNet,
    machines: Vec<Machine>,
    restarts: mpsc::UnboundedSender<Restart>,
    /// Rung at every start, stop and crash.
    changed: Notify,
    /// The first thing that went against a promise.
    violation: Mutex<Option<String>>,
    crash_points: Mutex<Vec<CrashPoint>>,
    /// Since when nothing passes from one machine to another. Units: microseconds.
    clogs: Mutex<BTreeMap<(usize, usize), u64>>,
    /// The same, and when that last ended.
    rejoined_us: Mutex<BTreeMap<(usize, usize), u64>>,
    healed: AtomicBool,
    /// Told of each machine whose power is about to fail, while its disk is still whole.
    before_power_loss: OnceLock<Box<dyn Fn(usize) + Send + Sync>>,
}

/// Cloning shares the world.
#[derive(Clone)]
pub struct World(Arc<Inner>);

thread_local! {
    /// Names for the trace, per seed thread.
    static NAMES: RefCell<BTreeMap<NodeId, String>> = RefCell::default();
}

/// The machine whose task runs now.
pub fn node_name() -> String {
    if madsim::runtime::Handle::try_current().is_err() {
        return "world".into();
    }
    let node = madsim::plugin::node();
    NAMES.with_borrow(|names| names.get(&node).cloned().unwrap_or_else(|| "world".into()))
}

impl World {
    /// Builds the machines of a plan; none is started. `program` chooses what each one runs.
    pub fn build(plan: &Plan, program: impl Fn(&MachinePlan) -> Program) -> World {
        let handle = Handle::current();
        let (restarts, asked) = mpsc::unbounded_channel();
        let net = SimNet::new(Rng::from_seed(plan.seed.wrapping_mul(37)));
        let mut machines = Vec::new();
        for (n, machine) in plan.machines.iter().enumerate() {
            let node = handle.create_node().name(&machine.name).build().id();
            NAMES.with_borrow_mut(|names| names.insert(node, machine.name.clone()));
            let skew_ms = Arc::new(AtomicI64::new(machine.skew_ms));
            let clock = Clock::with_skew(skew_ms.clone());
            let dice = Rng::from_seed(plan.seed.wrapping_mul(31).wrapping_add(n as u64 + 1));
            let disk = SimDisk::new(&machine.name, clock.clone(), dice, machine.habits.clone());
            disk.furnish("/data");
            net.add_machine(&machine.name, crate::workload::cluster::ip(n));
            machines.push(Machine {
                plan: machine.clone(),
                node,
                disk,
                clock,
                skew_ms,
                program: program(machine),
                process: Mutex::new(Process {
                    up: false,
                    generation: 0,
                    acked: false,
                    power_losses: 0,
                    is_torn: false,
                    is_bare: false,
                    down_us: 0,
                    is_gone: false,
                    crashes_us: Vec::new(),
                    stop: None,
                }),
            });
        }
        let world = World(Arc::new(Inner {
            handle,
            net,
            machines,
            restarts,
            changed: Notify::new(),
            violation: Mutex::default(),
            crash_points: Mutex::new(plan.crash_points.clone()),
            clogs: Mutex::default(),
            rejoined_us: Mutex::default(),
            healed: AtomicBool::new(false),
            before_power_loss: OnceLock::new(),
        }));
        world.calm_links(plan);
        madsim::task::spawn(world.clone().keep_restarting(asked));
        world.install_hooks(plan);
        world
    }

    pub fn machines(&self) -> &[Machine] {
        &self.0.machines
    }

    pub fn is_up(&self, machine: usize) -> bool {
        self.0.machines[machine].process.lock().up
    }

    /// Its process was asked to stop, and has not ended.
    pub fn is_stopping(&self, machine: usize) -> bool {
        let process = self.0.machines[machine].process.lock();
        process.up && process.stop.as_ref().is_some_and(|stop| stop.get())
    }

    pub fn generation(&self, machine: usize) -> u64 {
        self.0.machines[machine].process.lock().generation
    }

    pub fn power_losses(&self, machine: usize) -> u64 {
        self.0.machines[machine].process.lock().power_losses
    }

    /// Whom to tell before a disk loses what was not synced. Only the first one is told.
    pub fn watch_power(&self, told: impl Fn(usize) + Send + Sync + 'static) {
        let _ = self.0.before_power_loss.set(Box::new(told));
    }

    /// A client learned that something is stored on this machine.
    pub fn note_ack(&self, machine: usize) {
        self.0.machines[machine].process.lock().acked = true;
    }

    /// The store's own files are about to go. False when that is more than can be asked of it now.
    pub fn may_lose_own_files(&self, machine: usize) -> bool {
        let mut process = self.0.machines[machine].process.lock();
        process.is_bare |= !process.is_torn;
        process.is_bare
    }

    /// The store has recovered: what is on its disk is as good as new.
    pub fn on_open(&self, machine: usize) {
        let mut process = self.0.machines[machine].process.lock();
        (process.is_torn, process.is_bare) = (false, false);
    }

    /// When its last process ended; 0 when its first one runs. Units: microseconds.
    pub fn down_us(&self, machine: usize) -> u64 {
        self.0.machines[machine].process.lock().down_us
    }

    pub fn crashes_us(&self, machine: usize) -> Vec<u64> {
        self.0.machines[machine].process.lock().crashes_us.clone()
    }

    /// The process is dead and will not be started again, unless the machine is brought back.
    pub fn lose(&self, machine: usize) {
        self.crash(machine, false);
        self.0.net.power_loss(machine);
        self.0.machines[machine].process.lock().is_gone = true;
    }

    /// A lost machine is there again; its process is not started by that.
    pub fn bring_back(&self, machine: usize) {
        self.0.machines[machine].process.lock().is_gone = false;
    }

    /// Nothing passes from one machine to another, or everything again.
    pub fn clog(&self, from: usize, to: usize, on: bool) {
        self.0.net.clog(from, to, on);
        let mut clogs = self.0.clogs.lock();
        match on {
            true => drop(clogs.entry((from, to)).or_insert(trace::now_us())),
            false if clogs.remove(&(from, to)).is_some() => {
                self.0.rejoined_us.lock().insert((from, to), trace::now_us());
            }
            false => {}
        }
    }

    /// Since when nothing lies between two machines; `None` while something does.
    /// Units: microseconds of virtual time.
    pub fn together_us(&self, a: usize, b: usize) -> Option<u64> {
        let ways = [(a, b), (b, a)];
        let clogs = self.0.clogs.lock();
        let is_free = ways.iter().all(|way| !clogs.contains_key(way));
        let rejoined = self.0.rejoined_us.lock();
        let since = ways.iter().filter_map(|way| rejoined.get(way)).max().copied();
        is_free.then(|| since.unwrap_or(0))
    }

    /// Since when one machine cannot speak with the process of another.
    /// Units: microseconds of virtual time.
    pub fn apart_us(&self, from: usize, to: usize) -> Option<u64> {
        let down = {
            let process = self.0.machines[to].process.lock();
            (!process.up).then_some(process.down_us)
        };
        let clogs = self.0.clogs.lock();
        let clogged = [(from, to), (to, from)].into_iter().filter_map(|way| clogs.get(&way));
        clogged.copied().chain(down).min()
    }

    pub fn net(&self) -> &SimNet {
        &self.0.net
    }

    /// Every link as the plan has it when nothing is wrong.
    pub fn calm_links(&self, plan: &Plan) {
        let (latency_us, loss) = (plan.link.latency_us, plan.link.loss);
        self.0.net.set_all_links(|link| {
            link.latency_us = latency_us;
            link.loss = loss;
            link.is_clogged = false;
        });
    }

    /// Starts the process, unless it runs.
    pub fn start(&self, machine: usize) {
        let m = &self.0.machines[machine];
        let (stop, stopped) = watch::channel(false);
        let generation = {
            let mut process = m.process.lock();
            if process.up || process.is_gone {
                return;
            }
            process.up = true;
            process.generation += 1;
            process.stop = Some(stop);
            process.generation
        };
        trace::tell(&m.plan.name, format_args!("process {generation} starts"));
        // Without the kill a restart would leave the last process's state behind.
        self.0.handle.kill(m.node);
        self.0.handle.restart(m.node);
        self.0.net.power_on(machine);
        let boot = Boot {
            machine,
            name: m.plan.name.clone(),
            generation,
            disk: m.disk.process(),
            net: self.0.net.process(machine),
            clock: m.clock.clone(),
            stop: stopped,
        };
        let run = (m.program)(boot);
        let world = self.clone();
        let node = self.0.handle.get_node(m.node).expect("the node was built");
        node.spawn(async move {
            run.await;
            world.on_exit(machine, generation);
        });
        self.0.changed.notify_waiters();
    }

    /// The process's main task returned.
    fn on_exit(&self, machine: usize, generation: u64) {
        let m = &self.0.machines[machine];
        let asked = {
            let mut process = m.process.lock();
            if process.generation != generation || !process.up {
                return;
            }
            (process.up, process.down_us) = (false, trace::now_us());
            let asked = process.stop.take().is_some_and(|stop| stop.get());
            if !asked {
                process.crashes_us.push(trace::now_us());
            }
            asked
        };
        trace::tell(&m.plan.name, format_args!("process {generation} ended"));
        m.disk.process_crash();
        self.0.net.process_crash(machine);
        self.0.handle.kill(m.node);
        if !asked {
            self.restart_later(machine, RESTART_AFTER_MS);
        }
        self.0.changed.notify_waiters();
    }

    /// Kills the process at once, and the power with it if wanted.
    pub fn crash(&self, machine: usize, power: bool) {
        let m = &self.0.machines[machine];
        if let Some(told) = self.0.before_power_loss.get().filter(|_| power) {
            told(machine);
        }
        let (was_up, power) = {
            let mut process = m.process.lock();
            // Without its own files a store has only RocketMQ's times to tell a hole that a power
            // loss made from rot, and a stepped clock makes them lie: one of both at a time.
            let power = power && !process.is_bare;
            process.is_torn |= power;
            process.power_losses += u64::from(power);
            process.crashes_us.push(trace::now_us());
            if power && process.acked {
                mark("world: power loss after an ack");
            }
            let was_up = std::mem::take(&mut process.up);
            if was_up {
                process.down_us = trace::now_us();
            }
            (was_up, power)
        };
        self.0.handle.kill(m.node);
        if power {
            self.0.net.power_loss(machine);
            let cut = m.disk.power_loss();
            trace::tell(
                &m.plan.name,
                format_args!(
                    "power lost, {} dirty sectors dropped, {} kept, {} names lost; {}",
                    cut.sectors_dropped,
                    cut.sectors_kept,
                    cut.names_lost,
                    cut.examples.join("; ")
                ),
            );
        } else {
            self.0.net.process_crash(machine);
            m.disk.process_crash();
            trace::tell(
                &m.plan.name,
                format_args!("process {}", if was_up { "killed" } else { "was down already" }),
            );
        }
        self.0.changed.notify_waiters();
    }

    /// Asks for a clean stop and waits for it; kills what does not stop in time.
    /// Returns whether it stopped by itself.
    pub async fn stop(&self, machine: usize, budget: Duration) -> bool {
        let m = &self.0.machines[machine];
        if let Some(stop) = &m.process.lock().stop {
            stop.send(true);
        }
        let clock = Clock::new();
        let deadline = clock.mono() + budget;
        let stopped = clock.before(deadline, self.until(|| !self.is_up(machine))).await.is_some();
        if !stopped {
            self.crash(machine, false);
        }
        stopped
    }

    /// Waits until `holds`, looking at every start, stop, crash and violation.
    pub async fn until(&self, holds: impl Fn() -> bool) {
        loop {
            let changed = self.0.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            if holds() {
                return;
            }
            changed.await;
        }
    }

    pub fn step_clock(&self, machine: usize, by_ms: i64) {
        let m = &self.0.machines[machine];
        m.skew_ms.fetch_add(by_ms, Ordering::Relaxed);
        trace::tell(&m.plan.name, format_args!("clock steps by {by_ms} ms"));
    }

    pub fn handle(&self) -> &Handle {
        &self.0.handle
    }

    /// Restarts the process after a while, if it is down then.
    pub fn restart_later(&self, machine: usize, after_ms: u64) {
        let generation = self.generation(machine);
        // The receiver lives as long as the world.
        let _ = self.0.restarts.send(Restart { machine, generation, after_ms, power: false });
    }

    /// Whatever runs there then.
    fn power_loss_later(&self, machine: usize, after_ms: u64) {
        let generation = self.generation(machine);
        let _ = self.0.restarts.send(Restart { machine, generation, after_ms, power: true });
    }

    async fn keep_restarting(self, mut asked: mpsc::UnboundedReceiver<Restart>) {
        while let Some(wish) = asked.recv().await {
            let world = self.clone();
            madsim::task::spawn(async move {
                madsim::time::sleep(Duration::from_millis(wish.after_ms)).await;
                if wish.power && !world.0.healed.load(Ordering::Relaxed) {
                    world.crash(wish.machine, true);
                    world.restart_later(wish.machine, 1);
                } else if !wish.power && world.generation(wish.machine) == wish.generation {
                    world.start(wish.machine);
                }
            });
        }
    }

    /// Something went against a promise. Only the first one counts.
    pub fn violate(&self, oracle: &str, what: String) {
        let mut slot = self.0.violation.lock();
        if slot.is_none() {
            trace::tell("oracle", format_args!("{oracle}: {what}"));
            *slot = Some(format!("{oracle}: {what}"));
            self.0.changed.notify_waiters();
        }
    }

    pub fn violation(&self) -> Option<String> {
        let broken = self.machines().iter().find_map(|machine| machine.disk.broken_view());
        broken.into_iter().for_each(|what| self.violate("views", what));
        self.0.violation.lock().clone()
    }

    pub fn disarm_crash_points(&self) {
        self.0.crash_points.lock().clear();
        self.0.healed.store(true, Ordering::Relaxed);
    }

    fn install_hooks(&self, plan: &Plan) {
        let world = self.clone();
        let crash = move |site: &'static str| world.crash_here(site);
        let mut dice = Rng::from_seed(plan.seed ^ 0xb0661f);
        let (seed, on) = (plan.seed, plan.buggify);
        let buggify = move |site: &'static str| {
            // A quarter of the sites is armed in a run; an armed one fires at every fourth visit.
            on && site_hash(site, seed).is_multiple_of(4) && dice.chance(0.25)
        };
        let planted: BTreeSet<String> = crate::runner::planted();
        hotfire::rt::sim::install(Box::new(crash), Box::new(buggify), planted);
    }

    fn crash_here(&self, site: &'static str) -> bool {
        let node = madsim::plugin::node();
        let Some(machine) = self.0.machines.iter().position(|m| m.node == node) else {
            return false;
        };
        let bucket = site_hash(site, 0) % crate::plan::BUCKETS + 1;
        let due = {
            let mut points = self.0.crash_points.lock();
            let mine = |p: &CrashPoint| {
                let counts = [0, bucket].contains(&p.bucket) && site.starts_with(&p.sites);
                p.machine == machine && counts
            };
            for point in points.iter_mut().filter(|p| mine(p)) {
                point.visit = point.visit.saturating_sub(1);
            }
            match points.iter().position(|p| mine(p) && p.visit == 0) {
                Some(at) => points.remove(at),
                None => return false,
            }
        };
        let name = &self.0.machines[machine].plan.name;
        if due.sync_fails {
            trace::tell(name, format_args!("its next sync fails, at {site:?}"));
            mark("world: a sync fails at a chosen place");
            self.0.machines[machine].disk.fail_next_sync();
            self.power_loss_later(machine, due.down_ms);
            return false;
        }
        trace::tell(name, format_args!("dies at {site:?}"));
        mark("world: crash point hit");
        self.crash(machine, due.power);
        self.restart_later(machine, due.down_ms);
        true
    }

    /// Ends every process, so that nothing keeps the runtime alive.
    pub fn demolish(&self) {
        for m in &self.0.machines {
            self.0.handle.kill(m.node);
        }
        self.0.net.shutdown();
    }
}

fn site_hash(site: &str, seed: u64) -> u64 {
    let mix = |h: u64, b: u8| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3);
    let text = site.bytes().fold(0xcbf2_9ce4_8422_2325, mix);
    Rng::from_seed(text ^ seed).next_u64()
}
