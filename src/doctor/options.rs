//! What an examination is told.

use crate::store::LogPaths;

/// How to look, and at what.
#[derive(Clone, Debug)]
pub struct Options {
    /// `storePathRootDir`.
    pub root: String,
    /// `storePathCommitLog`.
    pub commit_log: LogPaths,
    /// Every record, checksum and queue entry instead of a sample.
    pub deep: bool,
    /// Somebody runs on the directory: what they are called, as far as known.
    pub live: Option<String>,
    /// What the rehearsal of a start may change in memory. Units: bytes.
    pub memory_size_max: u64,
    /// Entries looked at per queue without `deep`. Units: entries.
    pub queue_sample: u64,
    /// Findings kept per kind; more are counted. Units: findings.
    pub findings_max: usize,
}

impl Options {
    pub fn new(root: &str) -> Self {
        let root = root.trim_end_matches('/').to_owned();
        Options {
            commit_log: LogPaths::one(&format!("{root}/commitlog")),
            root,
            deep: false,
            live: None,
            memory_size_max: 512 << 20,
            queue_sample: 32,
            findings_max: 50,
        }
    }
}
