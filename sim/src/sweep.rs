//! Many seeds: a process per chunk, as many at once as there are cores.

use crate::cli::Which;
use crate::plan::Plan;
use crate::runner::Report;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

/// Marks that must be seen in at least this share of the seeds of a long sweep.
const MUST_SEE: &[(&str, f64)] = &[
    ("world: power loss after an ack", 0.02),
    ("disk: sector dropped at power loss", 0.02),
    ("store: recovery met a torn record", 0.02),
    ("disk: directory entry lost", 0.02),
    ("disk: sync failed", 0.02),
    // The weaknesses of 4.9.3 that need a rare state: a sweep that never meets it shows nothing.
    ("store: synced over a segment border", 0.1), // W-02
    ("store: zeroed the tail", 0.05),             // W-03, W-04, W-07
    ("store: filled the first segment with zeros", 0.1), // W-05, W-06
    ("rot: found by its checksum", 0.005),        // W-09, W-10
    ("rot: found by its record", 0.005),          // W-10, W-11
    ("store: recovery skipped rot", 0.005),       // W-11, W-33
    ("store: a second owner was refused", 0.01),  // W-12
    ("world: clean stop", 0.05),                  // W-14
    ("store: recovery met a clock that had stepped back (W-15)", 0.005),
    ("store: append refused, no space", 0.01), // W-17
    ("store: appends are refused, the disk is too full", 0.005), // W-17
    ("store: poisoned", 0.01),                 // W-01, W-16
    ("retention: a log file was deleted", 0.01), // W-22, W-31
    ("store: entries were made again from the log (W-23)", 0.001),
    ("store: the snapshot did not fit the files", 0.03), // W-24, W-25, W-26
    ("store: blank entries before a queue's first", 0.01), // W-27
    ("store: recovery met a queue that began anew", 0.01), // W-28, W-29
    ("store: a topic was deleted (W-29)", 0.01),
    ("store: a run of queue entries failed", 0.005), // W-32, W-34
    ("store: the index was forgotten after an error", 0.02), // W-32, W-35
    ("store: slots of an index file were taken back", 0.03), // W-36
    ("store: the clock jumped ahead and was not believed", 0.005), // W-37
    ("schedule: a delayed message was read", 0.02),
    ("timer: a timed message was read", 0.02),
    ("schedule: delivered again after a crash", 0.01), // W-57, W-58
    ("retry: a message was consumed after retries", 0.02),
    ("retry: a message is dead", 0.02),
    ("transaction: a committed message was read", 0.02),
    ("transaction: a half message was put back", 0.02), // W-63, W-66
    ("transaction: an end came after the end", 0.02),   // W-64
    ("transaction: a half message was discarded", 0.02), // W-67
    ("calls: a reply came to who asked", 0.02),
    ("calls: a reset was told to a member", 0.01),
    ("calls: a queue was locked", 0.02),
    ("calls: a lock was refused, another has it", 0.02),
    ("ha: a slave has it, said a master", 0.02),
    ("ha: no slave in time, said a master", 0.002), // W-44
    ("ha: an impostor was sent away", 0.006),       // W-41
    ("ha: a slave served while its master was away", 0.006),
    ("ha: a master was lost with its disk", 0.004),
    ("ha: a log went another way than its master's", 0.001), // W-40
    ("ha: a master took from its slave what it had lost", 0.001),
    ("promotion: a slave takes over", 0.02),
    ("promotion: a replaced master ended", 0.01), // W-47
    ("ha: a master heard from a slave that it was replaced", 0.003), // W-47
    ("store: a cut took ends of half messages", 0.001),
    ("store: a cut took deliveries of delayed messages", 0.001),
];
/// A sweep is long from here on. Units: seeds.
const LONG: u64 = 500;

/// What a child process says about one seed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    pub seed: u64,
    scenario: String,
    pub failure: Option<String>,
    hash: u64,
    events: u64,
    virtual_us: u64,
    cpu_us: u64,
    marks: BTreeMap<String, u64>,
}

impl Line {
    pub fn new(plan: &Plan, report: Report) -> Self {
        Line {
            seed: plan.seed,
            scenario: plan.scenario.clone(),
            failure: report.failure,
            hash: report.hash,
            events: report.events,
            virtual_us: report.virtual_us,
            cpu_us: report.cpu_us,
            marks: report.marks,
        }
    }

