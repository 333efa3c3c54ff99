//! Delayed messages, judged from the log alone: to their own topic, not early, in order, and all.

use super::files::{Log, Record};
use super::judge::Verdict;
use super::{timer, transaction};
use crate::history::{self, Id};
use hotfire::rt::sim::mark;
use std::collections::BTreeMap;

pub const SCHEDULE: &str = "SCHEDULE_TOPIC_XXXX";

/// What the broker of a machine was told, and what befell it.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// By level, from 1. Units: milliseconds.
    pub levels_ms: Vec<i64>,
    /// Crashes, and stops that were not in order.
    pub unclean_ends: usize,
    /// Its clock stepped, or another's went before it, and with it what is early.
    pub clock_steps: bool,
    /// Its log has deliveries of others too: one that began again further back may be followed by
    /// one that was further.
    pub hands_over: bool,
    /// Its state files could not always be written.
    pub disk_trouble: bool,
}

impl Terms {
    /// When a record of the schedule topic is due. Units: milliseconds of its machine's clock.
    pub fn due_ms(&self, record: &Record) -> Option<i64> {
        let level = usize::try_from(record.queue).ok()?;
        Some(record.store_timestamp + self.levels_ms.get(level)?)
    }
}

/// The value of a property.
pub fn property<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    let text = std::str::from_utf8(&record.properties).ok()?;
    let value = |item: &'a str| item.strip_prefix(name)?.strip_prefix('\u{1}');
    text.split('\u{2}').find_map(value)
}

pub fn level(record: &Record) -> u32 {
    property(record, "DELAY").and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The topic that its producer named.
pub fn origin_topic(record: &Record) -> &str {
    let first = match record.topic.as_str() {
        SCHEDULE | timer::TOPIC | transaction::HALF | transaction::DISCARDED => {
            property(record, "REAL_TOPIC").unwrap_or_default()
        }
        topic => topic,
    };
    property(record, "RETRY_TOPIC").unwrap_or(first)
}

/// It waited in the schedule topic before it came where it is, or should have.
pub fn is_delivery(record: &Record) -> bool {
    record.topic != SCHEDULE && level(record) > 0
}

/// What is known of one level while the log is walked.
#[derive(Default)]
struct Walk<'a> {
    scheduled: Vec<&'a Record>,
    /// The offset whose delivery comes next.
    next: u64,
    /// Everything below was delivered once.
    furthest: u64,
    /// How often deliveries began again further back.
    jumps: usize,
}

/// `is_end`: everything has settled, so everything is delivered.
pub fn delivered(log: &Log, terms: &Terms, is_end: bool) -> Verdict {
    let mut levels: BTreeMap<u32, Walk> = BTreeMap::new();
    for record in &log.records {
        if record.topic == SCHEDULE {
            if level(record) != record.queue + 1 {
                return Err(format!("the record at {} is in a wrong level", record.physical));
            }
            levels.entry(record.queue).or_default().scheduled.push(record);
        } else if is_delivery(record) {
            let walk = levels.entry(level(record) - 1).or_default();
            on_delivery(record, walk, terms)?;
        }
    }
    for (queue, walk) in &levels {
        let next = if terms.hands_over { walk.furthest } else { walk.next };
        if is_end && next != walk.scheduled.len() as u64 {
            let level = queue + 1;
            let end = walk.scheduled.len();
            return Err(format!("level {level}: {next} of {end} messages are delivered"));
        }
    }
    Ok(())
}

fn on_delivery(record: &Record, walk: &mut Walk, terms: &Terms) -> Verdict {
    let at = record.physical;
    let id = history::id_in(&record.properties);
    let is_it = |from: &&Record| {
        from.properties == record.properties
            && from.body == record.body
            && from.reconsume_times == record.reconsume_times
            && property(from, "REAL_TOPIC") == Some(record.topic.as_str())
            && property(from, "REAL_QID") == Some(record.queue.to_string().as_str())
    };
    let all = walk.scheduled.iter().enumerate();
    let froms: Vec<u64> = all.filter(|(_, from)| is_it(from)).map(|(n, _)| n as u64).collect();
    let told = |id: Option<Id>| format!("message {id:?} at {at} in {}", record.topic);
    if froms.is_empty() {
        return Err(format!("{} was never delayed so", told(id)));
    }
    // Copies of one message cannot be told apart: it is the newest one that may come now.
    let early_ms = |n: u64| {
        let due = terms.due_ms(walk.scheduled[n as usize]).filter(|_| !terms.clock_steps);
        due.map_or(0, |due| (due - record.store_timestamp).max(0))
    };
    let next = if terms.hands_over { walk.furthest } else { walk.next };
    let before: Vec<u64> = froms.iter().copied().filter(|n| *n <= next).collect();
    let Some(first) = before.first() else {
        return Err(format!(
            "{} is delivered while offset {next} of its level is not, or is late",
            told(id)
        ));
    };
    let Some(offset) = before.iter().rev().copied().find(|n| early_ms(*n) == 0) else {
        return Err(format!("{} is {} ms early", told(id), early_ms(*first)));
    };
    if offset < walk.next {
        mark("schedule: delivered again after a crash");
        walk.jumps += 1;
        let is_more = walk.jumps > terms.unclean_ends + froms.len() - 1;
        if is_more && !terms.disk_trouble {
            return Err(format!(
                "{} is delivered again, {} times in its level something is, after {} crashes",
                told(id),
                walk.jumps,
                terms.unclean_ends
            ));
        }
    }
    walk.next = offset + 1;
    walk.furthest = walk.furthest.max(walk.next);
    Ok(())
}
