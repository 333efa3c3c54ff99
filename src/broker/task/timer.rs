//! Delivers messages that have a time of their own; learns first what waits, from the log alone.
//!
//! The rules are those of `timer`. A delivery and its done message are one append with one outcome,
//! which comes with those of all sends.

mod opening;

use super::super::driver::{Core, Shared, TIMER};
use super::super::real_topic::real_topic;
use super::super::timer::{Step, TIMER_TOPIC, Timers, Waiting, rewrite};
use crate::format::consume_queue_unit::QueueUnit;
use crate::format::message_unit::{self, Unit, View};
use crate::model::{PhysicalOffset, QueueId, QueueKey, QueueOffset, TopicName};
use crate::rt::task::{Stop, yield_now};
use crate::rt::time::Alarm;
use crate::store::{Append, AppendError, QueueSlice, Store, Ticket};
use bytes::Bytes;
use std::sync::Arc;

/// A waiting message that could not be read so often in a row is stepped over, if another can be.
const READ_TRIES: u32 = 3;

pub async fn run(shared: Arc<Shared>, mut stop: Stop) {
    if !shared.options.timers.is_on {
        warn_of_waiting(&shared);
        return;
    }
    let topic = TopicName::new(TIMER_TOPIC);
    if opening::load(&shared, &topic, &mut stop).await.is_none() {
        return;
    }
    let mut alarm = Alarm::new(&shared.clock);
    loop {
        let (now, wall) = (shared.clock.mono(), shared.clock.wall());
        let deadline = shared.core.lock().timers.next_deadline(now, wall);
        alarm.set(deadline);
        crate::rt::select! {
            _ = stop.wait() => return,
            _ = alarm.ring() => {}
            _ = shared.timer_moved.notified() => {}
        }
        while let Some(step) = next_step(&shared) {
            if stop.is_set() {
                return;
            }
            match step {
                Step::Read { from, count } => read(&shared, &topic, from, count).await,
                Step::Deliver(due) => deliver(&shared, &topic, &due, false).await,
                Step::Renew { from, count } => renew(&shared, &topic, from, count).await,
            }
            yield_now().await;
        }
    }
}

fn next_step(shared: &Shared) -> Option<Step> {
    let (now, wall) = (shared.clock.mono(), shared.clock.wall());
    shared.core.lock().timers.next_step(now, wall)
}

pub fn key(topic: &TopicName, queue: QueueId) -> QueueKey {
    QueueKey { topic: topic.clone(), queue }
}

/// What is known of the queue before its done messages are read.
pub fn open(options: &super::super::options::TimerOptions, store: &Store) -> Timers {
    let key = key(&TopicName::new(TIMER_TOPIC), rewrite::WAITING);
    Timers::new(options, store.max_offset(&key))
}

fn warn_of_waiting(shared: &Shared) {
    let end = shared.store.max_offset(&key(&TopicName::new(TIMER_TOPIC), rewrite::WAITING));
    if end.0 > 0 {
        tracing::warn!(
            "timerWheelEnable is false: what still waits in {TIMER_TOPIC} is not delivered"
        );
    }
}

/// Entries of the queue of waiting messages.
async fn entries(
    shared: &Shared,
    topic: &TopicName,
    from: QueueOffset,
    count: usize,
) -> Result<QueueSlice, String> {
    let slice = shared.store.slice(&key(topic, rewrite::WAITING), from, count).await;
    let slice = slice.map_err(|error| format!("its entries cannot be read: {error}"))?;
    let lost = shared.core.lock().timers.on_min(slice.min);
    if lost > 0 {
        crate::rt::probe!("timer: retention took what was not delivered");
        tracing::error!("{lost} messages of {TIMER_TOPIC} were deleted before their time");
    }
    Ok(slice)
}

