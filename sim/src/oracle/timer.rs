//! Messages with a time of their own, judged from the log alone: each waits once, comes to its own
//! topic not early, and ends its wait with a done message that tells the truth.

use super::delay::{Terms, property};
use super::files::{Log, Record};
use super::judge::Verdict;
use crate::history;
use hotfire::rt::sim::mark;
use std::collections::{BTreeMap, BTreeSet};

pub const TOPIC: &str = "rmq_sys_wheel_timer";
/// Its queue of done messages; those that wait are in queue 0.
const DONE: u32 = 1;

/// What a broker makes of a time that was asked for may be so much later. Units: milliseconds.
const SLACK_MS: i64 = 1_000;

/// A message of the broker itself.
pub fn is_done(record: &Record) -> bool {
    record.topic == TOPIC && record.queue == DONE
}

/// When it is due, for one that waits or waited. Units: milliseconds of its machine's clock.
pub fn due_ms(record: &Record) -> Option<i64> {
    property(record, "TIMER_OUT_MS")?.parse().ok()
}

/// It asked for a time of its own, and lies in its own topic.
pub fn is_delivered(record: &Record) -> bool {
    let asks = ["TIMER_DELAY_SEC", "TIMER_DELAY_MS", "TIMER_DELIVER_MS"];
    record.topic != TOPIC && asks.iter().any(|name| property(record, name).is_some())
}

/// It waited before it came where it is.
pub fn is_made(record: &Record) -> bool {
    record.topic != TOPIC && due_ms(record).is_some()
}

/// What is known while the log is walked.
#[derive(Default)]
struct Walk<'a> {
    /// By queue offset, and which of them are done.
    waiting: Vec<&'a Record>,
    done: BTreeSet<u64>,
    /// Messages that wait, by their properties: the newest place.
    places: BTreeMap<&'a [u8], u64>,
    /// A delivery or a copy whose done message must come next, and how often none came.
    open: Option<&'a Record>,
    orphans: usize,
}

/// `is_end`: everything has settled, so everything is delivered.
pub fn delivered(log: &Log, terms: &Terms, is_end: bool) -> Verdict {
    let mut walk = Walk::default();
    for record in &log.records {
        if is_done(record) {
            walk.on_done(record)?;
            continue;
        }
        walk.open.take().into_iter().for_each(|_| walk.orphans += 1);
        if record.topic == TOPIC {
            walk.on_waiting(record, terms)?;
        } else if is_made(record) {
            walk.on_delivery(record, terms)?;
        } else if is_delivered(record) {
            at_once(record, terms)?;
        }
    }
    walk.orphans += usize::from(walk.open.is_some());
    if walk.orphans > terms.unclean_ends {
        let (orphans, ends) = (walk.orphans, terms.unclean_ends);
        return Err(format!(
            "{orphans} timed messages came without a done message, after {ends} crashes"
        ));
    }
    let open = (0..walk.waiting.len() as u64).find(|offset| !walk.done.contains(offset));
    // A clock that stepped back makes late what waits. That of another master is near enough.
    let is_due = is_end && (!terms.clock_steps || terms.hands_over);
    match open.filter(|_| is_due) {
        Some(offset) => {
            let id = history::id_in(&walk.waiting[offset as usize].properties);
            Err(format!("timed message {id:?}, offset {offset}, is not delivered at the end"))
        }
        None => Ok(()),
    }
}

impl<'a> Walk<'a> {
    fn on_waiting(&mut self, record: &'a Record, terms: &Terms) -> Verdict {
        let id = history::id_in(&record.properties);
        let Some(due) = due_ms(record).filter(|_| record.queue == 0) else {
            return Err(format!("timed message {id:?} at {} says no time", record.physical));
        };
        if record.queue_offset != self.waiting.len() as u64 {
            return Err(format!("timed message {id:?} has offset {}", record.queue_offset));
        }
        self.waiting.push(record);
        match self.places.insert(record.properties.as_slice(), record.queue_offset) {
            None => is_due_as_asked(record, due, terms),
            Some(_) => {
                mark("timer: a message far behind was written anew");
                self.open = Some(record);
                Ok(())
            }
        }
    }

