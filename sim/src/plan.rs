//! seed → plan: scenario, machines, options, load and every fault, drawn up front.
//!
//! The plan has dice of its own, so a fault can be dropped from it without moving any other
//! choice of the run: that is what makes shrinking work.

pub mod turn;

use crate::disk::Habits;
use crate::scenario::{self, Aim, FaultKind, Oracle, Scenario, WorldKind};
use anyhow::Result;
use hotfire::rt::rng::Rng;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    pub seed: u64,
    pub scenario: String,
    pub world: WorldKind,
    /// Old messages are deleted, on a small disk.
    #[serde(default)]
    pub retention: bool,
    pub machines: Vec<MachinePlan>,
    pub load: Load,
    pub link: LinkPlan,
    /// Sorted by `at_ms`.
    pub faults: Vec<Fault>,
    pub crash_points: Vec<CrashPoint>,
    pub buggify: bool,
    /// Units: virtual milliseconds.
    pub disturb_ms: u64,
    pub budget_ms: u64,
    pub oracles: Vec<Oracle>,
    /// The master whose machine is gone for good when the disturbance ends.
    #[serde(default)]
    pub lost_master: Option<usize>,
    /// A slave may learn of a topic later than it has the first record of it.
    #[serde(default)]
    pub topics_lag: bool,
    /// Offsets committed at a slave may go back for a while after a start of its master.
    #[serde(default)]
    pub offsets_dip: bool,
    /// What operators do with the masters.
    #[serde(default)]
    pub turns: Vec<turn::Turn>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Store,
    NameServer,
    /// A master.
    Broker,
    Client,
    Slave,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MachinePlan {
    pub name: String,
    pub role: Role,
    pub habits: Habits,
    pub sync_flush: bool,
    /// Seeds the options' swarm of the process on this machine.
    pub swarm: u64,
    /// Units: milliseconds off the true time, from the start.
    pub skew_ms: i64,
    #[serde(default)]
    pub pair: Option<PairPlan>,
}

/// A broker's part among those of its name: one master, and slaves that follow it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PairPlan {
    /// The machine of the master; a master's own.
    pub master: usize,
    /// `brokerId`
    pub id: u64,
    pub is_sync_master: bool,
    /// A slave is told where its master is, and need not ask the name servers.
    pub knows_master: bool,
    /// A slave is started so late. Units: virtual milliseconds.
    pub starts_ms: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Load {
    pub messages: u64,
    pub producers: u64,
    pub topics: u64,
    pub queues: u64,
    pub body_bytes: (u64, u64),
    /// Units: bytes of the property that is added, at most.
    pub padding_max: u64,
    pub deletions: u64,
    /// Readers subscribe by SQL92.
    pub filters: bool,
    /// Clients ask the broker for something of other clients.
    #[serde(default)]
    pub calls: bool,
    /// How many sends of one producer may be unanswered.
    pub window: u64,
    /// Chance that a send does not wait for the flush.
    pub no_wait: f64,
    /// Chance that a message is delayed.
    #[serde(default)]
    pub delayed: f64,
    /// Chance that another message asks for a time of its own.
    #[serde(default)]
    pub timed: f64,
    /// Of every delay level. Units: milliseconds.
    #[serde(default)]
    pub levels_ms: Vec<i64>,
    /// Chance that consumers fail at a message.
    #[serde(default)]
    pub failing: f64,
    /// Chance that a message is sent in a transaction.
    #[serde(default)]
    pub transactional: f64,
}

