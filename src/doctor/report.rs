//! What an examination found.

use serde::Serialize;
use std::collections::BTreeMap;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Worth knowing.
    Note,
    /// A start deals with it, or a person should.
    Warning,
    /// Data is damaged, or a start would fail.
    Error,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub level: Level,
    /// A file or directory, a queue, or a setting of the machine.
    pub place: String,
    pub what: String,
    /// What a person can do; empty when there is nothing to do.
    pub advice: String,
}

/// Files of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Area {
    pub name: String,
    pub path: String,
    pub files: u64,
    /// Units: bytes, as the files say.
    pub size: u64,
    pub format: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Log {
    pub min: u64,
    pub end: u64,
    pub segments: u64,
    pub segment_size: u64,
    pub records_checked: u64,
    pub segments_compared: u64,
    /// Segments with checksums.
    pub segments_with_checksums: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Queues {
    pub count: u64,
    pub entries: u64,
    pub entries_checked: u64,
    pub mismatches: u64,
}

/// What a start would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Start {
    /// The error that would stop it.
    pub error: Option<String>,
    pub unclean: bool,
    /// Below, bad records are kept and passed over.
    pub floor: u64,
    pub scanned_from: u64,
    pub scanned_records: u64,
    /// Where the log would end.
    pub end: u64,
    pub cut_reason: Option<String>,
    /// Units: bytes.
    pub zeroed: u64,
    pub rewritten: u64,
    pub queue_entries_repaired: u64,
    pub rot_skipped: u64,
}

/// A limit of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limit {
    pub name: String,
    pub value: String,
}

/// Everything that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub root: String,
    /// Who wrote the directory last, as far as it shows.
    pub written_by: String,
    /// Who runs on it now.
    pub live: Option<String>,
    /// Every record and entry was looked at.
    pub deep: bool,
    pub areas: Vec<Area>,
    pub log: Log,
    pub queues: Queues,
    pub start: Start,
    pub machine: Vec<Limit>,
    pub findings: Vec<Finding>,
    /// Findings that are not listed, by kind.
    pub unlisted: BTreeMap<String, u64>,
    #[serde(skip)]
    counts: BTreeMap<String, usize>,
    #[serde(skip)]
    findings_max: usize,
}

impl Report {
    /// Lists at most `findings_max` findings of one kind.
    pub fn new(findings_max: usize) -> Self {
        Report { findings_max, ..Report::default() }
    }

    /// Adds a finding; of one `kind` only the first `findings_max` are listed.
    pub fn add(&mut self, kind: &str, finding: Finding) {
        let count = self.counts.entry(kind.to_owned()).or_default();
        *count += 1;
        if *count <= self.findings_max {
            self.findings.push(finding);
        } else {
            *self.unlisted.entry(kind.to_owned()).or_default() += 1;
        }
    }

    pub fn note(&mut self, place: impl Into<String>, what: impl Into<String>) {
        let (place, what) = (place.into(), what.into());
        let finding = Finding { level: Level::Note, place, what, advice: String::new() };
        self.add("note", finding);
    }

    pub fn warn(&mut self, kind: &str, place: &str, what: impl Into<String>, advice: &str) {
        let (place, what, advice) = (place.to_owned(), what.into(), advice.to_owned());
        self.add(kind, Finding { level: Level::Warning, place, what, advice });
    }

    pub fn error(&mut self, kind: &str, place: &str, what: impl Into<String>, advice: &str) {
        let (place, what, advice) = (place.to_owned(), what.into(), advice.to_owned());
        self.add(kind, Finding { level: Level::Error, place, what, advice });
    }

    /// Nothing that a person should look at.
    pub fn is_healthy(&self) -> bool {
        self.findings.iter().all(|finding| finding.level == Level::Note)
    }

    /// The worst first, each kind in the order in which it was found.
    pub fn sort(&mut self) {
        self.findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_of_a_kind_are_listed_and_notes_are_healthy() {
        let mut report = Report::new(2);
        report.note("a", "b");
        assert!(report.is_healthy());
        for n in 0..5 {
            report.warn("entries", "q", format!("{n}"), "");
        }
        report.error("rot", "f", "x", "copy it");
        report.sort();
        assert!(!report.is_healthy());
        let what: Vec<&str> = report.findings.iter().map(|f| f.what.as_str()).collect();
        assert_eq!(what, ["x", "0", "1", "b"]);
        assert_eq!(report.unlisted["entries"], 3);
    }
}