    fn on_delivery(&mut self, record: &'a Record, terms: &Terms) -> Verdict {
        let (id, at) = (history::id_in(&record.properties), record.physical);
        let place = self.places.get(record.properties.as_slice());
        let from = place.map(|offset| self.waiting[*offset as usize]);
        let is_it = |from: &&Record| {
            from.body == record.body
                && property(from, "REAL_TOPIC") == Some(record.topic.as_str())
                && property(from, "REAL_QID") == Some(record.queue.to_string().as_str())
        };
        if from.filter(is_it).is_none() {
            return Err(format!("timed message {id:?} at {at} did not wait so"));
        }
        let early_ms = due_ms(record).map_or(0, |due| due - record.store_timestamp);
        if early_ms > 0 && !terms.clock_steps {
            return Err(format!("timed message {id:?} at {at} is {early_ms} ms early"));
        }
        self.open = Some(record);
        Ok(())
    }

    /// It follows what it is about in a row, and names an offset that was not done.
    fn on_done(&mut self, record: &Record) -> Verdict {
        let at = record.physical;
        let text = String::from_utf8_lossy(&record.body).into_owned();
        let said = text.split_once(' ');
        let said = said.and_then(|(a, b)| Some((a.parse::<u64>().ok()?, b.parse::<u64>().ok()?)));
        let Some((offset, base)) = said else {
            return Err(format!("the done message at {at} says {text:?}"));
        };
        let Some(made) = self.open.take() else {
            return Err(format!("the done message at {at} for offset {offset} follows nothing"));
        };
        let from = self.waiting.get(offset as usize);
        if from.is_none_or(|from| from.properties != made.properties) {
            return Err(format!("the done message at {at} names offset {offset}, another message"));
        }
        if let Some(open) = (0..base).find(|offset| !self.done.contains(offset)) {
            return Err(format!("the done message at {at} says that offset {open} is done"));
        }
        match self.done.insert(offset) {
            true => Ok(()),
            false => Err(format!("offset {offset} is done twice, again at {at}")),
        }
    }
}

/// The time that the broker wrote down is the one that was asked for.
fn is_due_as_asked(record: &Record, due: i64, terms: &Terms) -> Verdict {
    let asked = |name: &str| property(record, name).and_then(|text| text.parse::<i64>().ok());
    let delay = asked("TIMER_DELAY_SEC").map(|secs| secs * 1000).or(asked("TIMER_DELAY_MS"));
    let is_right = match (delay, asked("TIMER_DELIVER_MS")) {
        (Some(delay), _) => {
            let sent = due - delay;
            terms.clock_steps
                || (sent <= record.store_timestamp && record.store_timestamp - sent <= SLACK_MS)
        }
        (None, Some(at)) => at == due,
        (None, None) => false,
    };
    match is_right {
        true => Ok(()),
        false => Err(format!(
            "timed message {:?} at {} is due at {due}, which nobody asked for",
            history::id_in(&record.properties),
            record.physical
        )),
    }
}

/// One that did not wait was due when it came.
fn at_once(record: &Record, terms: &Terms) -> Verdict {
    let asked = |name: &str| property(record, name).and_then(|text| text.parse::<i64>().ok());
    let delay = asked("TIMER_DELAY_SEC").or(asked("TIMER_DELAY_MS"));
    let is_due = match (delay, asked("TIMER_DELIVER_MS")) {
        (Some(delay), _) => delay <= 0,
        (None, at) => terms.clock_steps || at.is_none_or(|at| at <= record.store_timestamp),
    };
    match is_due {
        true => Ok(()),
        false => Err(format!(
            "timed message {:?} at {} did not wait",
            history::id_in(&record.properties),
            record.physical
        )),
    }
}