    fn died(seed: u64, which: &Which, what: &str) -> Self {
        Line {
            seed,
            scenario: which.scenario.clone().unwrap_or_default(),
            failure: Some(format!("the process died: {what}")),
            hash: 0,
            events: 0,
            virtual_us: 0,
            cpu_us: 0,
            marks: BTreeMap::new(),
        }
    }

    pub fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string(self)?)
    }

    fn replay(&self) -> String {
        format!("just sim --seed {} --scenario {}", self.seed, self.scenario)
    }
}

/// A range of seeds and how to run it.
pub struct Run {
    pub exe: PathBuf,
    pub start: u64,
    pub count: u64,
    /// Seeds per process.
    pub chunk: u64,
    pub jobs: usize,
}

impl Run {
    fn here(start: u64, count: u64, chunk: u64, jobs: usize) -> Result<Run> {
        Ok(Run { exe: std::env::current_exe()?, start, count, chunk, jobs })
    }

    /// Runs `count` seeds from `start` in one child; gives a line for every seed it came to.
    fn child(&self, start: u64, count: u64, which: &Which) -> Result<Vec<Line>> {
        let mut command = Command::new(&self.exe);
        command.args(["chunk", "--start", &start.to_string(), "--count", &count.to_string()]);
        if let Some(name) = &which.scenario {
            command.args(["--scenario", name]);
        }
        for bug in &which.planted {
            command.args(["--planted", bug]);
        }
        let output = command.output().context("failed to start a child process")?;
        if output.status.code() == Some(2) {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let mut lines = Vec::new();
        for line in output.stdout.split(|b| *b == b'\n').filter(|l| l.starts_with(b"{")) {
            // The last line of a process that died may be cut off.
            if let Ok(line) = serde_json::from_slice(line) {
                lines.push(line);
            }
        }
        if lines.is_empty() {
            let what = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            lines.push(Line::died(start, which, &what));
        }
        Ok(lines)
    }

    /// Runs all seeds; a line of which `stop` says so ends it early.
    pub fn all(&self, which: &Which, stop: fn(&Line) -> bool) -> Result<Vec<Line>> {
        let mut todo = VecDeque::new();
        let mut at = self.start;
        while at < self.start + self.count {
            let n = self.chunk.min(self.start + self.count - at);
            todo.push_back((at, n));
            at += n;
        }
        let todo = Mutex::new(todo);
        let done: Mutex<Vec<Line>> = Mutex::default();
        let error: Mutex<Option<anyhow::Error>> = Mutex::default();
        std::thread::scope(|scope| {
            for _ in 0..self.jobs {
                scope.spawn(|| {
                    if let Err(e) = self.work(&todo, &done, which, stop)
                        && let (Ok(mut slot), Ok(mut todo)) = (error.lock(), todo.lock())
                    {
                        *slot = Some(e);
                        todo.clear();
                    }
                });
            }
        });
        if let Some(e) = error.into_inner().ok().flatten() {
            return Err(e);
        }
        let mut lines = done.into_inner().unwrap_or_default();
        lines.sort_by_key(|l| l.seed);
        Ok(lines)
    }

    fn work(
        &self,
        todo: &Mutex<VecDeque<(u64, u64)>>,
        done: &Mutex<Vec<Line>>,
        which: &Which,
        stop: fn(&Line) -> bool,
    ) -> Result<()> {
        let lock_lost = || anyhow::anyhow!("another worker panicked");
        loop {
            let next = todo.lock().map_err(|_| lock_lost())?.pop_front();
            let Some((at, n)) = next else { return Ok(()) };
            let lines = self.child(at, n, which)?;
            let got = lines.len() as u64;
            let mut todo = todo.lock().map_err(|_| lock_lost())?;
            if got < n {
                todo.push_front((at + got, n - got));
            }
            if lines.iter().any(stop) {
                todo.clear();
            }
            let mut done = done.lock().map_err(|_| lock_lost())?;
            done.extend(lines);
            progress(done.len() as u64, self.count);
        }
    }
}

fn progress(done: u64, count: u64) {
    use std::io::IsTerminal;
    if std::io::stderr().is_terminal() {
        eprint!("\r{done} of {count} seeds ");
        if done == count {
            eprintln!();
        }
        // Progress that cannot be shown is no reason to stop.
        let _ = std::io::stderr().flush();
    }
}

pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

pub fn sweep(start: u64, count: u64, which: &Which, jobs: Option<usize>) -> Result<bool> {
    let jobs = jobs.unwrap_or_else(cores).max(1);
    let chunk = (count / (jobs as u64 * 6)).clamp(1, 100);
    let lines = Run::here(start, count, chunk, jobs)?.all(which, |_| false)?;
    print_marks(&lines);
    print_cost(&lines);
    let mut failed = 0;
    for line in &lines {
        if let Some(what) = &line.failure {
            failed += 1;
            println!("FAILED {what}");
            println!("{}", line.replay());
        }
    }
    // One scenario alone need not see everything.
    let unseen = if which.scenario.is_none() { unseen(&lines) } else { Vec::new() };
    for what in &unseen {
        println!("FAILED {what}");
    }
    let failed = failed + unseen.len();
    println!("{} passed, {failed} failed", lines.iter().filter(|l| l.failure.is_none()).count());
    Ok(failed == 0)
}

/// Marks that a long sweep saw too seldom.
fn unseen(lines: &[Line]) -> Vec<String> {
    let n = lines.len() as u64;
    if n < LONG {
        return Vec::new();
    }
    let mut seldom = Vec::new();
    for (mark, share) in MUST_SEE {
        let hit = lines.iter().filter(|l| l.marks.contains_key(*mark)).count();
        if (hit as f64) < share * n as f64 {
            seldom.push(format!("the mark {mark:?} was seen in {hit} of {n} seeds, too seldom"));
        }
    }
    seldom
}

fn print_marks(lines: &[Line]) {
    let mut marks: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for line in lines {
        for (mark, n) in &line.marks {
            let slot = marks.entry(mark).or_default();
            slot.0 += 1;
            slot.1 += n;
        }
    }
    println!("{:<52} {:>16} {:>10}", "mark", "per 1,000 seeds", "hits");
    for (mark, (seeds, hits)) in marks {
        let per = seeds as f64 * 1000.0 / lines.len().max(1) as f64;
        println!("{mark:<52} {per:>16.0} {hits:>10}");
    }
}

fn print_cost(lines: &[Line]) {
    let mut cpu: Vec<(u64, u64)> = lines.iter().map(|l| (l.cpu_us, l.seed)).collect();
    cpu.sort_unstable();
    let Some((max, seed)) = cpu.last() else { return };
    let mean = cpu.iter().map(|c| c.0).sum::<u64>() / cpu.len() as u64;
    println!(
        "cpu per seed: mean {:.1} ms, median {:.1} ms, largest {:.1} ms (seed {seed})",
        mean as f64 / 1e3,
        cpu[cpu.len() / 2].0 as f64 / 1e3,
        *max as f64 / 1e3
    );
}

/// Each seed in two processes, in chunks of different shape: same traces?
pub fn meta(start: u64, count: u64, which: &Which) -> Result<bool> {
    let jobs = cores();
    let chunk = (count / 4).clamp(1, 50);
    let first = Run::here(start, count, chunk, jobs)?.all(which, |_| false)?;
    let second = Run::here(start, count, 1, jobs)?.all(which, |_| false)?;
    let mut failed = 0;
    for (a, b) in first.iter().zip(&second) {
        let same = (a.hash, a.events, a.virtual_us) == (b.hash, b.events, b.virtual_us);
        if same && a.failure == b.failure {
            continue;
        }
        failed += 1;
        println!("FAILED seed {} has two traces: {:016x}, {:016x}", a.seed, a.hash, b.hash);
        if failed == 1 {
            first_difference(a, which)?;
        }
        println!("{}", a.replay());
    }
    println!("{} passed, {failed} failed", first.len() - failed);
    Ok(failed == 0)
}

/// Runs a seed twice with its trace and shows where the two part.
fn first_difference(line: &Line, which: &Which) -> Result<()> {
    let trace = || -> Result<Vec<String>> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["run", "--trace", "--seed", &line.seed.to_string()]);
        if let Some(name) = &which.scenario {
            command.args(["--scenario", name]);
        }
        let output = command.output()?;
        Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
    };
    let (a, b) = (trace()?, trace()?);
    match a.iter().zip(&b).find(|(a, b)| a != b) {
        Some((a, b)) => println!("first differing event:\n  {a}\n  {b}"),
        None => println!("two runs alone agree: the seed depends on what ran before it"),
    }
    Ok(())
}
