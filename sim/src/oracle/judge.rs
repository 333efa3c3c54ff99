//! The promises, one function each. Every function says what broke, or nothing.

use super::files::{self, Log, Record};
use super::{delay, retry, timer, transaction};
use crate::disk::SimDisk;
use crate::history::{self, Fate, Grade, History, Id, Seen};
use hotfire::rt::sim::mark;
use std::collections::{BTreeMap, BTreeSet};

pub type Verdict = Result<(), String>;

/// When a store is judged: what happened to its machine until now.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub machine: usize,
    pub power_losses: u64,
}

impl Moment {
    /// Whether a promise of this grade, made then, still binds now.
    pub fn binds(&self, grade: Grade, power_losses: u64, generation: u64, opened: &[u64]) -> bool {
        // A later successful open made everything durable that it found.
        let reopened = opened.iter().any(|g| *g > generation);
        grade == Grade::Synced || power_losses == self.power_losses || reopened
    }
}

fn id_of(record: &Record) -> Result<Id, String> {
    history::id_in(&record.properties).ok_or_else(|| {
        format!(
            "the record at {} of {} carries no number, it was never sent: {:?}",
            record.physical,
            record.topic,
            String::from_utf8_lossy(&record.properties)
        )
    })
}

/// What the broker itself writes besides op messages: MessageConst.OFFSET_MOVED_EVENT of 4.9.3.
const OWN_TOPIC: &str = "OFFSET_MOVED_EVENT";

/// Every stored byte was sent, and no more often than its resends explain.
pub fn no_phantom(log: &Log, history: &History) -> Verdict {
    let mut copies: BTreeMap<Id, u32> = BTreeMap::new();
    let own = [OWN_TOPIC, transaction::OP];
    // What is written anew while it waits is judged by `timer`.
    let mut waited: BTreeSet<Id> = BTreeSet::new();
    let is_own = |r: &&Record| own.contains(&r.topic.as_str()) || timer::is_done(r);
    for record in log.records.iter().filter(|r| !is_own(r)) {
        let id = id_of(record)?;
        is_what_was_sent(record, id, history)?;
        if record.topic == timer::TOPIC && !waited.insert(id) {
            continue;
        }
        // What the broker makes of a message is judged elsewhere.
        let is_made =
            delay::is_delivery(record) || timer::is_made(record) || transaction::is_made(record);
        if is_made || retry::is_retry(record) {
            continue;
        }
        let n = copies.entry(id).or_default();
        *n += 1;
        let sent = &history.sent[id as usize];
        if *n > sent.copies_max {
            return Err(format!(
                "message {id} is in the log {n} times, again at {}",
                record.physical
            ));
        }
        if sent.fate == Fate::Refused {
            return Err(format!(
                "message {id} was refused and is in the log at {}",
                record.physical
            ));
        }
    }
    Ok(())
}

/// Topic, queue, body and properties are those of message `id`.
pub fn is_what_was_sent(record: &Record, id: Id, history: &History) -> Verdict {
    let at = record.physical;
    let Some(sent) = history.sent.get(id as usize) else {
        return Err(format!("the record at {at} says message {id}, which was never sent"));
    };
    let same_queue = sent.queue.is_none_or(|q| q == record.queue);
    let topic = delay::origin_topic(record);
    if topic != sent.topic || !same_queue {
        return Err(format!("message {id} is stored at {at} as {}/{}", record.topic, record.queue));
    }
    if record.body != history::body(id, sent.size) {
        return Err(format!("the body of message {id} at {at} is not what was sent"));
    }
    if sent.properties.as_ref().is_some_and(|properties| *properties != record.properties) {
        return Err(format!("the properties of message {id} at {at} are not what was sent"));
    }
    Ok(())
}

