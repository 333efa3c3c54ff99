//! What a run tells: a table for people, an object for machines.

use super::load::{Outcome, Plan};
use comfy_table::{CellAlignment, Table, presets};
use hdrhistogram::Histogram;
use serde_json::{Value, json};

const PERCENTILES: [(&str, f64); 5] =
    [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p999", 99.9), ("max", 100.0)];

fn per_second(count: u64, outcome: &Outcome) -> f64 {
    count as f64 / (outcome.elapsed.max(1) as f64 / 1e9)
}

fn per_cpu_second(outcome: &Outcome) -> Option<f64> {
    outcome.cpu.filter(|cpu| *cpu > 0.0).map(|cpu| outcome.messages as f64 / cpu)
}

fn millis(latency: &Histogram<u64>, percentile: f64) -> f64 {
    latency.value_at_percentile(percentile) as f64 / 1e6
}

pub fn json(plan: &Plan, outcome: &Outcome) -> Value {
    let latency = PERCENTILES.map(|(name, percentile)| {
        (name.to_owned(), json!(round(millis(&outcome.latency, percentile), 1000.0)))
    });
    json!({
        "addr": plan.addr.to_string(),
        "connections": plan.connections,
        "inFlight": plan.in_flight,
        "rate": plan.rate,
        "seconds": round(outcome.elapsed as f64 / 1e9, 1000.0),
        "requests": outcome.requests,
        "messages": outcome.messages,
        "failed": outcome.failed,
        "failure": outcome.failure,
        "messagesPerSecond": per_second(outcome.messages, outcome).round(),
        "bytesPerSecond": per_second(outcome.size, outcome).round(),
        "cpuSeconds": outcome.cpu,
        "messagesPerCpuSecond": per_cpu_second(outcome).map(f64::round),
        "latencyMs": serde_json::Map::from_iter(latency),
    })
}

fn round(number: f64, by: f64) -> f64 {
    (number * by).round() / by
}

pub fn table(plan: &Plan, outcome: &Outcome) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_BORDERS_ONLY_CONDENSED);
    let mut row = |name: &str, value: String| {
        table.add_row([name.to_owned(), value]);
    };
    row("load", format!("{} connections x {} in flight", plan.connections, plan.in_flight));
    if let Some(rate) = plan.rate {
        row("rate", format!("{rate} requests/s, latency from when they were due"));
    }
    row("messages", format!("{} in {:.2} s", outcome.messages, outcome.elapsed as f64 / 1e9));
    row("messages/s", format!("{:.0}", per_second(outcome.messages, outcome)));
    row("MB/s", format!("{:.1}", per_second(outcome.size, outcome) / 1e6));
    if let Some(cpu) = outcome.cpu {
        row("CPU seconds", format!("{cpu:.2}"));
    }
    if let Some(rate) = per_cpu_second(outcome) {
        row("messages/CPU second", format!("{rate:.0}"));
    }
    for (name, percentile) in PERCENTILES {
        row(&format!("latency {name}"), format!("{:.3} ms", millis(&outcome.latency, percentile)));
    }
    if let Some(failure) = &outcome.failure {
        row("failed", format!("{}, the first with {failure}", outcome.failed));
    }
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
