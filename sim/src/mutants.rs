//! Planted bugs: a test of the tests. Every patch in `sim/planted` must be caught.
//!
//! All patches are applied to one scratch copy, which is built once; each bug is then switched on
//! by name. A patch begins with lines `scenario: NAME`, `what: SENTENCE` (the bug), `promise:
//! SENTENCE` (what it breaks) and `real: CHECK` (who looks at the same on the real path).

use crate::cli::Which;
use crate::sweep::{self, Run};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Three disjoint ranges of seeds.
const RANGES: [u64; 3] = [0, 10_000, 20_000];

struct Bug {
    name: String,
    scenario: String,
    what: String,
    promise: String,
    real: String,
    patch: PathBuf,
}

/// What became of one bug in each range: the seeds it took and what broke, or `None`.
type Took = Vec<Option<(u64, String)>>;

/// The package's root: the nearest directory above that has planted bugs.
pub fn root() -> Result<PathBuf> {
    let here = std::env::current_dir()?;
    let found = here.ancestors().find(|dir| dir.join("sim/planted").is_dir());
    found.map(Path::to_owned).context("no sim/planted here or above")
}

#[expect(clippy::disallowed_methods, reason = "patches are files of the host")]
fn bugs(root: &Path) -> Result<Vec<Bug>> {
    let mut bugs = Vec::new();
    for entry in std::fs::read_dir(root.join("sim/planted"))? {
        let patch = entry?.path();
        if patch.extension().is_none_or(|e| e != "patch") {
            continue;
        }
        let text = std::fs::read_to_string(&patch)?;
        let line = |key: &str| -> Result<String> {
            let found = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(": "));
            found
                .map(str::to_owned)
                .with_context(|| format!("{} has no line {key:?}", patch.display()))
        };
        let name = patch.file_stem().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        bugs.push(Bug {
            name,
            scenario: line("scenario")?,
            what: line("what")?,
            promise: line("promise")?,
            real: line("real")?,
            patch: patch.clone(),
        });
    }
    bugs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(bugs)
}

/// Copies the tracked files as they are now into `copy`.
#[expect(clippy::disallowed_methods, reason = "files of the host")]
fn copy_tree(root: &Path, copy: &Path) -> Result<()> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root).output()?;
    let names = String::from_utf8(listed.stdout)?;
    for name in names.split('\0').filter(|n| !n.is_empty()) {
        let (from, to) = (root.join(name), copy.join(name));
        if !from.is_file() {
            continue;
        }
        if let Some(dir) = to.parent() {
            std::fs::create_dir_all(dir)?;
        }
        std::fs::copy(&from, &to).with_context(|| format!("failed to copy {name}"))?;
    }
    Ok(())
}

/// Makes `to` what `from` is. A file that did not change keeps its time: the next build is short.
#[expect(clippy::disallowed_methods, reason = "files of the host")]
fn mirror(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(to)? {
        let entry = entry?;
        let (old, new) = (entry.path(), from.join(entry.file_name()));
        if old.is_dir() && !new.is_dir() {
            std::fs::remove_dir_all(&old)?;
        } else if old.is_file() && !new.is_file() {
            std::fs::remove_file(&old)?;
        }
    }
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (new, old) = (entry.path(), to.join(entry.file_name()));
        if new.is_dir() {
            mirror(&new, &old)?;
        } else if !old.is_file() || std::fs::read(&old)? != std::fs::read(&new)? {
            std::fs::copy(&new, &old)?;
        }
    }
    Ok(())
}

/// The simulator's own build has compiled what both need.
fn borrow_build(root: &Path, work: &Path) -> Result<()> {
    let (from, to) = (root.join("target/sim"), work.join("build"));
    if from.is_dir() && !to.exists() {
        Command::new("cp").arg("-a").arg(from).arg(to).status().context("failed to start `cp`")?;
    }
    Ok(())
}

/// Applies every patch and builds once. Gives the binary.
fn build(root: &Path, bugs: &[Bug]) -> Result<PathBuf> {
    let work = root.join("target/mutants");
    let (copy, tree) = (work.join("patched"), work.join("tree"));
    // What a patch left behind last time must not be in the way.
    if copy.exists() {
        std::fs::remove_dir_all(&copy)?;
    }
    copy_tree(root, &copy)?;
    borrow_build(root, &work)?;
    for bug in bugs {
        let applied = Command::new("patch")
            .args(["-p1", "--fuzz=3", "--no-backup-if-mismatch", "-s", "-i"])
            .arg(&bug.patch)
            .current_dir(&copy)
            .output()
            .context("failed to start `patch`")?;
        if !applied.status.success() {
            let what = String::from_utf8_lossy(&applied.stdout).into_owned();
            bail!("{} no longer applies:\n{what}", bug.patch.display());
        }
    }
    mirror(&copy, &tree)?;
    println!("{} patches applied, building", bugs.len());
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "-q", "-p", "hotfire-sim", "--profile", "sim"])
        .args(["--config", "target.'cfg(all())'.rustflags=['--cfg','madsim']", "--target-dir"])
        .arg(work.join("build"))
        .current_dir(&tree)
        .output()?;
    if !built.status.success() {
        bail!("the planted tree does not build:\n{}", String::from_utf8_lossy(&built.stderr));
    }
    Ok(work.join("build/sim/sim"))
}

