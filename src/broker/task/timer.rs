//! Delivers messages that have a time of their own; learns first what waits, from the log alone.
//!
//! The rules are those of `timer`. A delivery and its done message are one append with one outcome,
//! which comes with those of all sends.

use super::super::driver::{Core, Shared, TIMER};
use super::super::timer::{Step, TIMER_TOPIC, Timers, Waiting, rewrite};
use crate::format::consume_queue_unit::QueueUnit;
use crate::format::message_unit::{self, Unit, View};
use crate::model::{PhysicalOffset, QueueId, QueueKey, QueueOffset, TopicName};
use crate::rt::task::{Stop, yield_now};
use crate::rt::time::{Alarm, Duration};
use crate::store::{AppendError, QueueSlice, Store, Ticket};
use bytes::Bytes;
use std::io;
use std::sync::Arc;

/// Done messages that are read at a time.
const STEP: usize = 256;
/// A disk that does not read is asked so often in a row, with this pause, before a place is given
/// up; then each place behind it after one try, until one can be read.
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(100);
/// So many done messages are looked at from the end on for one that can be read.
const LAST_TRIES: u64 = 16;
/// A waiting message that could not be read so often in a row is stepped over, if another can be.
const READ_TRIES: u32 = 3;

pub async fn run(shared: Arc<Shared>, mut stop: Stop) {
    if !shared.options.timers.is_on {
        warn_of_waiting(&shared);
        return;
    }
    let options = &shared.options;
    if options.timers.delay_max > options.transactions.keep_for {
        tracing::warn!(
            "timerMaxDelaySec is longer than fileReservedTime: what waits longer than files are \
             kept is deleted before its time"
        );
    }
    let topic = TopicName::new(TIMER_TOPIC);
    let mut opening = Opening { shared: &shared, stop: &mut stop, tries_left: TRIES };
    if opening.load(&topic).await.is_none() {
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

/// A start: which messages are done.
struct Opening<'a> {
    shared: &'a Arc<Shared>,
    stop: &'a mut Stop,
    tries_left: u32,
}

impl Opening<'_> {
    /// `None`: the broker stops.
    async fn load(&mut self, topic: &TopicName) -> Option<()> {
        let store = self.shared.store.clone();
        let (waits, dones) = (key(topic, rewrite::WAITING), key(topic, rewrite::DONE));
        let (min, end) = (store.min_offset(&waits), store.max_offset(&waits));
        let base = match self.last(&dones).await? {
            Some(last) => last.base.0.clamp(min.0, end.0.max(min.0)),
            None => min.0,
        };
        let base = QueueOffset(base);
        self.shared.core.lock().timers.restore(base);
        let oldest = self.ask(|| slice(&store, &waits, base, 1)).await?;
        let oldest = oldest.and_then(|slice| slice.units.first().map(|unit| unit.physical_offset));
        let mut at = match oldest {
            Some(physical) => self.first_behind(&dones, physical).await?,
            None if base < end => store.min_offset(&dones),
            None => store.max_offset(&dones),
        };
        let from = at;
        while at < store.max_offset(&dones) {
            at = self.load_step(&dones, at).await?;
        }
        let mut core = self.shared.core.lock();
        core.timers.open();
        let (read, waiting) = (at.0 - from.0, core.timers.waiting());
        drop(core);
        if read + waiting > 0 {
            crate::rt::probe!("timer: a start read done messages");
            tracing::info!(
                "{read} done messages of {TIMER_TOPIC} were read; at most {waiting} messages wait"
            );
        }
        Some(())
    }

    /// Asks the disk until it answers. `None` inside: it does not.
    async fn ask<T, F: Future<Output = io::Result<T>>>(
        &mut self,
        read: impl Fn() -> F,
    ) -> Option<Option<T>> {
        loop {
            match read().await {
                Ok(value) => {
                    self.tries_left = TRIES;
                    return Some(Some(value));
                }
                Err(error) => tracing::warn!("{TIMER_TOPIC} cannot be read: {error}"),
            }
            if self.tries_left == 0 {
                return Some(None);
            }
            self.tries_left -= 1;
            let until = self.shared.clock.mono() + PAUSE;
            crate::rt::select! {
                _ = self.stop.wait() => return None,
                _ = self.shared.clock.sleep_until(until) => {}
            }
        }
    }

    /// The newest done message that can be read.
    async fn last(&mut self, dones: &QueueKey) -> Option<Option<rewrite::Done>> {
        let store = self.shared.store.clone();
        let (min, end) = (store.min_offset(dones).0, store.max_offset(dones).0);
        for at in (min..end).rev().take(LAST_TRIES as usize) {
            let found = self.ask(|| slice(&store, dones, QueueOffset(at), 1)).await?;
            let Some(unit) = found.and_then(|slice| slice.units.first().copied()) else { continue };
            let record = self.ask(|| record(&store, unit.physical_offset)).await?.flatten();
            let done = record.and_then(|record| done_of(&record, unit.physical_offset));
            if done.is_some() {
                return Some(done);
            }
            crate::rt::probe!("timer: the last done message says nothing");
        }
        if min < end {
            tracing::error!("no done message at the end of {TIMER_TOPIC} can be read");
        }
        Some(None)
    }

    /// The first done message behind a place in the log; the oldest one when nothing says.
    async fn first_behind(
        &mut self,
        dones: &QueueKey,
        physical: PhysicalOffset,
    ) -> Option<QueueOffset> {
        let store = self.shared.store.clone();
        let (min, end) = (store.min_offset(dones).0, store.max_offset(dones).0);
        let (mut low, mut high) = (min, end);
        while low < high {
            let middle = low + (high - low) / 2;
            let found = self.ask(|| slice(&store, dones, QueueOffset(middle), 1)).await?;
            let unit = found.and_then(|slice| slice.units.first().copied());
            match unit.filter(|unit| !unit.is_blank() && !unit.is_empty()) {
                Some(unit) if unit.physical_offset < physical => low = middle + 1,
                Some(_) => high = middle,
                None => return Some(QueueOffset(min)),
            }
        }
        Some(QueueOffset(low))
    }

    /// Reads some done messages. Returns where to go on.
    async fn load_step(&mut self, dones: &QueueKey, at: QueueOffset) -> Option<QueueOffset> {
        let store = self.shared.store.clone();
        let found = self.ask(|| slice(&store, dones, at, STEP)).await?;
        let units = found.map(|slice| slice.units).unwrap_or_default();
        if units.is_empty() {
            tracing::error!(
                "done message {at} of {TIMER_TOPIC} has no queue entry: it is left out"
            );
            return Some(QueueOffset(at.0 + 1));
        }
        let together = store.records_of(&units).await.unwrap_or_else(|error| {
            tracing::warn!("done messages of {TIMER_TOPIC} are read one by one: {error}");
            vec![None; units.len()]
        });
        let mut next = at.0;
        for (unit, found) in units.iter().zip(together) {
            let place = unit.physical_offset;
            let found = match found {
                Some(found) => Some(found),
                None => self.ask(|| record(&store, place)).await?.flatten(),
            };
            match found.and_then(|record| done_of(&record, place)) {
                Some(done) => self.shared.core.lock().timers.on_done(done.offset),
                None => tracing::error!("done message {next} of {TIMER_TOPIC} at {place} is lost"),
            }
            next += 1;
        }
        yield_now().await;
        Some(QueueOffset(next))
    }
}