/// Queue offsets count up from 0 in log order, and begin anew once per deletion of their topic.
pub fn dense_order(log: &Log, history: &History) -> Verdict {
    let mut next: BTreeMap<(&str, u32), u64> = BTreeMap::new();
    let mut anew: BTreeMap<(&str, u32), usize> = BTreeMap::new();
    for r in &log.records {
        // What lies below a log's start may be gone.
        let first = if log.start == 0 { 0 } else { r.queue_offset };
        let key = (r.topic.as_str(), r.queue);
        let expected = next.entry(key).or_insert(first);
        if r.queue_offset == 0 && *expected > 0 {
            let begun = anew.entry(key).or_default();
            *begun += 1;
            if *begun <= history.deletions.iter().filter(|d| d.topic == r.topic).count() {
                *expected = 0;
            }
        }
        if r.queue_offset != *expected {
            return Err(format!(
                "the record at {} has queue offset {}, {}/{} expects {expected}",
                r.physical, r.queue_offset, r.topic, r.queue
            ));
        }
        *expected += 1;
    }
    Ok(())
}

/// An opened store's log is on disk as memory shows it: the records, and the zeros behind them.
pub fn durable_open(disk: &SimDisk, dir: &str) -> Verdict {
    for path in disk.files().into_iter().filter(|path| path.starts_with(dir)) {
        let (seen, durable) = (disk.peek(&path), disk.peek_durable(&path));
        let (seen, durable) = (seen.unwrap_or_default(), durable.unwrap_or_default());
        let zero = 0;
        let differs = |n: &usize| seen.get(*n) != Some(durable.get(*n).unwrap_or(&zero));
        if let Some(n) = (0..seen.len()).find(differs) {
            return Err(format!("byte {n} of {path} is not on disk as the opened store shows it"));
        }
    }
    Ok(())
}

/// After recovery nothing but zeros follows the log's end.
pub fn clean_tail(log: &Log) -> Verdict {
    match log.dirt {
        Some(at) => Err(format!("byte {at} past the log's end at {} is not zero", log.end)),
        None => Ok(()),
    }
}

/// Acked messages are where they were said to be, as far as their promises bind. What a power
/// loss took back legally is marked so, and may not come back. `opened` are the generations in
/// which the store opened.
pub fn acked_survives(log: &Log, history: &mut History, now: Moment, opened: &[u64]) -> Verdict {
    let at: BTreeMap<u64, &Record> = log.records.iter().map(|r| (r.physical, r)).collect();
    let mut lost = 0;
    for (id, sent) in history.sent.iter_mut().enumerate() {
        let Fate::Acked { grade, place, power_losses, generation } = sent.fate else { continue };
        if place.machine != now.machine {
            continue;
        }
        let found = at.get(&place.physical);
        let is_there = found.is_some_and(|r| {
            history::id_in(&r.properties) == Some(id as Id)
                && (r.queue == place.queue || r.topic == timer::TOPIC)
                && r.queue_offset == place.queue_offset
        });
        if is_there {
            continue;
        }
        if place.physical < log.start {
            sent.fate = Fate::Deleted;
            continue;
        }
        if now.binds(grade, power_losses, generation, opened) {
            return Err(format!(
                "acked message {id} ({grade:?}) is not at {}, the log ends at {}{}",
                place.physical,
                log.end,
                log.why.as_ref().map_or(String::new(), |w| format!(" ({w})"))
            ));
        }
        if place.physical < log.end {
            return Err(format!(
                "acked message {id} is gone from the middle: {} is before the end {}",
                place.physical, log.end
            ));
        }
        sent.fate = Fate::LostLegally;
        lost += 1;
    }
    if lost > 0 {
        mark("oracle: an asynchronous tail was lost");
    }
    Ok(())
}