/// Runs one bug in every range until it is caught.
fn hunt(exe: &Path, bug: &Bug, seeds_max: u64) -> Result<Took> {
    let which = Which { scenario: Some(bug.scenario.clone()), planted: vec![bug.name.clone()] };
    let mut took = Vec::new();
    for start in RANGES {
        let (exe, jobs) = (exe.to_owned(), sweep::cores());
        let run = Run { exe, start, count: seeds_max, chunk: 10, jobs };
        let lines = run.all(&which, |line| line.failure.is_some())?;
        let first = lines.iter().find(|l| l.failure.is_some());
        took.push(first.map(|l| (l.seed - start + 1, l.failure.clone().unwrap_or_default())));
    }
    let shown = seeds(&took);
    let by = took.iter().flatten().next().map_or("", |(_, what)| what.as_str());
    let by: String = by.lines().next().unwrap_or_default().chars().take(60).collect();
    println!(
        "{:<32} {:<9} {:>6} {:>6} {:>6}   {by}",
        bug.name, bug.scenario, shown[0], shown[1], shown[2]
    );
    Ok(took)
}

fn seeds(took: &Took) -> Vec<String> {
    let shown = |t: &Option<(u64, String)>| {
        t.as_ref().map_or_else(|| "never".to_owned(), |(n, _)| n.to_string())
    };
    took.iter().map(shown).collect()
}

/// Puts the figures of a whole run into the table of docs/PROOF.md.
#[expect(clippy::disallowed_methods, reason = "a file of the host")]
fn write_proof(root: &Path, rows: &[(&Bug, Took)]) -> Result<()> {
    let path = root.join("docs/PROOF.md");
    let text = std::fs::read_to_string(&path)?;
    let is_row = |line: &&str| line.starts_with('|');
    let mut lines: Vec<String> =
        text.lines().take_while(|l| !is_row(l)).map(str::to_owned).collect();
    lines.push("| promise | planted bug | scenario | seeds to catch | real path |".to_owned());
    lines.push("| --- | --- | --- | --- | --- |".to_owned());
    let mut rows: Vec<&(&Bug, Took)> = rows.iter().collect();
    rows.sort_by(|a, b| (&a.0.promise, &a.0.name).cmp(&(&b.0.promise, &b.0.name)));
    for (bug, took) in rows {
        let Bug { name, scenario, what, promise, real, .. } = bug;
        let seeds = seeds(took).join(", ");
        lines.push(format!("| {promise} | `{name}`: {what} | {scenario} | {seeds} | {real} |"));
    }
    let rest = text.lines().skip_while(|l| !is_row(l)).skip_while(is_row);
    lines.extend(rest.map(str::to_owned));
    std::fs::write(&path, lines.join("\n") + "\n")?;
    Ok(())
}

/// What `sim mutants` is asked for.
pub struct Asked {
    /// Only these; all when empty.
    pub only: Vec<String>,
    pub seeds_max: u64,
    pub control: u64,
    /// Writes docs/PROOF.md.
    pub proof: bool,
}

pub fn mutants(asked: &Asked) -> Result<bool> {
    let root = root()?;
    let all = bugs(&root)?;
    let wanted = |bug: &&Bug| asked.only.is_empty() || asked.only.contains(&bug.name);
    if let Some(name) = asked.only.iter().find(|name| all.iter().all(|bug| bug.name != **name)) {
        bail!("no planted bug has the name {name:?}");
    }
    let exe = build(&root, &all)?;
    println!("{:<32} {:<9} seeds until caught, in three ranges", "planted bug", "scenario");
    let (mut caught, mut survived, mut rows) = (0, Vec::new(), Vec::new());
    for bug in all.iter().filter(wanted) {
        let took = hunt(&exe, bug, asked.seeds_max)?;
        if took.iter().all(Option::is_some) {
            caught += 1;
        } else {
            survived.push(bug.name.clone());
        }
        rows.push((bug, took));
    }
    if asked.proof {
        write_proof(&root, &rows)?;
    }
    let (control, jobs) = (asked.control, sweep::cores());
    if control > 0 {
        let which = Which { scenario: None, planted: Vec::new() };
        let run = Run { exe, start: 30_000, count: control, chunk: 50, jobs };
        let failed = run.all(&which, |_| false)?.into_iter().filter(|l| l.failure.is_some());
        let failed = failed.count();
        println!("{:<34} {:<10} {failed} of {control} seeds failed", "control: no bug", "all");
        if failed > 0 {
            survived.push("control".into());
        } else {
            caught += 1;
        }
    }
    if !survived.is_empty() {
        println!("not as wanted: {}", survived.join(", "));
    }
    println!("{caught} passed, {} failed", survived.len());
    Ok(survived.is_empty())
}
