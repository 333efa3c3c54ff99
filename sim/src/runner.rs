//! One seed: five acts on a thread of its own. Set up, disturb, heal, settle, check.

use crate::nemesis;
use crate::oracle::court::Court;
use crate::plan::{MachinePlan, Plan, Role};
use crate::scenario::{Oracle, WorldKind};
use crate::trace;
use crate::workload::cluster::ClusterHouse;
use crate::workload::reigns::ReignHouse;
use crate::workload::store::StoreHouse;
use crate::world::{Program, World};
use hotfire::rt::time::Duration;
use madsim::rand::RngCore;
use madsim::runtime::Runtime;
use rustix::time::ClockId;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, RecvTimeoutError};

/// A run that does not end by itself is ended after so much time of the processor: a busy machine
/// makes no finding.
const WATCHDOG_US: u64 = 10_000_000;

/// And one that only waits, after so many looks of a second each.
const WATCHDOG_LOOKS: u64 = 120;

/// How a seed is run, apart from its plan.
#[derive(Clone, Debug, Default)]
pub struct How {
    pub print: bool,
    /// Planted bugs that are switched on.
    pub planted: BTreeSet<String>,
}

/// What a seed came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What broke; `None` when nothing did.
    pub failure: Option<String>,
    pub hash: u64,
    pub events: u64,
    /// Units: microseconds.
    pub virtual_us: u64,
    pub cpu_us: u64,
    pub marks: BTreeMap<String, u64>,
    pub kept: BTreeMap<String, VecDeque<String>>,
    pub told: Vec<String>,
}

thread_local! {
    static PLANTED: RefCell<BTreeSet<String>> = RefCell::default();
    static PANIC: RefCell<Option<String>> = RefCell::default();
}

/// The planted bugs of the seed that runs on this thread.
pub fn planted() -> BTreeSet<String> {
    PLANTED.with_borrow(Clone::clone)
}

/// Panics of a run are findings, told with the story and not by the default hook.
pub fn quiet_panics() {
    std::panic::set_hook(Box::new(|info| {
        if std::thread::current().name() == Some("main") {
            eprintln!("sim: {info}"); // not a finding: the simulator itself is wrong
        }
        PANIC.with_borrow_mut(|slot| *slot = Some(info.to_string()));
    }));
}

/// Runs a plan on a fresh thread. `None`: it did not end within the watchdog's time.
#[expect(clippy::disallowed_methods, reason = "a seed has its own thread, outside any simulation")]
pub fn run(plan: &Plan, how: &How) -> Option<Report> {
    let (done, report) = mpsc::channel();
    let (plan, how) = (plan.clone(), how.clone());
    let thread = std::thread::spawn(move || {
        // The receiver is gone only when the watchdog gave up.
        let _ = done.send(run_here(&plan, &how));
    });
    // One seed runs at a time: the time of the process is that of the run.
    let start_us = cpu_us(ClockId::ProcessCPUTime);
    let ended =
        (0..WATCHDOG_LOOKS).find_map(|_| match report.recv_timeout(Duration::from_secs(1)) {
            Err(RecvTimeoutError::Timeout) => {
                let took = cpu_us(ClockId::ProcessCPUTime) - start_us;
                (took > WATCHDOG_US).then_some(None)
            }
            ended => Some(ended.ok()),
        });
    let report = ended.flatten()?;
    // It has sent its report: what is left is the end of the thread.
    let _ = thread.join();
    Some(report)
}

fn cpu_us(of: ClockId) -> u64 {
    let t = rustix::time::clock_gettime(of);
    t.tv_sec as u64 * 1_000_000 + t.tv_nsec as u64 / 1_000
}

fn run_here(plan: &Plan, how: &How) -> Report {
    let start_us = cpu_us(ClockId::ThreadCPUTime);
    PLANTED.set(how.planted.clone());
    trace::start(how.print);
    let mut runtime = Runtime::with_seed_and_config(plan.seed, madsim::Config::default());
    runtime.set_time_limit(Duration::from_secs(3_600));
    let ended = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            let verdict = acts(plan).await;
            let unseed = madsim::rand::thread_rng().next_u64();
            (verdict, unseed, trace::now_us())
        })
    }));
    let (failure, unseed, virtual_us) = match ended {
        Ok((verdict, unseed, us)) => (verdict.err(), unseed, us),
        Err(_) => {
            let what = PANIC.take().unwrap_or_else(|| "without a message".into());
            (Some(format!("panic: {what}")), 0, 0)
        }
    };
    let log = trace::finish(unseed, virtual_us);
    let marks = hotfire::rt::sim::take_marks();
    drop(runtime);
    Report {
        failure,
        hash: log.hash,
        events: log.events,
        virtual_us,
        cpu_us: cpu_us(ClockId::ThreadCPUTime) - start_us,
        marks: marks.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
        kept: log.kept,
        told: log.told,
    }
}