/// Learns when the next messages are due.
async fn read(shared: &Shared, topic: &TopicName, from: QueueOffset, count: usize) {
    let slice = match entries(shared, topic, from, count).await {
        Ok(slice) if slice.units.is_empty() && slice.min <= from && from < slice.end => {
            return not_read(shared, from, false, "its queue file is not there");
        }
        Ok(slice) if slice.units.is_empty() && slice.min <= from => {
            // It is not visible yet.
            shared.core.lock().timers.on_not_read(false, shared.clock.mono());
            return;
        }
        Ok(slice) => slice,
        Err(why) => return not_read(shared, from, false, &why),
    };
    let mut size = 0;
    for (offset, unit) in (from.0..).map(QueueOffset).zip(&slice.units) {
        size += unit.size as usize;
        if size > shared.options.timers.turn_bytes_max && offset > from {
            return;
        }
        let is_unread = shared.core.lock().timers.is_unread(offset);
        if !is_unread {
            shared.core.lock().timers.on_read(offset, None);
            continue;
        }
        let why = match find(shared, offset, unit).await {
            Found::Record(_, one) => {
                let (wall, keep_for) = (shared.clock.wall(), shared.options.transactions.keep_for);
                let mut core = shared.core.lock();
                if core.timers.is_too_far(&one, wall, keep_for) {
                    tracing::warn!(
                        "message {offset} of {TIMER_TOPIC} is to wait longer than \
                         fileReservedTime: its file may be deleted before"
                    );
                }
                core.timers.on_read(offset, Some(one));
                continue;
            }
            Found::Never(why) => why,
            Found::NotNow(why) => {
                let is_first = offset == from;
                let is_place = is_first && shared.core.lock().timers.read_failures() >= READ_TRIES;
                let behind = slice.units.get((offset.0 - from.0) as usize + 1);
                if !(is_place && reads(shared, behind).await) {
                    return not_read(shared, offset, true, &why);
                }
                why
            }
        };
        say_lost(offset, unit.physical_offset, &why);
        shared.core.lock().timers.on_read(offset, None);
    }
}

/// Whether the disk gives another record: then not the disk is at fault, but a place.
async fn reads(shared: &Shared, unit: Option<&QueueUnit>) -> bool {
    let Some(unit) = unit else { return false };
    shared.store.record_at(unit.physical_offset).await.is_ok()
}

fn not_read(shared: &Shared, offset: QueueOffset, is_record: bool, why: &str) {
    let failures = shared.core.lock().timers.on_not_read(is_record, shared.clock.mono());
    if failures.is_power_of_two() {
        tracing::warn!("message {offset} of {TIMER_TOPIC} waits, {failures} times in a row: {why}");
    }
}

/// The message stays in the log, and is never delivered: this is said once, here.
fn say_lost(offset: QueueOffset, at: PhysicalOffset, why: &str) {
    crate::rt::probe!("timer: a record was stepped over");
    tracing::error!("message {offset} of {TIMER_TOPIC} at {at} is not delivered: {why}");
}

/// A record as the disk gave it.
enum Found {
    Record(Bytes, Waiting),
    /// It will never be read, or says nothing; why.
    Never(String),
    NotNow(String),
}

async fn find(shared: &Shared, offset: QueueOffset, unit: &QueueUnit) -> Found {
    if unit.is_blank() || unit.is_empty() {
        return Found::Never("its queue entry is blank".to_owned());
    }
    let at = unit.physical_offset;
    let record = match shared.store.record_at(at).await {
        Ok(Some(record)) => record,
        Ok(None) => return Found::Never("no record lies there".to_owned()),
        Err(error) => return Found::NotNow(format!("it cannot be read: {error}")),
    };
    let view = match message_unit::decode(&record, at, true) {
        Ok(Unit::Record(view)) => view,
        Ok(_) => return Found::Never("no record lies there".to_owned()),
        Err(error) => return Found::Never(error.to_string()),
    };
    let is_it = view.topic() == TIMER_TOPIC
        && view.queue_id() == rewrite::WAITING
        && view.queue_offset() == offset;
    let due = rewrite::due_of(&view).filter(|_| is_it);
    let Some(due) = due else { return Found::Never("it has no time".to_owned()) };
    Found::Record(record, Waiting { due, offset, physical: at })
}

/// Sends on what is due, or writes the same again where it waits.
async fn deliver(shared: &Shared, topic: &TopicName, all: &[Waiting], is_renewal: bool) {
    let mut size = 0;
    for one in all {
        let unit = QueueUnit { physical_offset: one.physical, size: 1, tags_code: 0 };
        let found = find(shared, one.offset, &unit).await;
        let why = match found {
            Found::Record(record, _) => {
                size += record.len();
                if !send(shared, topic, &record, one, is_renewal) {
                    return;
                }
                if size > shared.options.timers.turn_bytes_max {
                    return;
                }
                continue;
            }
            Found::Never(why) => why,
            Found::NotNow(why) => {
                let is_first = all.first().is_some_and(|first| first.offset == one.offset);
                let is_place = is_first && shared.core.lock().timers.due_failures() >= READ_TRIES;
                let other = all.iter().find(|other| other.physical != one.physical);
                let other =
                    other.map(|other| QueueUnit { physical_offset: other.physical, ..unit });
                if !(is_place && reads(shared, other.as_ref()).await) {
                    let failures = shared.core.lock().timers.on_unreadable(shared.clock.mono());
                    return say_not_now(one, failures, &why);
                }
                why
            }
        };
        say_lost(one.offset, one.physical, &why);
        shared.core.lock().timers.on_stepped_over(one);
    }
}

