//! Transactions, judged from the log and from what producers asked and were told.
//!
//! Every half message is resolved once: by its final message, by a newer copy, by a discarded one,
//! or by nothing but a rollback that somebody asked for. At the end every one is.

use super::delay::property;
use super::files::{Log, Record};
use super::judge::{Moment, Verdict};
use crate::history::{self, History, Id, Promise, Transaction};
use hotfire::rt::sim::mark;
use std::collections::{BTreeMap, BTreeSet};

pub const HALF: &str = "RMQ_SYS_TRANS_HALF_TOPIC";
pub const OP: &str = "RMQ_SYS_TRANS_OP_HALF_TOPIC";
pub const DISCARDED: &str = "TRANS_CHECK_MAX_TIME_TOPIC";

/// The transaction bits of a system flag, and what they are in a committed message.
const TYPE: u32 = 0xC;
const COMMITTED: u32 = 0x8;

pub fn is_committed(record: &Record) -> bool {
    record.sys_flag & TYPE == COMMITTED
}

/// The broker made it of a half message.
pub fn is_made(record: &Record) -> bool {
    is_committed(record) || record.topic == DISCARDED || first(record).is_some()
}

/// The queue offset of a copy's first.
fn first(record: &Record) -> Option<u64> {
    let text = property(record, "TRAN_PREPARED_QUEUE_OFFSET").filter(|_| record.topic == HALF);
    text?.parse().ok()
}

fn checks(record: &Record) -> u32 {
    let text = property(record, "TRANSACTION_CHECK_TIMES");
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// What binds when a log is judged.
pub struct Promises<'a> {
    pub history: &'a mut History,
    pub now: Moment,
    pub opened: &'a [u64],
}

impl Promises<'_> {
    fn binds(&self, promise: &Option<Promise>) -> bool {
        promise.is_some_and(|promise| {
            let Promise { machine, grade, power_losses, generation } = promise;
            machine == self.now.machine
                && self.now.binds(grade, power_losses, generation, self.opened)
        })
    }

    /// A promise that did not bind when a log was judged never does again, unless it was kept.
    fn forget_lost(&mut self, walk: &Walk) {
        let (now, opened) = (self.now, self.opened);
        let is_lost = |promise: Option<Promise>, is_kept: bool| {
            promise.is_some_and(|promise| {
                let Promise { machine, grade, power_losses, generation } = promise;
                let binds = now.binds(grade, power_losses, generation, opened);
                machine == now.machine && !binds && !is_kept
            })
        };
        for (id, one) in &mut self.history.transactions {
            let mut mine = walk.halves.values().filter(|half| half.id == *id).peekable();
            let is_ended = mine.peek().is_some() && mine.all(|half| half.is_resolved);
            if is_lost(one.committed, is_ended && walk.finals.contains_key(id)) {
                mark("transaction: a commit was lost with an asynchronous tail");
                one.committed = None;
            }
            if is_lost(one.rolled_back, is_ended) {
                one.rolled_back = None;
            }
        }
    }

    fn transaction(&self, id: Id) -> Result<&Transaction, String> {
        let found = self.history.transactions.get(&id);
        found.ok_or_else(|| format!("message {id} was sent in no transaction"))
    }
}

struct Half<'a> {
    record: &'a Record,
    id: Id,
    first: u64,
    is_resolved: bool,
}

#[derive(Default)]
struct Walk<'a> {
    /// By queue offset.
    halves: BTreeMap<u64, Half<'a>>,
    /// The newest copy, by its first.
    newest: BTreeMap<u64, u64>,
    finals: BTreeMap<Id, &'a Record>,
    /// Final and discarded messages whose op message is still to come.
    loose_finals: BTreeSet<Id>,
    loose_discards: BTreeSet<Id>,
}

