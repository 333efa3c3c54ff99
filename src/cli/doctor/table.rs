//! A report for people.

use crate::doctor::{Level, Report};
use comfy_table::{CellAlignment, Table, presets};

/// Everything that was found, the worst at the end where it is seen.
pub fn text(report: &Report) -> String {
    let mut lines = vec![format!("store {}", report.root)];
    lines.push(format!("written by {}", report.written_by));
    if let Some(owner) = &report.live {
        lines.push(format!("in use by {owner}"));
    }
    lines.push(String::new());
    lines.push(areas(report).to_string());
    lines.push(String::new());
    lines.push(facts(report).to_string());
    lines.push(String::new());
    lines.extend(findings(report));
    lines.join("\n")
}

fn table() -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table
}

fn areas(report: &Report) -> Table {
    let mut table = table();
    table.set_header(["directory", "files", "bytes", "format"]);
    for area in &report.areas {
        let (files, size) = (area.files.to_string(), area.size.to_string());
        table.add_row([area.name.clone(), files, size, area.format.clone()]);
    }
    for column in [1, 2] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn facts(report: &Report) -> Table {
    let (log, queues, start) = (&report.log, &report.queues, &report.start);
    let how = if report.deep { "all" } else { "a sample; --deep for all" };
    let mut table = table();
    let mut row = |name: &str, value: String| {
        table.add_row([name.to_owned(), value]);
    };
    row("log", format!("{} to {}", log.min, log.end));
    row("records checked", format!("{} ({how})", log.records_checked));
    row(
        "checksums",
        format!(
            "{} of {} files have them, {} compared",
            log.segments_with_checksums, log.segments, log.segments_compared
        ),
    );
    row(
        "queues",
        format!(
            "{}, {} entries, {} checked, {} do not fit",
            queues.count, queues.entries, queues.entries_checked, queues.mismatches
        ),
    );
    match &start.error {
        Some(error) => row("a start", format!("would fail: {error}")),
        None => {
            let stop = if start.unclean { "after a crash" } else { "after an orderly stop" };
            let cut =
                start.cut_reason.as_ref().map_or(String::new(), |why| format!(", cut: {why}"));
            row("a start", format!("{stop}: the log ends at {}{cut}", start.end));
            row(
                "",
                format!(
                    "{} records scanned from {}, floor {}, {} bytes made zero, {} written again",
                    start.scanned_records,
                    start.scanned_from,
                    start.floor,
                    start.zeroed,
                    start.rewritten
                ),
            );
            row(
                "",
                format!(
                    "{} queue entries made, {} rotten places passed over",
                    start.queue_entries_repaired, start.rot_skipped
                ),
            );
        }
    }
    for limit in &report.machine {
        row(&limit.name, limit.value.clone());
    }
    table
}

fn findings(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    for finding in report.findings.iter().rev() {
        let level = match finding.level {
            Level::Note => "note   ",
            Level::Warning => "WARNING",
            Level::Error => "ERROR  ",
        };
        lines.push(format!("{level} {}: {}", finding.place, finding.what));
        if !finding.advice.is_empty() {
            lines.push(format!("        {}", finding.advice));
        }
    }
    for (kind, count) in &report.unlisted {
        lines.push(format!("        and {count} more of kind {kind}"));
    }
    if report.is_healthy() {
        lines.push("healthy".to_owned());
    }
    lines
}