/// False: not now, and nothing behind it either.
fn send(
    shared: &Shared,
    topic: &TopicName,
    record: &Bytes,
    one: &Waiting,
    is_renewal: bool,
) -> bool {
    let mut core = shared.core.lock();
    let core = &mut *core;
    let view = match message_unit::decode(record, one.physical, false) {
        Ok(Unit::Record(view)) => view,
        _ => return true,
    };
    let step_over = |core: &mut Core, why: &str| {
        say_lost(one.offset, one.physical, why);
        core.timers.on_stepped_over(one);
        true
    };
    let real = match super::super::schedule::rewrite::real(&view) {
        Ok(real) => real,
        Err(fault) => return step_over(core, &fault.to_string()),
    };
    let (to, queue, slot) = if is_renewal {
        (topic.clone(), rewrite::WAITING, None)
    } else {
        match real_topic(shared, core, real.topic, real.queue, one.physical) {
            Some((to, slot)) => (to, real.queue, slot),
            None => {
                core.timers.on_refused(shared.clock.mono());
                return false;
            }
        }
    };
    match append(shared, core, topic, &view, (&to, queue), one) {
        Ok(size) => {
            core.stats.on_put(1, size);
            if !is_renewal {
                slot.iter().for_each(|slot| core.topics.count_puts(*slot, queue, 1, size));
            }
            core.timers.on_sent(one);
            true
        }
        Err(error @ (AppendError::Illegal(_) | AppendError::Size { .. })) => {
            step_over(core, &error.to_string())
        }
        Err(error) => {
            crate::rt::probe!("timer: the store refused a delivery");
            not_now(shared, core, one, &error.to_string());
            false
        }
    }
}

/// Appends the message and the done message of its old place. Returns the bytes of the message.
fn append(
    shared: &Shared,
    core: &mut Core,
    topic: &TopicName,
    view: &View,
    (to, queue): (&TopicName, QueueId),
    one: &Waiting,
) -> Result<u64, AppendError> {
    let ticket = Ticket(TIMER | core.timers.next_ticket());
    let body = rewrite::Done { offset: one.offset, base: core.timers.base() }.body();
    let (host, now) = (shared.store_host(), shared.clock.wall());
    let copy = Append::again(view, to, queue, ticket);
    let appends = [copy, rewrite::done(topic, &body, host, now, ticket)];
    let all = shared.store.append_all(&appends)?;
    if queue == rewrite::WAITING && to == topic {
        core.timers.on_put(all[0].queue_offset);
    }
    Ok(all[0].size as u64)
}

fn not_now(shared: &Shared, core: &mut Core, one: &Waiting, why: &str) {
    let failures = core.timers.on_refused(shared.clock.mono());
    say_not_now(one, failures, why);
}

fn say_not_now(one: &Waiting, failures: u32, why: &str) {
    if failures.is_power_of_two() {
        let offset = one.offset;
        tracing::warn!("message {offset} of {TIMER_TOPIC} waits, {failures} times in a row: {why}");
    }
}

/// Those that lie far behind all others are written anew at the end.
async fn renew(shared: &Shared, topic: &TopicName, from: QueueOffset, count: usize) {
    let slice = match entries(shared, topic, from, count).await {
        Ok(slice) => slice,
        Err(why) => {
            let failures = shared.core.lock().timers.on_refused(shared.clock.mono());
            return tracing::warn!(
                "{TIMER_TOPIC} is not renewed, {failures} times in a row: {why}"
            );
        }
    };
    let mut all = Vec::new();
    for (offset, unit) in (from.0..).map(QueueOffset).zip(&slice.units) {
        let is_waiting = shared.core.lock().timers.is_waiting(offset);
        if !is_waiting {
            continue;
        }
        match find(shared, offset, unit).await {
            Found::Record(_, one) => all.push(one),
            // It is tried again when it is due.
            Found::Never(_) | Found::NotNow(_) => break,
        }
    }
    if all.is_empty() {
        shared.core.lock().timers.on_refused(shared.clock.mono());
        return;
    }
    crate::rt::probe!("timer: what lay far behind was written anew");
    deliver(shared, topic, &all, true).await;
}
