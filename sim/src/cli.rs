//! The commands of `sim`. Their last lines and exit codes are relied on by scripts.

use crate::mutants::{self, Asked};
use crate::plan::{self, Plan};
use crate::runner::{self, How, Report};
use crate::{corpus, scenario, shrink, story, sweep};
use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(about = "Runs Hotfire on simulated machines and tries to break it")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs one seed and tells what broke
    Run {
        #[command(flatten)]
        seed: Seed,
        /// Prints every event
        #[arg(long)]
        trace: bool,
        /// Runs this plan (from `shrink`) instead of the seed's own
        #[arg(long)]
        plan: Option<String>,
    },
    /// Runs many seeds on all cores
    Sweep {
        count: u64,
        #[arg(long, default_value_t = 0)]
        start: u64,
        #[command(flatten)]
        which: Which,
        #[arg(long)]
        jobs: Option<usize>,
    },
    /// Runs each seed in two processes and compares the traces
    Meta {
        count: u64,
        #[arg(long, default_value_t = 0)]
        start: u64,
        #[command(flatten)]
        which: Which,
    },
    /// Finds the smallest plan that still fails
    Shrink {
        #[command(flatten)]
        seed: Seed,
    },
    /// Builds all planted bugs at once and runs each until it is caught
    Mutants {
        /// Only these
        names: Vec<String>,
        /// Seeds per range
        #[arg(long, default_value_t = 1_000)]
        seeds: u64,
        /// Seeds of the control run, without a bug
        #[arg(long, default_value_t = 500)]
        control: u64,
        /// Writes the figures into the table of docs/PROOF.md
        #[arg(long, conflicts_with = "names")]
        proof: bool,
    },
    /// Replays the seeds that once found a bug
    Corpus,
    /// Lists the scenarios
    List,
    /// Runs the disk suite on the simulated disk
    Conformance,
    /// Runs a range of seeds in this process, for `sweep`
    #[command(hide = true)]
    Chunk {
        #[arg(long)]
        start: u64,
        #[arg(long)]
        count: u64,
        #[command(flatten)]
        which: Which,
    },
}

#[derive(Args)]
struct Seed {
    #[arg(long)]
    seed: u64,
    #[command(flatten)]
    which: Which,
}

#[derive(Args, Clone, Debug)]
pub struct Which {
    /// Without it every seed draws its scenario
    #[arg(long)]
    pub scenario: Option<String>,
    /// Switches a planted bug on
    #[arg(long)]
    pub planted: Vec<String>,
}

impl Which {
    fn how(&self, print: bool) -> How {
        How { print, planted: self.planted.iter().cloned().collect() }
    }
}

pub fn main() -> ExitCode {
    runner::quiet_panics();
    let done = match Cli::parse().command {
        Command::Run { seed, trace, plan } => run_one(&seed, trace, plan.as_deref()),
        Command::Sweep { count, start, which, jobs } => sweep::sweep(start, count, &which, jobs),
        Command::Meta { count, start, which } => sweep::meta(start, count, &which),
        Command::Shrink { seed } => shrink_one(&seed),
        Command::Mutants { names, seeds, control, proof } => {
            mutants::mutants(&Asked { only: names, seeds_max: seeds, control, proof })
        }
        Command::Corpus => corpus::replay(),
        Command::List => list(),
        Command::Conformance => conformance(),
        Command::Chunk { start, count, which } => chunk(start, count, &which),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(e) => {
            eprintln!("sim: {e:#}");
            ExitCode::from(2)
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a plan is a file of the host")]
fn read_plan(path: &str) -> Result<Plan> {
    let text = std::fs::read_to_string(path).with_context(|| format!("failed to read {path}"))?;
    serde_json::from_str(&text).with_context(|| format!("{path} is not a plan"))
}

fn run_one(seed: &Seed, trace: bool, file: Option<&str>) -> Result<bool> {
    let plan = match file {
        Some(path) => read_plan(path)?,
        None => plan::draw(seed.seed, seed.which.scenario.as_deref())?,
    };
    if trace {
        println!("{}", serde_json::to_string(&plan)?);
    }
    let report = runner::run(&plan, &seed.which.how(trace)).unwrap_or_else(stuck);
    match &report.failure {
        None => {
            println!(
                "seed {} scenario {}: ok, trace {:016x}, {} events, {:.1} s virtual",
                plan.seed,
                plan.scenario,
                report.hash,
                report.events,
                report.virtual_us as f64 / 1e6
            );
            Ok(true)
        }
        Some(_) => {
            story::tell(&plan, &report);
            Ok(false)
        }
    }
}

/// The report of a run that did not end by itself.
pub fn stuck() -> Report {
    let what = "stuck: the run spins without moving virtual time".to_owned();
    Report { failure: Some(what), ..Report::default() }
}

fn shrink_one(seed: &Seed) -> Result<bool> {
    let plan = plan::draw(seed.seed, seed.which.scenario.as_deref())?;
    shrink::shrink(plan, &seed.which.how(false))
}

fn list() -> Result<bool> {
    for s in scenario::all()? {
        println!("{:<12} weight {:>2}, nemeses {}", s.name, s.weight, s.nemesis.len());
    }
    Ok(true)
}

fn chunk(start: u64, count: u64, which: &Which) -> Result<bool> {
    for seed in start..start + count {
        let plan = plan::draw(seed, which.scenario.as_deref())?;
        let Some(report) = runner::run(&plan, &which.how(false)) else {
            println!("{}", sweep::Line::new(&plan, stuck()).to_json()?);
            // The thread of that seed still spins; the parent starts another process.
            std::process::exit(1);
        };
        println!("{}", sweep::Line::new(&plan, report).to_json()?);
    }
    Ok(true)
}

fn conformance() -> Result<bool> {
    // No seed's thread catches a panic here: let it be seen.
    drop(std::panic::take_hook());
    for seed in 0..20 {
        let runtime =
            madsim::runtime::Runtime::with_seed_and_config(seed, madsim::Config::default());
        if let Err(what) = runtime.block_on(crate::net::suite::run(seed)) {
            bail!("the simulated network breaks the contract at seed {seed}: {what}");
        }
        let runtime =
            madsim::runtime::Runtime::with_seed_and_config(seed, madsim::Config::default());
        let outcome = runtime.block_on(async move {
            crate::disk::suite::run(seed).await?;
            let clock = hotfire::rt::time::Clock::new();
            let dice = hotfire::rt::rng::Rng::from_seed(seed);
            let disk = crate::disk::SimDisk::new("m", clock, dice, Default::default());
            disk.furnish("/data");
            hotfire::disk::conformance::run(disk.process(), "/data").await
        });
        if let Err(what) = outcome {
            bail!("the simulated disk breaks the contract at seed {seed}: {what}");
        }
    }
    println!("disk: ok");
    println!("net: ok");
    println!("2 passed, 0 failed");
    Ok(true)
}
