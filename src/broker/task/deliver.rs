//! Delivers delayed messages: reads what is due, level by level, and sends it to its real topic.
//!
//! The rules are those of `schedule`. A turn reads a bounded number of records of one level,
//! hands them to the store in one go, and leaves; their outcomes come with those of all sends.

use super::super::driver::{Core, DELIVERY, Shared};
use super::super::real_topic::real_topic;
use super::super::schedule::{Due, Look, READ_TRIES, rewrite};
use crate::format::message_unit::{self, Unit, View};
use crate::model::{QueueId, QueueKey, TopicName};
use crate::rt::task::{Stop, yield_now};
use crate::rt::time::Alarm;
use crate::store::{Append, AppendError, QueueSlice, SCHEDULE_TOPIC, Ticket};
use bytes::Bytes;
use std::io;
use std::sync::Arc;

pub async fn run(shared: Arc<Shared>, mut stop: Stop) {
    let mut alarm = Alarm::new(&shared.clock);
    let topic = TopicName::new(SCHEDULE_TOPIC);
    loop {
        alarm.set(next_deadline(&shared));
        crate::rt::select! {
            _ = stop.wait() => return,
            _ = alarm.ring() => {}
            _ = shared.delivery_moved.notified() => {}
        }
        while let Some(look) = next_look(&shared) {
            if stop.is_set() {
                return;
            }
            turn(&shared, &topic, &look).await;
            yield_now().await;
        }
    }
}

fn next_deadline(shared: &Shared) -> Option<crate::rt::time::Mono> {
    shared.core.lock().schedule.next_deadline()
}

fn next_look(shared: &Shared) -> Option<Look> {
    let (now, wall) = (shared.clock.mono(), shared.clock.wall());
    shared.core.lock().schedule.next_look(now, wall)
}

async fn turn(shared: &Shared, topic: &TopicName, look: &Look) {
    let key = QueueKey { topic: topic.clone(), queue: look.queue };
    let slice = match shared.store.slice(&key, look.from, look.count).await {
        Ok(slice) => slice,
        Err(error) => {
            let mut core = shared.core.lock();
            not_now(shared, &mut core, look.queue, &format!("its entries cannot be read: {error}"));
            core.schedule.on_turn_end(look.queue, shared.clock.mono());
            return;
        }
    };
    let turn = {
        let (now, wall) = (shared.clock.mono(), shared.clock.wall());
        shared.core.lock().schedule.on_entries(look, &slice, now, wall)
    };
    if turn.lost > 0 {
        crate::rt::probe!("schedule: retention took what was not delivered");
        let (lost, level) = (turn.lost, look.queue.0 + 1);
        tracing::error!("{lost} messages of delay level {level} were deleted before their time");
    }
    let found = read(shared, look, &slice, &turn.due).await;
    let mut core = shared.core.lock();
    for (due, found) in turn.due.iter().zip(found) {
        if !deliver(shared, &mut core, look.queue, due, found) {
            break;
        }
    }
    core.schedule.on_turn_end(look.queue, shared.clock.mono());
}

/// A record as the disk gave it.
enum Found {
    Record(Bytes),
    /// It will never be read; why.
    Never(String),
    /// Not now; why. Nothing behind it was read.
    NotNow(String),
}

async fn read(shared: &Shared, look: &Look, slice: &QueueSlice, due: &[Due]) -> Vec<Found> {
    let mut all = Vec::with_capacity(due.len());
    for one in due {
        let found = read_one(shared, look, slice, one).await;
        let is_end = matches!(found, Found::NotNow(_));
        all.push(found);
        if is_end {
            break;
        }
    }
    all
}

async fn read_one(shared: &Shared, look: &Look, slice: &QueueSlice, due: &Due) -> Found {
    if due.unit.is_blank() || due.unit.is_empty() {
        return Found::Never("its queue entry is blank".to_owned());
    }
    let at = due.unit.physical_offset;
    match shared.store.record_at(at).await {
        Ok(Some(record)) => Found::Record(record),
        Ok(None) if at < shared.store.stats().min => {
            Found::Never("its file was deleted before its time".to_owned())
        }
        Ok(None) => Found::Never("no record lies there".to_owned()),
        Err(error) => {
            let is_next = due.offset == look.from;
            let tries =
                if is_next { shared.core.lock().schedule.read_failures(look.queue) } else { 0 };
            let why = format!("it cannot be read: {error}");
            match tries >= READ_TRIES && reads_another(shared, look, slice, due).await {
                true => Found::Never(format!("{why}, and what lies behind it can")),
                false => Found::NotNow(why),
            }
        }
    }
}

