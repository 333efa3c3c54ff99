//! What a start must know of transactions: which half messages are resolved, and whether a crash
//! came between an effect and its op message.

use super::super::driver::{Core, Shared, TRANSACTION};
use super::super::handler::transaction::append_op;
use super::super::offsets::Offsets;
use super::super::transaction::{Aim, Bounds, GROUP, HALF_TOPIC, Next, OP_TOPIC, rewrite};
use super::patient::Patient;
use crate::format::message_unit::{self, Unit, View};
use crate::format::op_message;
use crate::model::{PhysicalOffset, QueueKey, QueueOffset, TopicName};
use crate::store::Ticket;
use std::sync::Arc;

/// Entries of the queue that are read at a time.
const STEP: usize = 256;

pub fn half_key() -> QueueKey {
    QueueKey { topic: TopicName::new(HALF_TOPIC), queue: rewrite::QUEUE }
}

fn op_key() -> QueueKey {
    QueueKey { topic: TopicName::new(OP_TOPIC), queue: rewrite::QUEUE }
}

/// Op messages were cut off the log that named `half` and later ones: what resolves those is looked
/// for again in all op messages that are left.
pub fn go_back(offsets: &mut Offsets, half: QueueOffset) {
    let half = i64::try_from(half.0).unwrap_or(i64::MAX);
    for (topic, to) in [(HALF_TOPIC, half), (OP_TOPIC, 0)] {
        let saved = offsets.get(GROUP, topic, rewrite::QUEUE);
        if saved.is_some_and(|saved| saved > to) {
            offsets.commit(0, GROUP, topic, rewrite::QUEUE, to);
        }
    }
}

/// Reads every op message that progress has not passed, and writes one that a crash left out.
pub async fn load(shared: &Arc<Shared>) {
    let bounds = |core: &Core, key: &QueueKey| Bounds {
        saved: core.offsets.get(GROUP, &key.topic, key.queue),
        min: shared.store.min_offset(key),
        end: shared.store.max_offset(key),
    };
    let (half, op) = (half_key(), op_key());
    let (mut at, end) = {
        let mut core = shared.core.lock();
        let (half, op) = (bounds(&core, &half), bounds(&core, &op));
        (core.transactions.restore(&half, &op), op.end)
    };
    let from = at;
    let mut store = Patient::new(shared, "what a start reads of transactions");
    while at < end {
        at = load_step(&mut store, &op, at, end).await;
        if at.0 / 100_000 != (at.0 - 1) / 100_000 {
            tracing::info!("{} of {} op messages of transactions are read", at.0, end.0);
        }
    }
    if at > from {
        tracing::info!("{} op messages of transactions were read", at.0 - from.0);
    }
    repair(&mut store).await;
}

/// Reads some op messages. Returns where to go on.
async fn load_step(
    store: &mut Patient<'_>,
    key: &QueueKey,
    at: QueueOffset,
    end: QueueOffset,
) -> QueueOffset {
    let count = STEP.min((end.0 - at.0) as usize);
    let shared = store.shared;
    let slice = store.slice(key, at, count).await;
    let units = slice.map(|slice| slice.units).unwrap_or_default();
    if units.is_empty() {
        tracing::error!("op message {at} of transactions has no queue entry: it is left out");
        shared.core.lock().transactions.on_op(None);
        return QueueOffset(at.0 + 1);
    }
    let together = shared.store.records_of(&units).await.unwrap_or_else(|error| {
        crate::rt::probe!("transaction: a start reads its op messages one by one");
        tracing::warn!("op messages of transactions are read one by one: {error}");
        vec![None; units.len()]
    });
    let mut next = at.0;
    for (unit, record) in units.into_iter().zip(together) {
        let is_real = !unit.is_blank() && !unit.is_empty();
        let half = match record {
            Some(record) => op_half(&record, unit.physical_offset),
            None if is_real => read_op(store, unit.physical_offset).await,
            None => None,
        };
        if half.is_none() {
            crate::rt::probe!("transaction: an op message says nothing");
            let physical = unit.physical_offset;
            tracing::error!("op message {next} of transactions at {physical} says nothing");
        }
        shared.core.lock().transactions.on_op(half);
        next += 1;
    }
    QueueOffset(next)
}

