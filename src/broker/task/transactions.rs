//! What a start must know of transactions: which half messages are resolved, and whether a crash
//! came between an effect and its op message.

use super::super::driver::{Core, Shared, TRANSACTION};
use super::super::handler::transaction::append_op;
use super::super::transaction::{Aim, Bounds, GROUP, HALF_TOPIC, Next, OP_TOPIC, rewrite};
use crate::format::message_unit::{self, Unit, View};
use crate::model::{PhysicalOffset, QueueKey, QueueOffset, TopicName};
use crate::rt::time::Duration;
use crate::store::{QueueSlice, Ticket};
use bytes::Bytes;
use std::sync::Arc;

/// Entries of the queue that are read at a time.
const STEP: usize = 256;
/// A disk that does not read is asked so often, with this pause, before an op message is given up.
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(100);

pub fn half_key() -> QueueKey {
    QueueKey { topic: TopicName::new(HALF_TOPIC), queue: rewrite::QUEUE }
}

fn op_key() -> QueueKey {
    QueueKey { topic: TopicName::new(OP_TOPIC), queue: rewrite::QUEUE }
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
    while at < end {
        at = load_step(shared, &op, at, end).await;
        if at.0 / 100_000 != (at.0 - 1) / 100_000 {
            tracing::info!("{} of {} op messages of transactions are read", at.0, end.0);
        }
    }
    if at > from {
        tracing::info!("{} op messages of transactions were read", at.0 - from.0);
    }
    repair(shared).await;
}

/// Reads some op messages. Returns where to go on.
async fn load_step(
    shared: &Arc<Shared>,
    key: &QueueKey,
    at: QueueOffset,
    end: QueueOffset,
) -> QueueOffset {
    let count = STEP.min((end.0 - at.0) as usize);
    let slice = tried(shared, || shared.store.slice(key, at, count)).await;
    let units = slice.map(|slice: QueueSlice| slice.units).unwrap_or_default();
    if units.is_empty() {
        tracing::error!("op message {at} of transactions has no queue entry: it is left out");
        shared.core.lock().transactions.on_op(None);
        return QueueOffset(at.0 + 1);
    }
    let mut next = at.0;
    for unit in units {
        let is_real = !unit.is_blank() && !unit.is_empty();
        let half = match is_real {
            true => read_op(shared, unit.physical_offset).await,
            false => None,
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

async fn read_op(shared: &Arc<Shared>, at: PhysicalOffset) -> Option<QueueOffset> {
    let record = tried(shared, || shared.store.record_at(at)).await??;
    match message_unit::decode(&record, at, true) {
        Ok(Unit::Record(view)) if view.topic() == OP_TOPIC => rewrite::op_half(&view),
        _ => None,
    }
}

/// Asks a disk again that does not read.
async fn tried<T, F: Future<Output = std::io::Result<T>>>(
    shared: &Arc<Shared>,
    read: impl Fn() -> F,
) -> Option<T> {
    for _ in 0..TRIES {
        match read().await {
            Ok(value) => return Some(value),
            Err(error) => {
                crate::rt::probe!("transaction: a start reads its op messages again");
                tracing::warn!("the op messages of transactions cannot be read: {error}");
                shared.clock.sleep_until(shared.clock.mono() + PAUSE).await;
            }
        }
    }
    None
}

/// Writes the op message of the last record, when that is a final message or a copy without one.
async fn repair(shared: &Arc<Shared>) {
    let Some(at) = shared.store.last_record() else { return };
    let Some(Some(record)) = tried(shared, || shared.store.record_at(at)).await else { return };
    let Ok(Unit::Record(view)) = message_unit::decode(&record, at, true) else { return };
    let (first, below, own) = match rewrite::origin(&view) {
        Some(rewrite::Origin::At(half)) => {
            let Some(Some(record)) = tried(shared, || shared.store.record_at(half)).await else {
                return;
            };
            let Ok(Unit::Record(half)) = message_unit::decode(&record, half, true) else { return };
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
        None => newest_copy(shared, first, below).await,
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
async fn newest_copy(shared: &Arc<Shared>, first: u64, below: u64) -> Option<QueueOffset> {
    let key = half_key();
    let (mut from, mut found) = (first, None);
    let end = QueueOffset(shared.store.max_offset(&key).0.min(below));
    loop {
        let next = shared.core.lock().transactions.next_open(from, end);
        match next {
            Next::End => return found,
            Next::Later(at) => from = at,
            Next::Open(half) => {
                from = half.0 + 1;
                let slice = tried(shared, || shared.store.slice(&key, half, 1)).await?;
                let Some(unit) = slice.units.first() else { continue };
                let at = unit.physical_offset;
                let record: Option<Bytes> = tried(shared, || shared.store.record_at(at)).await?;
                let Some(record) = record else { continue };
                let is_it =
                    |view: &View| view.queue_offset() == half && rewrite::first_of(view) == first;
                if let Ok(Unit::Record(view)) = message_unit::decode(&record, at, true)
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
