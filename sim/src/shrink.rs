//! The smallest plan that still fails in the same way: greedy, one run per try.

use crate::plan::Plan;
use crate::runner::{self, How, Report};
use crate::{cli, story};
use anyhow::{Context, Result};

const TRIES_MAX: u32 = 600;

/// Two failures are the same when the same oracle speaks.
fn class(report: &Report) -> Option<String> {
    report.failure.as_ref().map(|f| f.split(':').next().unwrap_or("").to_owned())
}

#[expect(clippy::disallowed_methods, reason = "a plan is a file of the host")]
fn keep(plan: &Plan) -> Result<String> {
    let path = std::env::temp_dir().join(format!("sim-{}-shrunk.json", plan.seed));
    let text = serde_json::to_string_pretty(plan)?;
    std::fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
    Ok(path.display().to_string())
}

pub fn shrink(plan: Plan, how: &How) -> Result<bool> {
    let go = |plan: &Plan| runner::run(plan, how).unwrap_or_else(cli::stuck);
    let first = go(&plan);
    let Some(wanted) = class(&first) else {
        println!("seed {} scenario {}: ok, nothing to shrink", plan.seed, plan.scenario);
        return Ok(false);
    };
    let (mut best, mut report, mut tries) = (plan, first, 0);
    'again: loop {
        for candidate in smaller(&best) {
            if tries == TRIES_MAX {
                break 'again;
            }
            tries += 1;
            let next = go(&candidate);
            if class(&next).as_ref() == Some(&wanted) {
                (best, report) = (candidate, next);
                continue 'again;
            }
        }
        break;
    }
    story::tell(&best, &report);
    let path = keep(&best)?;
    println!();
    println!(
        "smallest plan after {tries} runs: {} faults, {} crash points, {} messages, {} ms",
        best.faults.len(),
        best.crash_points.len(),
        best.load.messages,
        best.disturb_ms
    );
    println!("just sim --seed {} --plan {path}", best.seed);
    Ok(true)
}

/// Plans that are one step simpler, the biggest steps first.
fn smaller(plan: &Plan) -> Vec<Plan> {
    let mut all = Vec::new();
    let mut with = |change: &dyn Fn(&mut Plan)| {
        let mut next = plan.clone();
        change(&mut next);
        all.push(next);
    };
    let n = plan.faults.len();
    let mut widths = vec![n, n / 2, n / 4, 1];
    widths.dedup();
    for width in widths.into_iter().filter(|w| (1..=n).contains(w)) {
        for from in (0..=n - width).step_by(width.max(1)) {
            with(&|p| drop(p.faults.drain(from..from + width)));
        }
    }
    for at in 0..plan.crash_points.len() {
        with(&|p| {
            p.crash_points.remove(at);
        });
    }
    for at in 0..plan.turns.len() {
        with(&|p| {
            p.turns.remove(at);
        });
    }
    if plan.buggify {
        with(&|p| p.buggify = false);
    }
    for messages in [plan.load.messages / 2, plan.load.messages * 3 / 4] {
        if messages > 0 && messages < plan.load.messages {
            with(&|p| p.load.messages = messages);
        }
    }
    if plan.load.producers > 1 {
        with(&|p| p.load.producers = 1);
    }
    if plan.load.window > 1 {
        with(&|p| p.load.window = 1);
    }
    if plan.load.topics > 1 {
        with(&|p| p.load.topics = 1);
    }
    if plan.load.queues > 1 {
        with(&|p| p.load.queues = 1);
    }
    let last = plan.faults.iter().map(|f| f.at_ms + f.for_ms).max().unwrap_or(0) + 200;
    if last < plan.disturb_ms {
        with(&|p| p.disturb_ms = last);
    }
    for machine in 0..plan.machines.len() {
        if plan.machines[machine].skew_ms != 0 {
            with(&|p| p.machines[machine].skew_ms = 0);
        }
        if plan.machines[machine].habits.writeback > 0.0 {
            with(&|p| p.machines[machine].habits.writeback = 0.0);
        }
    }
    all
}
