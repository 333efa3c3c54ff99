//! Seeds that once found a bug. A seed means something only with its commit, so each file names
//! the directed test that guards the fix; the seed itself is replayed for variety.

use crate::mutants::root;
use crate::runner::{self, How};
use crate::{cli, plan, story};
use anyhow::{Context, Result};
use serde::Deserialize;

/// One file of `sim/seeds`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the fields are a record for readers; reading checks that they stand")]
struct Found {
    scenario: String,
    seed: u64,
    /// The commit at which the seed failed.
    commit: String,
    symptom: String,
    oracle: String,
    /// The commit that fixed it.
    fixed_by: String,
    /// The directed test that fails without the fix.
    directed_test: String,
}

#[expect(clippy::disallowed_methods, reason = "seed files are files of the host")]
pub fn replay() -> Result<bool> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(root()?.join("sim/seeds"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "toml") {
            files.push(path);
        }
    }
    files.sort();
    let (mut passed, mut failed) = (0, 0);
    for path in files {
        let text = std::fs::read_to_string(&path)?;
        let found: Found = toml::from_str(&text)
            .with_context(|| format!("{} is not a seed file", path.display()))?;
        let plan = plan::draw(found.seed, Some(&found.scenario))?;
        let report = runner::run(&plan, &How::default()).unwrap_or_else(cli::stuck);
        if report.failure.is_some() {
            failed += 1;
            story::tell(&plan, &report);
        } else {
            passed += 1;
        }
    }
    println!("{passed} passed, {failed} failed");
    Ok(failed == 0)
}