/// What `messageDelayLevel` may be: short ones, equal ones, few.
const LEVELS_MS: [&[i64]; 4] =
    [&[50, 400, 1_500], &[1_000, 3_000], &[300, 300, 300, 300], &[0, 1, 200, 700, 2_500]];

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LinkPlan {
    /// Units: microseconds, from and to.
    pub latency_us: (u64, u64),
    pub loss: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fault {
    pub at_ms: u64,
    pub for_ms: u64,
    pub kind: FaultKind,
    /// Index into `machines`.
    pub target: usize,
    pub other: usize,
    /// Whatever the kind needs a number for: milliseconds of a clock step or until the other's
    /// return, spare bytes, dice.
    pub amount: i64,
    /// The chance per call of an I/O error.
    pub rate: f64,
}

/// The `visit`-th visit of a crash point on this machine, counting only the sites whose name
/// falls into the bucket, is the last thing the process does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CrashPoint {
    pub machine: usize,
    /// 0 counts every site.
    pub bucket: u64,
    /// Only sites whose name begins so are counted.
    pub sites: String,
    pub visit: u64,
    pub power: bool,
    /// The process lives on, its next sync fails, and power is lost after `down_ms`.
    #[serde(default)]
    pub sync_fails: bool,
    /// Units: virtual milliseconds until the restart.
    pub down_ms: u64,
}

/// Sites are spread over this many buckets, from 1.
pub const BUCKETS: u64 = 8;

/// The stream of the plan is not the stream of the run.
const PLAN_STREAM: u64 = 0x5eed_0f91_a277;

/// Draws the whole plan. Without a name the seed draws the scenario too.
pub fn draw(seed: u64, scenario: Option<&str>) -> Result<Plan> {
    let mut rng = Rng::from_seed(seed ^ PLAN_STREAM);
    // Always thrown, so that naming the scenario a seed would draw changes nothing.
    let all = scenario::all()?;
    let mut nth = rng.below(all.iter().map(|s| s.weight).sum());
    let mut drawn = &all[0];
    for candidate in &all {
        drawn = candidate;
        if nth < candidate.weight {
            break;
        }
        nth -= candidate.weight;
    }
    let chosen = match scenario {
        Some(name) => scenario::named(name)?,
        None => drawn.clone(),
    };
    Ok(draw_from(seed, &chosen, &mut rng))
}

fn range(rng: &mut Rng, (from, to): (u64, u64)) -> u64 {
    rng.between(from, to)
}

fn draw_from(seed: u64, scenario: &Scenario, rng: &mut Rng) -> Plan {
    let mut machines = draw_machines(scenario, rng);
    let lost_master = draw_pairs(scenario, &mut machines, rng);
    let disturb_ms = range(rng, scenario.disturb_ms);
    let load = draw_load(scenario, rng);
    let slow = if rng.chance(0.2) { 20_000 } else { 3_000 };
    let link = LinkPlan {
        latency_us: (100, rng.between(300, slow)),
        loss: if rng.chance(0.3) { rng.below(50) as f64 / 1000.0 } else { 0.0 },
    };
    let faults = draw_faults(scenario, &machines, disturb_ms, rng);
    let mut crash_points = Vec::new();
    if rng.chance(scenario.crash_points) {
        let crashable: Vec<usize> = crashable(&machines);
        for _ in 0..rng.between(1, 3) {
            let spread = *rng.pick(&[2, 8, 40, 200]);
            crash_points.push(CrashPoint {
                machine: *rng.pick(&crashable),
                bucket: if rng.chance(0.3) { 0 } else { rng.between(1, BUCKETS) },
                sites: scenario.crash_sites.clone(),
                visit: 1 + rng.below(spread),
                power: rng.chance(0.6),
                sync_fails: false,
                down_ms: rng.between(1, 1_000),
            });
        }
    }
    let buggify = rng.chance(0.5);
    crash_points.extend(draw_crash_at(scenario, &machines, rng));
    Plan {
        seed,
        scenario: scenario.name.clone(),
        world: scenario.world,
        retention: scenario.retention,
        machines,
        load,
        link,
        faults,
        crash_points,
        buggify,
        disturb_ms,
        budget_ms: scenario.budget_ms,
        oracles: scenario.oracles.clone(),
        lost_master,
        topics_lag: scenario.topics_lag,
        offsets_dip: scenario.offsets_dip,
        turns: turn::draw(scenario.turns.as_ref(), rng),
    }
}