fn slice(
    store: &Store,
    key: &QueueKey,
    from: QueueOffset,
    count: usize,
) -> impl Future<Output = io::Result<QueueSlice>> + Send + use<> {
    let (store, key) = (store.clone(), key.clone());
    async move { store.slice(&key, from, count).await }
}

fn record(
    store: &Store,
    at: PhysicalOffset,
) -> impl Future<Output = io::Result<Option<Bytes>>> + Send + use<> {
    let store = store.clone();
    async move { store.record_at(at).await }
}

fn done_of(record: &[u8], at: PhysicalOffset) -> Option<rewrite::Done> {
    match message_unit::decode(record, at, true) {
        Ok(Unit::Record(view)) => rewrite::Done::of(&view),
        _ => None,
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
            return not_read(shared, from, "its queue file is not there");
        }
        Ok(slice) => slice,
        Err(why) => return not_read(shared, from, &why),
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
                shared.core.lock().timers.on_read(offset, Some(one));
                continue;
            }
            Found::Never(why) => why,
            Found::NotNow(why) => {
                let is_place = shared.core.lock().timers.read_failures() >= READ_TRIES;
                let behind = slice.units.get((offset.0 - from.0) as usize + 1);
                if !(is_place && reads(shared, behind).await) {
                    return not_read(shared, offset, &why);
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

fn not_read(shared: &Shared, offset: QueueOffset, why: &str) {
    let failures = shared.core.lock().timers.on_not_read(shared.clock.mono());
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
                let is_place = shared.core.lock().timers.send_failures() >= READ_TRIES;
                let other = all.iter().find(|other| other.physical != one.physical);
                let other =
                    other.map(|other| QueueUnit { physical_offset: other.physical, ..unit });
                if !(is_place && reads(shared, other.as_ref()).await) {
                    return not_now(shared, &mut shared.core.lock(), one, &why);
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
    let row = core.topics.get(real.topic);
    let (to, slot) = (row.map(|row| row.name.clone()), row.map(|row| row.slot));
    let to = to.unwrap_or_else(|| TopicName::new(real.topic));
    let (to, queue) = if is_renewal { (topic, rewrite::WAITING) } else { (&to, real.queue) };
    match append(shared, core, topic, &view, (to, queue), one) {
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
    let copy = rewrite::again(view, to, queue, ticket);
    let appends = [copy, rewrite::done(topic, &body, host, now, ticket)];
    let all = shared.store.append_all(&appends)?;
    if queue == rewrite::WAITING && to == topic {
        core.timers.on_put(all[0].queue_offset);
    }
    Ok(all[0].size as u64)
}

fn not_now(shared: &Shared, core: &mut Core, one: &Waiting, why: &str) {
    let failures = core.timers.on_refused(shared.clock.mono());
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