/// Whether the disk gives the record behind this one: then not the disk is at fault, but a place.
async fn reads_another(shared: &Shared, look: &Look, slice: &QueueSlice, due: &Due) -> bool {
    let behind = (due.offset.0 - look.from.0) as usize + 1;
    let Some(unit) = slice.units.get(behind) else { return false };
    let found: io::Result<_> = shared.store.record_at(unit.physical_offset).await;
    found.is_ok()
}

/// Sends one message on. False: not now, and nothing behind it either.
fn deliver(shared: &Shared, core: &mut Core, queue: QueueId, due: &Due, found: Found) -> bool {
    let record = match found {
        Found::Record(record) => record,
        Found::Never(why) => {
            core.schedule.on_read(queue);
            step_over(core, queue, due, &why);
            return true;
        }
        Found::NotNow(why) => {
            let failures = core.schedule.on_unreadable(queue, shared.clock.mono());
            say_not_now(queue, failures, &why);
            return false;
        }
    };
    core.schedule.on_read(queue);
    let view = match message_unit::decode(&record, due.unit.physical_offset, true) {
        Ok(Unit::Record(view)) => view,
        Ok(_) => {
            step_over(core, queue, due, "no record lies there");
            return true;
        }
        Err(error) => {
            step_over(core, queue, due, &error.to_string());
            return true;
        }
    };
    if view.topic() != SCHEDULE_TOPIC
        || view.queue_id() != queue
        || view.queue_offset() != due.offset
    {
        step_over(core, queue, due, "another record lies there");
        return true;
    }
    match rewrite::real(&view) {
        Ok(real) => send(shared, core, queue, due, &view, &real),
        Err(fault) => {
            step_over(core, queue, due, &fault.to_string());
            true
        }
    }
}

/// Source: ScheduleMessageService#messageTimeup (4.9.3).
fn send(
    shared: &Shared,
    core: &mut Core,
    queue: QueueId,
    due: &Due,
    view: &View,
    real: &rewrite::Real,
) -> bool {
    let at = due.unit.physical_offset;
    let Some((topic, slot)) = real_topic(shared, core, real.topic, real.queue, at) else {
        core.schedule.on_refused(queue, shared.clock.mono());
        return false;
    };
    let append = Append {
        topic: &topic,
        queue: real.queue,
        flag: view.flag(),
        sys_flag: view.sys_flag(),
        born_timestamp: view.born_timestamp(),
        born_host: view.born_host(),
        store_host: view.store_host(),
        reconsume_times: view.reconsume_times(),
        prepared_transaction_offset: 0,
        body: view.body(),
        properties: view.properties(),
        tags_code: None,
        wait: true,
        ticket: Ticket(DELIVERY | core.schedule.next_ticket()),
    };
    match shared.store.append(&append) {
        Ok(appended) => {
            let size = appended.size as u64;
            core.stats.on_put(1, size);
            core.stats.on_delivered(SCHEDULE_TOPIC, queue, size);
            slot.iter().for_each(|slot| core.topics.count_puts(*slot, real.queue, 1, size));
            core.schedule.on_sent(queue, due);
            true
        }
        Err(error @ (AppendError::Illegal(_) | AppendError::Size { .. })) => {
            step_over(core, queue, due, &error.to_string());
            true
        }
        Err(error) => {
            crate::rt::probe!("schedule: the store refused a delivery");
            not_now(shared, core, queue, &error.to_string());
            false
        }
    }
}

/// The message stays in the log and in the schedule topic, and is never delivered: this is said
/// once, here.
fn step_over(core: &mut Core, queue: QueueId, due: &Due, why: &str) {
    crate::rt::probe!("schedule: a record was stepped over");
    let (level, offset, at) = (queue.0 + 1, due.offset, due.unit.physical_offset);
    tracing::error!("message {offset} of delay level {level} at {at} is not delivered: {why}");
    core.schedule.on_stepped_over(queue);
}

fn not_now(shared: &Shared, core: &mut Core, queue: QueueId, why: &str) {
    let failures = core.schedule.on_refused(queue, shared.clock.mono());
    say_not_now(queue, failures, why);
}

fn say_not_now(queue: QueueId, failures: u32, why: &str) {
    if failures.is_power_of_two() {
        let level = queue.0 + 1;
        tracing::warn!("delay level {level} waits, {failures} times in a row: {why}");
    }
}