/// What a reader was given is still at its place, as far as the mode promises. From `left_from` on
/// a slave may give up what its master came back without. `left`: what slaves of this master have
/// of that; they may have answered readers in its place.
pub fn visible_stays(
    log: &Log,
    history: &mut History,
    now: Moment,
    (left_from, left): (Option<u64>, &BTreeSet<Id>),
    opened: &[u64],
) -> Verdict {
    let mut there: BTreeMap<(&str, u32, u64), Option<Id>> = BTreeMap::new();
    for r in &log.records {
        let key = (r.topic.as_str(), r.queue, r.queue_offset);
        there.insert(key, history::id_in(&r.properties));
    }
    let mut taken_back = Vec::new();
    for (slot, seen) in &history.seen {
        let Seen { id, grade, power_losses, generation, physical } = *seen;
        if slot.0 != now.machine {
            continue;
        }
        if physical < log.start {
            taken_back.push(slot.clone());
            continue;
        }
        if there.get(&(slot.1.as_str(), slot.2, slot.3)) == Some(&Some(id)) {
            continue;
        }
        let may_go = left_from.is_some_and(|from| physical >= from) || left.contains(&id);
        if !may_go && now.binds(grade, power_losses, generation, opened) {
            return Err(format!(
                "a reader saw message {id} at {}/{} {}, a crash took it back (log end {})",
                slot.1, slot.2, slot.3, log.end
            ));
        }
        taken_back.push(slot.clone());
    }
    for slot in taken_back {
        history.seen.remove(&slot);
    }
    Ok(())
}

/// Queue files hold exactly the log's records, entry by entry, but for those of deleted topics.
/// `floors_kept`: the store still knows which topics were deleted; otherwise a queue holds what
/// followed its last beginning.
pub fn derived_follow(
    log: &Log,
    history: &History,
    floors_kept: bool,
    delays: &delay::Terms,
    (disk, dir): (&SimDisk, &str),
) -> Verdict {
    let queues = files::queues(disk, dir)?;
    let mut expected: BTreeMap<(String, u32), Vec<files::Entry>> = BTreeMap::new();
    for r in &log.records {
        let mut deletions = history.deletions.iter().rev();
        if let Some(deletion) = deletions.find(|d| d.topic == r.topic) {
            let id = history::id_in(&r.properties).unwrap_or_default();
            if floors_kept && id < deletion.first {
                continue;
            }
            if r.queue_offset == 0 {
                expected.remove(&(r.topic.clone(), r.queue));
            }
        }
        let entry = files::Entry {
            physical: r.physical,
            size: r.size,
            tags_code: match delays.due_ms(r).filter(|_| r.topic == delay::SCHEDULE) {
                Some(due) => due,
                None => i64::from(tags_hash(&r.properties)),
            },
        };
        expected.entry((r.topic.clone(), r.queue)).or_default().push(entry);
    }
    for (key, want) in &expected {
        let empty = (0, Vec::new());
        let (first, all) = queues.get(key).unwrap_or(&empty);
        let gone = all.iter().take_while(|entry| entry.physical < log.start).count();
        let have = &all[gone..];
        let begin = want.first().map(|entry| entry.physical);
        let at = log.records.iter().find(|r| Some(r.physical) == begin);
        let begins = at.is_some_and(|r| r.queue_offset == first + gone as u64);
        if !begins || have != want {
            let n = have.iter().zip(want).take_while(|(a, b)| a == b).count();
            return Err(format!(
                "queue {}/{} has {} entries from {first}, the log says {}; entry {n} is {:?}, \
                 expected {:?}",
                key.0,
                key.1,
                have.len(),
                want.len(),
                have.get(n),
                want.get(n)
            ));
        }
    }
    match queues.iter().find(|(key, q)| {
        q.1.iter().any(|entry| entry.physical >= log.start) && !expected.contains_key(*key)
    }) {
        Some((key, _)) => Err(format!("queue {}/{} has entries, the log has none", key.0, key.1)),
        None => Ok(()),
    }
}

/// Java's string hash of TAGS; 0 without a tag.
fn tags_hash(properties: &[u8]) -> i32 {
    let text = String::from_utf8_lossy(properties);
    let tags = text.split('\u{2}').find_map(|item| item.strip_prefix("TAGS\u{1}")).unwrap_or("");
    tags.encode_utf16().fold(0i32, |h, c| h.wrapping_mul(31).wrapping_add(i32::from(c)))
}