/// `is_end`: everything has settled, so everything is resolved.
pub fn resolved(log: &Log, promises: &mut Promises, checks_max: u32, is_end: bool) -> Verdict {
    let mut walk = Walk::default();
    for record in &log.records {
        match record.topic.as_str() {
            OP => on_op(record, &mut walk, promises)?,
            HALF => on_half(record, &mut walk)?,
            DISCARDED => on_discarded(record, &mut walk, promises, checks_max)?,
            _ if is_committed(record) => on_final(record, &mut walk, promises)?,
            _ => {}
        }
    }
    for (id, transaction) in &promises.history.transactions {
        let is_there = walk.finals.contains_key(id);
        if promises.binds(&transaction.committed) && !is_there {
            return Err(format!("transaction {id} was committed, and is not in its topic"));
        }
        if promises.binds(&transaction.rolled_back) && is_there {
            return Err(format!("transaction {id} was rolled back, and is in its topic"));
        }
    }
    for half in walk.halves.values().filter(|half| !half.is_resolved) {
        let (id, one) = (half.id, promises.transaction(half.id)?);
        if promises.binds(&one.committed) || promises.binds(&one.rolled_back) {
            let at = half.record.queue_offset;
            return Err(format!("transaction {id} has ended, and its half message {at} is open"));
        }
    }
    promises.forget_lost(&walk);
    let open = walk.halves.iter().find(|(_, half)| !half.is_resolved);
    if let (true, Some((at, half))) = (is_end, open) {
        let (id, first) = (half.id, half.first);
        return Err(format!("half message {at} of transaction {id}, a copy of {first}, is open"));
    }
    Ok(())
}

fn id_of(record: &Record) -> Result<Id, String> {
    let id = history::id_in(&record.properties);
    id.ok_or_else(|| format!("the record at {} carries no number", record.physical))
}

fn on_half<'a>(record: &'a Record, walk: &mut Walk<'a>) -> Verdict {
    let (id, own) = (id_of(record)?, record.queue_offset);
    let first = first(record).unwrap_or(own);
    if first != own {
        let before = walk.newest.get(&first).and_then(|at| walk.halves.get(at));
        let Some(before) = before.filter(|before| before.id == id) else {
            return Err(format!("half message {own} is a copy of {first}, which is another one"));
        };
        if before.is_resolved {
            return Err(format!("half message {own} is a copy of one that has ended"));
        }
        let (was, is) = (checks(before.record), checks(record));
        if is < was || is > was + 1 {
            return Err(format!("half message {own} was checked {is} times, {was} before"));
        }
        if record.body != before.record.body {
            return Err(format!("half message {own} has another body than its copy before"));
        }
        mark("transaction: a half message was put back");
    }
    walk.newest.insert(first, own);
    walk.halves.insert(own, Half { record, id, first, is_resolved: false });
    Ok(())
}

fn on_final<'a>(record: &'a Record, walk: &mut Walk<'a>, promises: &Promises) -> Verdict {
    let (id, at) = (id_of(record)?, record.physical);
    let transaction = promises.transaction(id)?;
    if !transaction.commit_asked {
        return Err(format!("transaction {id} is in its topic at {at}, nobody has committed it"));
    }
    let from = walk.halves.values().find(|half| half.record.physical == record.prepared);
    let Some(from) = from.filter(|from| from.id == id) else {
        return Err(format!("transaction {id} at {at} comes from {}", record.prepared));
    };
    if from.record.properties != record.properties || from.record.body != record.body {
        return Err(format!("transaction {id} at {at} is not as its half message"));
    }
    if let Some(before) = walk.finals.insert(id, record) {
        return Err(format!("transaction {id} is in its topic at {} and at {at}", before.physical));
    }
    walk.loose_finals.insert(id);
    Ok(())
}

fn on_discarded(record: &Record, walk: &mut Walk, promises: &Promises, checks_max: u32) -> Verdict {
    let (id, times) = (id_of(record)?, checks(record));
    promises.transaction(id)?;
    if times < checks_max {
        return Err(format!("transaction {id} is discarded after {times} of {checks_max} checks"));
    }
    mark("transaction: a half message was discarded");
    if !walk.loose_discards.insert(id) {
        return Err(format!("transaction {id} is discarded twice"));
    }
    Ok(())
}

fn on_op(record: &Record, walk: &mut Walk, promises: &Promises) -> Verdict {
    let (at, text) = (record.physical, String::from_utf8_lossy(&record.body));
    let half = text.parse().ok().and_then(|half: u64| walk.halves.get_mut(&half));
    let Some(half) = half else {
        return Err(format!("the op message at {at} names half message {text:?}, which is none"));
    };
    if property(record, "TAGS") != Some("d") {
        return Err(format!("the op message at {at} has another tag than d"));
    }
    let (id, own) = (half.id, half.record.queue_offset);
    if half.is_resolved {
        return Err(format!("half message {own} of transaction {id} is resolved twice, at {at}"));
    }
    half.is_resolved = true;
    let is_copied = walk.newest.get(&half.first).is_some_and(|newest| *newest > own);
    if is_copied || walk.loose_finals.remove(&id) || walk.loose_discards.remove(&id) {
        return Ok(());
    }
    match promises.transaction(id)?.rollback_asked {
        true => Ok(()),
        false => Err(format!("half message {own} of transaction {id} ends in nothing, at {at}")),
    }
}
