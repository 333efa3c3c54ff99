//! A failure told in a few lines, with the replay line first and last.

use crate::plan::Plan;
use crate::runner::Report;

/// How many moments the story has.
const LINES: usize = 10;

pub fn replay_line(plan: &Plan) -> String {
    format!("just sim --seed {} --scenario {}", plan.seed, plan.scenario)
}

pub fn tell(plan: &Plan, report: &Report) {
    println!("{}", replay_line(plan));
    println!();
    for line in summary(plan, report) {
        println!("  {line}");
    }
    println!();
    println!("the last events of each node:");
    for (node, lines) in &report.kept {
        println!(" {node}");
        for line in lines {
            println!("  {line}");
        }
    }
    println!();
    let what = report.failure.as_deref().unwrap_or("nothing broke");
    println!("seed {} scenario {}: FAILED: {what}", plan.seed, plan.scenario);
    println!("at {:.6} s virtual, after {} events", report.virtual_us as f64 / 1e6, report.events);
    println!("{}", replay_line(plan));
}

/// The plan in one line, then the moments that led to the failure.
pub fn summary(plan: &Plan, report: &Report) -> Vec<String> {
    let machines: Vec<String> = plan
        .machines
        .iter()
        .map(|m| format!("{} ({:?}{})", m.name, m.role, if m.sync_flush { ", sync" } else { "" }))
        .collect();
    let mut lines = vec![format!(
        "{}: {} messages, {} faults, {} crash points",
        machines.join(", "),
        plan.load.messages,
        plan.faults.len(),
        plan.crash_points.len()
    )];
    let from = report.told.len().saturating_sub(LINES);
    lines.extend(report.told[from..].iter().cloned());
    lines
}