fn draw_crash_at(scenario: &Scenario, machines: &[MachinePlan], rng: &mut Rng) -> Vec<CrashPoint> {
    let mut points = Vec::new();
    for wanted in &scenario.crash_at {
        let times = if rng.chance(wanted.chance) { range(rng, wanted.times) } else { 0 };
        for _ in 0..times {
            points.push(CrashPoint {
                machine: *rng.pick(&crashable(machines)),
                bucket: 0,
                sites: wanted.sites.clone(),
                visit: range(rng, wanted.visits),
                power: rng.chance(wanted.power),
                sync_fails: wanted.sync_fails,
                down_ms: range(rng, wanted.for_ms),
            });
        }
    }
    points
}

fn draw_machines(scenario: &Scenario, rng: &mut Rng) -> Vec<MachinePlan> {
    let mut machines = Vec::new();
    let broker = if scenario.world == WorldKind::Store { Role::Store } else { Role::Broker };
    let counts = [
        (Role::NameServer, "namesrv", range(rng, scenario.topology.namesrvs)),
        (broker, "broker", range(rng, scenario.topology.brokers)),
        (Role::Client, "client", range(rng, scenario.topology.clients)),
    ];
    for (role, name, count) in counts {
        for n in 0..count {
            let from = rng.between(100, 2_000);
            let mut capacity = Habits::default().capacity;
            if scenario.retention {
                capacity = rng.between(300 << 10, 2 << 20);
            }
            let habits = Habits {
                capacity,
                sectors_are_atomic: rng.chance(0.6),
                names_are_journalled: rng.chance(0.5),
                writeback: *rng.pick(&[0.0, 0.02, 0.2]),
                sync_us: (from, from + rng.below(15_000)),
                views: rng.chance(0.5),
            };
            machines.push(MachinePlan {
                name: format!("{name}-{}", (b'a' + n as u8) as char),
                role,
                habits,
                // What a consumer was told is stored must not be lost: it asks only once.
                sync_flush: rng.chance(0.65) || scenario.load.failing > 0.0,
                swarm: rng.next_u64(),
                skew_ms: if rng.chance(0.3) { rng.below(4_000) as i64 - 2_000 } else { 0 },
                pair: None,
            });
        }
    }
    machines
}

/// Adds slaves behind all other machines, with dice of their own. Gives the master that is to be
/// lost: one that does not answer before a slave has the message.
fn draw_pairs(
    scenario: &Scenario,
    machines: &mut Vec<MachinePlan>,
    rng: &mut Rng,
) -> Option<usize> {
    if scenario.topology.slaves.1 == 0 {
        return None;
    }
    let mut dice = Rng::from_seed(rng.next_u64());
    let (mut slaves, mut losable) = (Vec::new(), Vec::new());
    let is_master = |n: &usize| machines[*n].role == Role::Broker;
    let masters: Vec<usize> = (0..machines.len()).filter(is_master).collect();
    for master in masters {
        let pair = PairPlan {
            master,
            id: 0,
            is_sync_master: dice.chance(scenario.topology.sync_masters),
            knows_master: false,
            starts_ms: 0,
        };
        let count = range(&mut dice, scenario.topology.slaves);
        if pair.is_sync_master && count > 0 {
            losable.push(master);
        }
        for id in 1..=count {
            let mut slave = machines[master].clone();
            slave.name = format!("slave-{}{id}", (b'a' + master as u8) as char);
            slave.role = Role::Slave;
            let from = dice.between(100, 2_000);
            slave.habits.sync_us = (from, from + dice.below(15_000));
            slave.habits.sectors_are_atomic = dice.chance(0.6);
            slave.habits.names_are_journalled = dice.chance(0.5);
            slave.sync_flush = dice.chance(0.5);
            slave.swarm = dice.next_u64();
            slave.skew_ms = if dice.chance(0.3) { dice.below(4_000) as i64 - 2_000 } else { 0 };
            let starts_ms = if dice.chance(0.2) { dice.below(4_000) } else { 0 };
            let knows_master = dice.chance(0.3);
            slave.pair = Some(PairPlan { id, knows_master, starts_ms, ..pair.clone() });
            slaves.push(slave);
        }
        machines[master].pair = Some(pair);
    }
    machines.extend(slaves);
    let is_lost = dice.chance(scenario.loses_master) && !losable.is_empty();
    is_lost.then(|| *dice.pick(&losable))
}

