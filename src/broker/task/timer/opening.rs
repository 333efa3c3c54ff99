//! A start: which messages of the timer topic are done.

use super::super::super::driver::Shared;
use super::super::super::timer::{TIMER_TOPIC, rewrite};
use super::super::patient::Patient;
use super::key;
use crate::format::message_unit::{self, Unit};
use crate::model::{PhysicalOffset, QueueKey, QueueOffset, TopicName};
use crate::rt::task::{Stop, yield_now};
use crate::store::QueueSlice;
use std::sync::Arc;

/// Done messages that are read at a time.
const STEP: usize = 256;
/// So many done messages are looked at from the end on for one that can be read.
const LAST_TRIES: u64 = 16;

/// `None`: the broker stops.
pub(super) async fn load(shared: &Arc<Shared>, topic: &TopicName, stop: &mut Stop) -> Option<()> {
    Opening { shared, store: Patient::new(shared, TIMER_TOPIC), stop }.load(topic).await
}

struct Opening<'a> {
    shared: &'a Arc<Shared>,
    store: Patient<'a>,
    stop: &'a mut Stop,
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
        let oldest = self.slice(&waits, base, 1).await?;
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

    /// `None`: the broker stops. `None` inside: the disk does not read.
    async fn slice(
        &mut self,
        key: &QueueKey,
        from: QueueOffset,
        count: usize,
    ) -> Option<Option<QueueSlice>> {
        crate::rt::select! {
            _ = self.stop.wait() => None,
            slice = self.store.slice(key, from, count) => Some(slice),
        }
    }

    /// `None`: the broker stops. `None` inside: it cannot be read, or is none.
    async fn done_at(&mut self, at: PhysicalOffset) -> Option<Option<rewrite::Done>> {
        let record = crate::rt::select! {
            _ = self.stop.wait() => return None,
            record = self.store.record(at) => record.flatten(),
        };
        Some(record.and_then(|record| done_of(&record, at)))
    }

    /// The newest done message that can be read.
    async fn last(&mut self, dones: &QueueKey) -> Option<Option<rewrite::Done>> {
        let store = self.shared.store.clone();
        let (min, end) = (store.min_offset(dones).0, store.max_offset(dones).0);
        for at in (min..end).rev().take(LAST_TRIES as usize) {
            let found = self.slice(dones, QueueOffset(at), 1).await?;
            let Some(unit) = found.and_then(|slice| slice.units.first().copied()) else { continue };
            let done = self.done_at(unit.physical_offset).await?;
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
            let found = self.slice(dones, QueueOffset(middle), 1).await?;
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
        let found = self.slice(dones, at, STEP).await?;
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
            let done = match found {
                Some(record) => done_of(&record, place),
                None => self.done_at(place).await?,
            };
            match done {
                Some(done) => self.shared.core.lock().timers.on_done(done.offset),
                None => tracing::error!("done message {next} of {TIMER_TOPIC} at {place} is lost"),
            }
            next += 1;
        }
        yield_now().await;
        Some(QueueOffset(next))
    }
}

fn done_of(record: &[u8], at: PhysicalOffset) -> Option<rewrite::Done> {
    match message_unit::decode(record, at, true) {
        Ok(Unit::Record(view)) => rewrite::Done::of(&view),
        _ => None,
    }
}
