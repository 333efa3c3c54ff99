//! From arguments to a report.

use super::args::{Bench, Load, What};
use super::echo::Echo;
use super::load::{self, Plan, Work};
use super::pull::Pull;
use super::send::Send;
use super::tail::Tail;
use super::{clock, report, server};
use crate::cli::Failure;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::net::ToSocketAddrs;

/// Units: ns. Longer than anyone waits for a count.
const DAY: u64 = 86_400_000_000_000;
/// Units: bytes. Room for the time in a body.
const TAIL_SIZE_MIN: u32 = 20;

/// Errors: 1 when requests failed, 2 for wrong use, 3 when the network refuses.
pub fn run(bench: &Bench) -> Result<(), Failure> {
    match &bench.what {
        What::Send(load) => measure(load, 0, &mut Send::new(load)),
        What::Pull(load) => measure(load, 0, &mut Pull::new(load)),
        What::Tail(load) if load.size < TAIL_SIZE_MIN => {
            let why = format!("--size {}: at least {TAIL_SIZE_MIN} are needed", load.size);
            Err(Failure::new(Failure::USAGE, why))
        }
        What::Tail(load) => measure(load, load.queues, &mut Tail::new(load)),
        What::Copy(copy) => server::copy(&copy.listen, &copy.file, copy.pull_count),
        What::Echo(limit) => match &limit.listen {
            Some(addr) => server::echo(addr),
            None => measure(&limit.load, 0, &mut Echo::new(&limit.load)),
        },
        What::Floor(limit) => match &limit.listen {
            Some(addr) => server::floor(addr, &limit.file),
            None => measure(&limit.load, 0, &mut Send::new(&limit.load)),
        },
    }
}

fn plan(load: &Load, more_connections: u32) -> Result<Plan, Failure> {
    let usage = |why: String| Failure::new(Failure::USAGE, format!("-b {}: {why}", load.broker));
    let mut addrs = load.broker.to_socket_addrs().map_err(|e| usage(e.to_string()))?;
    let addr = addrs.next().ok_or_else(|| usage("it has no address".into()))?;
    if load.rate.is_some_and(|rate| rate.is_nan() || rate <= 0.0) {
        return Err(Failure::new(Failure::USAGE, "--rate: more than 0 was expected"));
    }
    let duration = if load.count.is_some() { DAY } else { clock::from_seconds(load.seconds) };
    Ok(Plan {
        addr,
        connections: (load.connections + more_connections) as usize,
        in_flight: load.in_flight,
        warmup: clock::from_seconds(load.warmup),
        duration,
        count: load.count,
        rate: load.rate,
        pids: load.pid.clone(),
    })
}

fn measure(load: &Load, more: u32, work: &mut impl Work) -> Result<(), Failure> {
    let plan = plan(load, more)?;
    let bar = if load.json || load.count.is_some() { ProgressBar::hidden() } else { bar(&plan) };
    let outcome = load::run(&plan, work, &bar);
    bar.finish_and_clear();
    let outcome = outcome?;
    if load.json {
        println!("{}", report::json(&plan, &outcome));
    } else {
        println!("{}", report::table(&plan, &outcome));
    }
    match &outcome.failure {
        Some(failure) => {
            let failed = outcome.failed;
            let text = format!("{failed} requests failed, the first with {failure}");
            Err(Failure::new(Failure::NO, text))
        }
        None => Ok(()),
    }
}

fn bar(plan: &Plan) -> ProgressBar {
    let bar = ProgressBar::new((plan.warmup + plan.duration) / 1_000_000);
    bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(5));
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {percent}% {eta} left") {
        bar.set_style(style);
    }
    bar
}