/// What the acts need of a load, whatever it runs on.
enum House {
    Store(StoreHouse),
    Cluster(ClusterHouse),
    Reigns(ReignHouse),
}

impl House {
    fn court(&self) -> &Court {
        match self {
            House::Store(house) => house.court(),
            House::Cluster(house) => house.court(),
            House::Reigns(house) => house.court(),
        }
    }

    /// `lost`: this master is gone for good.
    async fn settle(&self, lost: Option<usize>, budget: Duration) -> Result<(), String> {
        match (self, lost) {
            (House::Store(house), _) => house.settle(budget).await,
            (House::Cluster(house), None) => house.settle(budget).await,
            (House::Cluster(house), Some(_)) => house.settle_without(budget).await,
            (House::Reigns(house), _) => house.settle(budget).await,
        }
    }

    async fn reread(&self, budget: Duration) -> Result<(), String> {
        match self {
            House::Store(house) => house.reread(budget).await,
            House::Cluster(house) => house.reread(budget).await,
            House::Reigns(house) => house.reread(budget).await,
        }
    }

    /// What operators do while the run is disturbed.
    fn start_turns(&self) -> Option<madsim::task::JoinHandle<()>> {
        let House::Reigns(house) = self else { return None };
        let house = house.clone();
        Some(madsim::task::spawn(async move { house.take_turns().await }))
    }

    fn program(&self, machine: &MachinePlan) -> Program {
        match self {
            House::Store(house) => house.program(),
            House::Cluster(house) => house.program(machine),
            House::Reigns(house) => house.program(machine),
        }
    }
}

async fn acts(plan: &Plan) -> Result<(), String> {
    let house = match plan.world {
        WorldKind::Store => House::Store(StoreHouse::new(plan)),
        WorldKind::Cluster => House::Cluster(ClusterHouse::new(plan)),
        WorldKind::Pair => House::Reigns(ReignHouse::new(plan)),
    };
    let world = World::build(plan, |machine| house.program(machine));
    house.court().enter(&world);
    let verdict = acts_in(plan, &world, &house).await;
    world.demolish();
    // Killed tasks are dropped when their timers come; without this the runtime leaks.
    madsim::time::sleep(Duration::from_secs(1)).await;
    world.handle().metrics().num_tasks();
    world.violation().map_or(verdict, Err)
}

async fn acts_in(plan: &Plan, world: &World, house: &House) -> Result<(), String> {
    let budget = Duration::from_millis(plan.budget_ms);
    let all = 0..world.machines().len();
    all.clone().for_each(|n| match plan.machines[n].pair.as_ref().map_or(0, |p| p.starts_ms) {
        0 => world.start(n),
        later => world.restart_later(n, later),
    });
    let turns = house.start_turns();
    nemesis::disturb(house.court(), plan).await;
    if let Some(turns) = turns {
        let _ = turns.await; // it panics only when the run does
    }
    let lost = plan.lost_master.filter(|_| world.violation().is_none());
    lost.into_iter().for_each(|master| house.court().lose(master));
    nemesis::heal(world);
    if world.violation().is_some() {
        return Ok(());
    }
    house.settle(lost, budget).await.map_err(|what| format!("liveness: {what}"))?;
    let has_store = |n: &usize| {
        matches!(plan.machines[*n].role, Role::Store | Role::Broker | Role::Slave)
            && lost != Some(*n)
    };
    let stores: Vec<usize> = all.filter(has_store).collect();
    stop_and_check(world, house, &stores).await?;
    if world.violation().is_some() {
        return Ok(());
    }
    for n in &stores {
        house.court().delete_derived(*n);
        world.start(*n);
    }
    house.reread(budget).await.map_err(|what| format!("liveness: {what}"))?;
    stop_and_check(world, house, &stores).await?;
    if let House::Store(house) = house
        && plan.oracles.contains(&Oracle::RotFound)
        && world.violation().is_none()
    {
        for n in &stores {
            house.rot(*n, budget).await.map_err(|what| format!("rot_found: {what}"))?;
        }
    }
    let told = house.court().history(|h| (h.acked, h.reads));
    trace::event("world", format_args!("done: {} acked, {} read", told.0, told.1));
    Ok(())
}

async fn stop_and_check(world: &World, house: &House, stores: &[usize]) -> Result<(), String> {
    for n in stores {
        if !world.stop(*n, Duration::from_secs(10)).await {
            return Err(format!("liveness: machine {n} did not stop in order"));
        }
        house.court().check_files(*n);
    }
    if let House::Reigns(house) = house {
        house.check_end();
    }
    Ok(())
}
