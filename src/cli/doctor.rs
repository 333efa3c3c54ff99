//! `hotfire doctor`: looks at a store directory and at the machine under it, and touches neither.

mod machine;
mod table;

use super::failure::Failure;
use super::say;
use crate::disk::real::{RealDisk, is_locked};
use crate::disk::{Disk, read_small};
use crate::doctor::{Options, Progress, Report, examine};
use crate::rt;
use crate::rt::time::Clock;
use crate::store::LogPaths;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use std::sync::Arc;

#[derive(Debug, Args)]
pub struct Doctor {
    /// The store's directory (storePathRootDir), of Hotfire or RocketMQ; it may be in use
    #[arg(long, value_name = "DIR")]
    pub store: String,
    /// storePathCommitLog, when it is not DIR/commitlog
    #[arg(long, value_name = "DIRS")]
    pub commit_log: Option<String>,
    /// Look at every record, checksum and queue entry, not at a sample
    #[arg(long)]
    pub deep: bool,
    /// What rehearsing a start may change in memory
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    pub memory: u64,
    /// For machines
    #[arg(long)]
    pub json: bool,
}

/// Exit code 0: healthy; 1: there are findings; 3: the directory cannot be read.
pub fn run(args: &Doctor) -> Result<(), Failure> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::read_only());
    let mut options = Options::new(&args.store);
    if let Some(dirs) = &args.commit_log {
        let wrong = |why| Failure::new(Failure::USAGE, format!("--commit-log: {why}"));
        options.commit_log = LogPaths::parse(dirs, "").map_err(wrong)?;
    }
    options.deep = args.deep;
    options.memory_size_max = args.memory.saturating_mul(1 << 20);
    options.live = owner(&*disk, &options.root);
    let bar = Bar::new(args.json);
    let looked = rt::block_on(async { examine(&disk, &Clock::new(), &options, &bar).await });
    bar.0.finish_and_clear();
    let refused = |error| Failure::new(Failure::REFUSED, format!("failed to read: {error}"));
    let mut report = looked.map_err(refused)?;
    machine::look(&*disk, &options, &mut report);
    report.sort();
    show(&report, args.json);
    if report.is_healthy() { Ok(()) } else { Err(Failure::new(Failure::NO, summary(&report))) }
}

/// Who runs on the directory; `None` when nobody does, or it cannot be told.
fn owner(disk: &dyn Disk, root: &str) -> Option<String> {
    if !is_locked(&format!("{root}/lock")).unwrap_or(false) {
        return None;
    }
    let owner = read_small(disk, &format!("{root}/hotfire/owner"), 4096).unwrap_or_default();
    let owner = String::from_utf8_lossy(&owner).trim().to_owned();
    Some(if owner.is_empty() { "a RocketMQ broker".to_owned() } else { owner })
}

fn show(report: &Report, json: bool) {
    if json {
        say::line(serde_json::to_string_pretty(report).unwrap_or_default());
    } else {
        say::line(table::text(report));
    }
}

fn summary(report: &Report) -> String {
    let listed = report.findings.iter().filter(|f| f.level != crate::doctor::Level::Note).count();
    let count = listed as u64 + report.unlisted.values().sum::<u64>();
    format!("{count} findings")
}

struct Bar(ProgressBar);

impl Bar {
    fn new(hidden: bool) -> Self {
        // Draws only on a terminal.
        Bar(if hidden { ProgressBar::hidden() } else { ProgressBar::new_spinner() })
    }
}

impl Progress for Bar {
    fn begin(&self, what: &str, total: u64) {
        let template = match total {
            0 => "{spinner} {msg} {bytes}",
            _ => "{spinner} {msg} [{wide_bar}] {percent}% {eta}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.0.set_style(style);
        }
        self.0.reset();
        self.0.set_length(total);
        self.0.set_message(what.to_owned());
    }
    fn at(&self, position: u64) {
        self.0.set_position(position);
    }
}
