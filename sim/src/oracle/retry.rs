//! Retries and dead letters, judged from the log: each one asked for, counted, and never too few.

use super::delay::{SCHEDULE, property};
use super::files::{Log, Record};
use super::judge::Verdict;
use crate::history::{self, History, Id};
use hotfire::rt::sim::mark;
use std::collections::BTreeSet;

/// Retries that a message gets here.
pub const RETRIES_MAX: u32 = 2;

const RETRY: &str = "%RETRY%";
const DEAD: &str = "%DLQ%";

pub fn retry_topic(group: &str) -> String {
    format!("{RETRY}{group}")
}

pub fn dead_topic(group: &str) -> String {
    format!("{DEAD}{group}")
}

/// A consumer sent it back, wherever it lies now.
pub fn is_retry(record: &Record) -> bool {
    property(record, "RETRY_TOPIC").is_some()
}

/// It has come back to its group for the last time, alive or dead.
pub fn is_last(record: &Record, fails: u32) -> bool {
    record.topic.starts_with(DEAD)
        || (record.topic.starts_with(RETRY) && record.reconsume_times >= fails)
}

/// Every retry was asked for by its group, follows the try before it, and the dead letters hold
/// exactly those that failed once more than they may.
pub fn retried(log: &Log, history: &History) -> Verdict {
    let mut tried: BTreeSet<(&str, Id, u32)> = BTreeSet::new();
    for record in log.records.iter().filter(|record| record.topic != SCHEDULE) {
        let Some(id) = history::id_in(&record.properties) else { continue };
        let Some(sent) = history.sent.get(id as usize) else { continue };
        let (times, at) = (record.reconsume_times, record.physical);
        let group = record.topic.strip_prefix(RETRY);
        let dead = record.topic.strip_prefix(DEAD);
        let Some(name) = group.or(dead) else {
            if times != 0 {
                return Err(format!("message {id} at {at} has {times} tries in its own topic"));
            }
            tried.insert(("", id, 0));
            continue;
        };
        let is_known =
            |times: u32| tried.contains(&(if times == 0 { "" } else { name }, id, times));
        if times == 0 || !is_known(times - 1) {
            return Err(format!("try {times} of message {id} at {at} follows no try before it"));
        }
        if !history.sent_back.contains_key(&(name.to_owned(), id, times - 1)) {
            return Err(format!("try {times} of message {id} at {at}: {name} did not ask for it"));
        }
        if dead.is_some() {
            mark("retry: a message is dead");
            if times != RETRIES_MAX + 1 || sent.fails <= RETRIES_MAX {
                return Err(format!(
                    "message {id} at {at} is dead after {times} tries; it fails {} times, {} are \
                     too many",
                    sent.fails,
                    RETRIES_MAX + 1
                ));
            }
        } else if times > RETRIES_MAX {
            return Err(format!("message {id} at {at} has try {times}, {RETRIES_MAX} are allowed"));
        }
        tried.insert((name, id, times));
    }
    Ok(())
}
