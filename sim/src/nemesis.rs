//! What is done to the machines while the load runs, and how it is undone.

#![expect(clippy::disallowed_methods, reason = "inside a simulation the clock is virtual")]

use crate::damage;
use crate::disk::{Rates, SECTOR};
use crate::oracle::court::{Court, ROOT};
use crate::oracle::files;
use crate::plan::{Fault, Plan, Role};
use crate::scenario::FaultKind;
use crate::trace;
use crate::workload::{impostor, intruder};
use crate::world::World;
use hotfire::rt::sim::mark;
use hotfire::rt::time::Duration;

/// Carries out the plan's faults, each from its begin to its end, then heals.
pub async fn disturb(court: &Court, plan: &Plan) {
    let world = court.world();
    let start = madsim::time::Instant::now();
    // (milliseconds, is the end, which fault)
    let mut moments: Vec<(u64, bool, usize)> = Vec::new();
    for (n, fault) in plan.faults.iter().enumerate() {
        moments.push((fault.at_ms, false, n));
        moments.push((fault.at_ms + fault.for_ms, true, n));
    }
    moments.sort_unstable();
    for (ms, is_end, n) in moments {
        madsim::time::sleep_until(start + Duration::from_millis(ms)).await;
        if world.violation().is_some() {
            return;
        }
        let fault = &plan.faults[n];
        if is_end { end(world, fault) } else { begin(court, fault) }
    }
    let rest = start + Duration::from_millis(plan.disturb_ms);
    if madsim::time::Instant::now() < rest {
        madsim::time::sleep_until(rest).await;
    }
}

fn begin(court: &Court, fault: &Fault) {
    let world = court.world();
    let (target, rate) = (fault.target, fault.rate);
    let machine = &world.machines()[target];
    trace::tell(
        &machine.plan.name,
        format_args!("nemesis: {:?} for {} ms", fault.kind, fault.for_ms),
    );
    match fault.kind {
        FaultKind::ProcessCrash => world.crash(target, false),
        FaultKind::PowerLoss => world.crash(target, true),
        FaultKind::PowerLossAll => {
            (0..world.machines().len()).for_each(|n| world.crash(n, true));
        }
        FaultKind::PowerLossPair => {
            for n in [target, fault.other] {
                let is_slave = world.machines()[n].plan.role == Role::Slave;
                world.crash(n, !is_slave || fault.amount % 2 == 0);
            }
            world.restart_later(fault.other, fault.for_ms + fault.amount as u64);
        }
        FaultKind::Restart => {
            let world = world.clone();
            madsim::task::spawn(async move {
                if world.stop(target, Duration::from_secs(5)).await {
                    mark("world: clean stop");
                }
                world.restart_later(target, 1);
            });
        }
        FaultKind::SyncErrors => machine.disk.set_rates(Rates { sync: rate, ..Rates::default() }),
        FaultKind::WriteErrors => machine.disk.set_rates(Rates { write: rate, ..Rates::default() }),
        FaultKind::ReadErrors => machine.disk.set_rates(Rates { read: rate, ..Rates::default() }),
        FaultKind::BadSector => machine.disk.set_bad(bad_sector(court, fault)),
        FaultKind::NoSpace => machine.disk.leave_space(fault.amount as u64),
        FaultKind::ClockStep => world.step_clock(target, fault.amount),
        FaultKind::SlowDisk => machine.disk.set_slow(fault.amount as u64),
        FaultKind::Stall => machine.disk.stall(Duration::from_millis(fault.for_ms)),
        FaultKind::Partition | FaultKind::Clog => clog(world, fault, true),
        FaultKind::Pause => world.handle().pause(machine.node),
        FaultKind::SecondStart => intruder::start(court, target),
        FaultKind::Impostor => impostor::start(court, fault),
        kind => damage::strike(world, target, kind, fault.amount as u64),
    }
}

fn end(world: &World, fault: &Fault) {
    let machine = &world.machines()[fault.target];
    match fault.kind {
        FaultKind::PowerLossAll => (0..world.machines().len()).for_each(|n| world.start(n)),
        FaultKind::SyncErrors | FaultKind::WriteErrors | FaultKind::ReadErrors => {
            machine.disk.set_rates(Rates::default());
        }
        FaultKind::BadSector => machine.disk.set_bad(None),
        FaultKind::NoSpace => machine.disk.give_space(),
        FaultKind::SlowDisk => machine.disk.set_slow(1),
        FaultKind::Restart
        | FaultKind::ClockStep
        | FaultKind::SecondStart
        | FaultKind::Impostor
        | FaultKind::Stall => {}
        FaultKind::Partition | FaultKind::Clog => clog(world, fault, false),
        FaultKind::Pause => world.handle().resume(machine.node),
        // The others end a process.
        _ => world.start(fault.target),
    }
}

/// A sector of the commit log as long as it is now.
fn bad_sector(court: &Court, fault: &Fault) -> Option<(String, std::ops::Range<usize>)> {
    let (disk, dir) = (&court.world().machines()[fault.target].disk, format!("{ROOT}/commitlog"));
    let records = files::log(disk, &dir).records;
    let record = records.get((fault.amount as usize).checked_rem(records.len())?)?;
    let (path, at) = files::place(disk, &dir, record.physical)?;
    let sector = at / SECTOR * SECTOR;
    Some((path, sector..sector + SECTOR))
}

fn clog(world: &World, fault: &Fault, on: bool) {
    world.clog(fault.target, fault.other, on);
    if fault.kind == FaultKind::Partition {
        world.clog(fault.other, fault.target, on);
    }
}

/// Ends every fault and starts what is down.
pub fn heal(world: &World) {
    trace::tell("world", format_args!("heals"));
    let all = 0..world.machines().len();
    for (from, to) in all.clone().flat_map(|from| all.clone().map(move |to| (from, to))) {
        world.clog(from, to, false);
    }
    world.net().heal();
    world.disarm_crash_points();
    for (n, machine) in world.machines().iter().enumerate() {
        machine.disk.set_rates(Rates::default());
        machine.disk.set_bad(None);
        machine.disk.give_space();
        machine.disk.set_slow(1);
        world.handle().resume(machine.node);
        world.start(n);
    }
}