async fn read_op(store: &mut Patient<'_>, at: PhysicalOffset) -> Option<QueueOffset> {
    let record = store.record(at).await??;
    op_half(&record, at)
}

/// Which half message an op message names; `None` when this is none.
fn op_half(record: &[u8], at: PhysicalOffset) -> Option<QueueOffset> {
    match message_unit::decode(record, at, true) {
        Ok(Unit::Record(view)) => op_message::half_of(&view),
        _ => None,
    }
}

/// Writes the op message of the last record, when that is a final message or a copy without one.
async fn repair(store: &mut Patient<'_>) {
    let shared = store.shared;
    let Some(at) = shared.store.last_record() else { return };
    let Some(Some(last)) = store.record(at).await else { return };
    let Ok(Unit::Record(view)) = message_unit::decode(&last, at, true) else { return };
    let (first, below, own) = match rewrite::origin(&view) {
        Some(rewrite::Origin::At(half)) => {
            let Some(Some(from)) = store.record(half).await else { return };
            let Ok(Unit::Record(half)) = message_unit::decode(&from, half, true) else { return };
            if half.topic() != HALF_TOPIC {
                return;
            }
            (rewrite::first_of(&half), u64::MAX, Some(half.queue_offset()))
        }
        Some(rewrite::Origin::First(first, below)) => (first, below, None),
        None => return,
    };
    let half = match own.filter(|half| is_open(shared, *half)) {
        Some(half) => Some(half),
        None => newest_copy(store, first, below).await,
    };
    let Some(half) = half else { return };
    crate::rt::probe!("transaction: an op message was missing at the end of the log");
    tracing::warn!("a crash left half message {half} without its op message: it is written now");
    let mut core = shared.core.lock();
    core.transactions.on_owed(half);
    write_owed(shared, &mut core);
}

fn is_open(shared: &Arc<Shared>, half: QueueOffset) -> bool {
    let end = QueueOffset(half.0 + 1);
    shared.core.lock().transactions.next_open(half.0, end) == Next::Open(half)
}

/// The newest open half message below `below` that is a copy of `first`, or `first` itself.
async fn newest_copy(store: &mut Patient<'_>, first: u64, below: u64) -> Option<QueueOffset> {
    let (shared, key) = (store.shared, half_key());
    let (mut from, mut found) = (first, None);
    let end = QueueOffset(shared.store.max_offset(&key).0.min(below));
    loop {
        let next = shared.core.lock().transactions.next_open(from, end);
        match next {
            Next::End => return found,
            Next::Later(at) => from = at,
            Next::Open(half) => {
                from = half.0 + 1;
                let slice = store.slice(&key, half, 1).await?;
                let Some(unit) = slice.units.first() else { continue };
                let at = unit.physical_offset;
                let Some(found_at) = store.record(at).await? else { continue };
                let is_it =
                    |view: &View| view.queue_offset() == half && rewrite::first_of(view) == first;
                if let Ok(Unit::Record(view)) = message_unit::decode(&found_at, at, true)
                    && is_it(&view)
                {
                    found = Some(half);
                }
            }
        }
    }
}

/// Appends op messages that are missing. False: the store did not take one.
pub fn write_owed(shared: &Shared, core: &mut Core) -> bool {
    while let Some(half) = core.transactions.take_owed() {
        let ticket = Ticket(TRANSACTION | core.transactions.next_ticket());
        match append_op(shared, core, half, ticket) {
            Ok(op) => core.transactions.on_sent(Aim::Repair, half, half.0, op),
            Err(error) => {
                tracing::warn!("the op message of half message {half} waits: {error}");
                core.transactions.on_owed(half);
                return false;
            }
        }
    }
    true
}