fn draw_load(scenario: &Scenario, rng: &mut Rng) -> Load {
    let wanted = &scenario.load;
    let body_max = range(rng, wanted.body_bytes).max(wanted.body_bytes.0);
    // Records of one size: what a crash left behind then fits where new ones end.
    let body_min = if rng.chance(0.3) { body_max } else { wanted.body_bytes.0 };
    Load {
        messages: range(rng, wanted.messages),
        producers: range(rng, wanted.producers),
        topics: range(rng, wanted.topics),
        queues: range(rng, wanted.queues),
        body_bytes: (body_min, body_max),
        padding_max: range(rng, wanted.padding_bytes),
        deletions: range(rng, wanted.deletions),
        filters: wanted.filters,
        calls: wanted.calls,
        window: *rng.pick(&[1, 1, 4, 16]),
        no_wait: if rng.chance(0.2) { 0.3 } else { 0.0 },
        delayed: wanted.delayed,
        timed: wanted.timed,
        failing: wanted.failing,
        transactional: wanted.transactional,
        levels_ms: match wanted.delayed + wanted.failing > 0.0 {
            true => rng.pick(&LEVELS_MS).to_vec(),
            false => Vec::new(),
        },
    }
}

/// Machines whose process a nemesis may kill.
fn crashable(machines: &[MachinePlan]) -> Vec<usize> {
    (0..machines.len()).filter(|i| machines[*i].role != Role::Client).collect()
}

/// Machines with something on disk.
fn with_disk(machines: &[MachinePlan]) -> Vec<usize> {
    let has = |i: &usize| matches!(machines[*i].role, Role::Store | Role::Broker | Role::Slave);
    (0..machines.len()).filter(has).collect()
}

fn draw_faults(
    scenario: &Scenario,
    machines: &[MachinePlan],
    disturb_ms: u64,
    rng: &mut Rng,
) -> Vec<Fault> {
    let mut faults = Vec::new();
    for nemesis in &scenario.nemesis {
        let at_work = rng.chance(nemesis.chance);
        let mut dice = Rng::from_seed(rng.next_u64());
        if !at_work {
            continue;
        }
        for _ in 0..range(&mut dice, nemesis.times) {
            let wants_store = matches!(
                nemesis.kind,
                FaultKind::SyncErrors
                    | FaultKind::WriteErrors
                    | FaultKind::ReadErrors
                    | FaultKind::BadSector
                    | FaultKind::NoSpace
                    | FaultKind::SlowDisk
                    | FaultKind::Stall
                    | FaultKind::SecondStart
            ) || nemesis.kind.damages();
            let mut targets = if wants_store { with_disk(machines) } else { crashable(machines) };
            targets.retain(|n| nemesis.on.is(machines[*n].role));
            if targets.is_empty() {
                continue;
            }
            let target = *dice.pick(&targets);
            let mut other = dice.below(machines.len() as u64) as usize;
            if nemesis.on == Aim::Pairs {
                other = machines[target].pair.as_ref().map_or(other, |pair| pair.master);
            }
            let is_turned = nemesis.on == Aim::Pairs && dice.chance(0.5);
            let (target, other) = if is_turned { (other, target) } else { (target, other) };
            let amount = match nemesis.kind {
                FaultKind::ClockStep => dice.below(240_000) as i64 - 120_000,
                FaultKind::NoSpace => (dice.below(24) * 1024) as i64,
                FaultKind::SlowDisk => dice.between(20, 200) as i64,
                FaultKind::PowerLossPair => dice.below(6_000) as i64,
                kind if kind.damages() => dice.below(1 << 40) as i64,
                FaultKind::BadSector | FaultKind::Impostor => dice.below(1 << 30) as i64,
                _ => 0,
            };
            faults.push(Fault {
                at_ms: dice.below(disturb_ms),
                for_ms: range(&mut dice, nemesis.for_ms),
                kind: nemesis.kind,
                target,
                other: if other == target { (target + 1) % machines.len() } else { other },
                amount,
                rate: *dice.pick(&[0.05, 0.3, 1.0]),
            });
        }
    }
    faults.sort_by_key(|f| f.at_ms);
    faults
}
