//! What a broker has written down as done, judged from its log: it is never ahead of that.
//!
//! Whoever starts with such files leaves out what they say is done.

use super::court::ROOT;
use super::delay::{self, SCHEDULE};
use super::files::Log;
use super::judge::Verdict;
use super::transaction::{HALF, OP};
use crate::disk::SimDisk;
use crate::history;
use std::collections::{BTreeMap, BTreeSet};

/// Deliveries of delay levels: `delayOffset.json`.
pub fn of_levels(log: &Log, disk: &SimDisk) -> Verdict {
    let text = config(disk, "delayOffset.json");
    let mut delivered: BTreeMap<u32, BTreeSet<Option<history::Id>>> = BTreeMap::new();
    for record in log.records.iter().filter(|record| delay::is_delivery(record)) {
        let queue = delay::level(record) - 1;
        delivered.entry(queue).or_default().insert(history::id_in(&record.properties));
    }
    for (level, next) in numbers(&text, "\"offsetTable\":{") {
        let Some(queue) = level.checked_sub(1).map(|queue| queue as u32) else { continue };
        let waits = log.records.iter().filter(|r| r.topic == SCHEDULE && r.queue == queue);
        for record in waits.filter(|record| record.queue_offset < next) {
            let id = history::id_in(&record.properties);
            if !delivered.get(&queue).is_some_and(|all| all.contains(&id)) {
                let at = record.queue_offset;
                return Err(format!(
                    "delayOffset.json says that level {level} is delivered below {next}, and \
                     message {id:?} at {at} is not in its topic"
                ));
            }
        }
    }
    Ok(())
}

/// Ends of half messages: `consumerOffset.json`.
pub fn of_halves(log: &Log, disk: &SimDisk) -> Verdict {
    let text = config(disk, "consumerOffset.json");
    let row = format!("\"{HALF}@CID_RMQ_SYS_TRANS\":{{");
    let next = numbers(&text, &row).get(&0).copied().unwrap_or(0);
    let ops = log.records.iter().filter(|record| record.topic == OP);
    let half_of = |body: &[u8]| std::str::from_utf8(body).ok()?.parse::<u64>().ok();
    let ended: BTreeSet<u64> = ops.filter_map(|record| half_of(&record.body)).collect();
    let mut halves = log.records.iter().filter(|r| r.topic == HALF && r.queue_offset < next);
    match halves.find(|half| !ended.contains(&half.queue_offset)) {
        Some(half) => Err(format!(
            "consumerOffset.json says that half messages below {next} have ended, and no op \
             message in the log ends {}",
            half.queue_offset
        )),
        None => Ok(()),
    }
}

fn config(disk: &SimDisk, name: &str) -> String {
    let bytes = disk.peek(&format!("{ROOT}/config/{name}")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).split_whitespace().collect()
}

/// The map of numbers that follows `opening`; its keys may stand in quotes.
fn numbers(text: &str, opening: &str) -> BTreeMap<u64, u64> {
    let Some((_, rest)) = text.split_once(opening) else { return BTreeMap::new() };
    let rows = rest.split('}').next().unwrap_or_default().split(',');
    let row = |row: &str| {
        let (key, value) = row.split_once(':')?;
        Some((key.trim_matches('"').parse().ok()?, value.parse().ok()?))
    };
    rows.filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_with_keys_in_quotes_or_without() {
        let text = "{\"dataVersion\":{\"counter\":3},\"offsetTable\":{1:7,\"2\":9}}";
        assert_eq!(numbers(text, "\"offsetTable\":{"), BTreeMap::from([(1, 7), (2, 9)]));
        assert_eq!(numbers("{}", "\"offsetTable\":{"), BTreeMap::new());
    }
}
