//! From a visible record to its queue entry.
//!
//! Source: DefaultMessageStore.CommitLogDispatcherBuildConsumeQueue,
//! CommitLog#checkMessageAndReturnSize (4.9.3).
//! Differs: the dispatcher works on what was appended, not on a second reading of the log; the log
//! is read only by recovery.

use super::consume_queue::{Queues, Slot};
use super::events::Arrival;
use crate::format::consume_queue_unit::QueueUnit;
use crate::format::message_unit::Dispatch;
use crate::format::properties;
use crate::model::{PhysicalOffset, QueueOffset, WallMillis};
use crate::rt::time::Mono;
use std::collections::VecDeque;

/// Where delayed messages wait. Source: TopicValidator#RMQ_SYS_SCHEDULE_TOPIC.
pub const SCHEDULE_TOPIC: &str = "SCHEDULE_TOPIC_XXXX";

/// What Java adds to the store time when a level is not in its table. Units: milliseconds.
const UNKNOWN_LEVEL_MS: i64 = 1000;

/// A record that was appended and is not yet visible.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub at: u64,
    pub size: u32,
    /// `None` when the record enters no queue: half and rollback messages.
    pub slot: Option<Slot>,
    pub queue_offset: u64,
    pub tags_code: i64,
}

/// The third field of the queue entry of a record that is being appended.
pub fn tags_code(
    topic: &str,
    known: Option<i64>,
    raw: &[u8],
    stored: WallMillis,
    levels_ms: &[i64],
) -> i64 {
    if topic == SCHEDULE_TOPIC {
        let seen = properties::look_at(raw);
        if let Some(at) = deliver_at(seen.delay_level().unwrap_or(0), stored, levels_ms) {
            return at;
        }
    }
    known.unwrap_or_else(|| properties::tags_code(raw))
}

/// The third field of the queue entry of a record that lies in the log.
pub fn tags_code_of(record: &Dispatch<'_>, levels_ms: &[i64]) -> i64 {
    let delayed = record.topic == SCHEDULE_TOPIC;
    let at = deliver_at(record.delay_level, record.store_timestamp, levels_ms);
    at.filter(|_| delayed).unwrap_or(record.tags_code)
}

/// Source: ScheduleMessageService#computeDeliverTimestamp (4.9.3). A level above the table counts
/// as its last one.
fn deliver_at(level: i32, stored: WallMillis, levels_ms: &[i64]) -> Option<i64> {
    let level = usize::try_from(level).ok().filter(|level| *level > 0)?;
    let wait = levels_ms.get(level.min(levels_ms.len()).wrapping_sub(1));
    Some(stored.0.saturating_add(wait.copied().unwrap_or(UNKNOWN_LEVEL_MS)))
}

/// Enters every record that ends at or below `visible` in its queue, in log order. True when the
/// writer of queue files should look.
pub fn dispatch(
    entries: &mut VecDeque<Entry>,
    visible: u64,
    queues: &mut Queues,
    now: Mono,
    out: &mut Vec<Arrival>,
) -> bool {
    let mut due = false;
    while let Some(entry) = entries.front()
        && entry.at + u64::from(entry.size) <= visible
    {
        if let Some(slot) = entry.slot
            && let Some(queue) = queues.get(slot)
        {
            let (end, tags_code) = (QueueOffset(entry.queue_offset + 1), entry.tags_code);
            out.push(Arrival { key: queue.key.clone(), end, tags_code });
            let physical_offset = PhysicalOffset(entry.at);
            // Offsets that a master's log passes over; below a queue's first entry there is nothing
            // that a reader could miss.
            let is_first = queue.min >= queue.end && queue.end < entry.queue_offset;
            for missing in queue.end..entry.queue_offset {
                due |= queues.push(slot, missing, QueueUnit::missing_before(physical_offset), now);
            }
            if is_first && let Some(queue) = queues.get_mut(slot) {
                queue.on_raised(entry.queue_offset, entry.at);
            }
            let unit = QueueUnit { physical_offset, size: entry.size, tags_code };
            due |= queues.push(slot, entry.queue_offset, unit, now);
        }
        entries.pop_front();
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{QueueId, QueueKey, TopicName};
    use crate::store::consume_queue::Queue;
    use crate::store::snapshot::NO_ENTRY;

    #[test]
    fn a_queue_that_held_nothing_begins_at_its_first_entry() {
        let mut queues = Queues::new(64);
        let key = QueueKey { topic: TopicName::new("T"), queue: QueueId(0) };
        let slot = queues.add(Queue::new(key, 0, 0, NO_ENTRY));
        let entry =
            |queue_offset, at| Entry { at, size: 90, slot: Some(slot), queue_offset, tags_code: 0 };
        let mut entries = VecDeque::from([entry(14, 9_728), entry(16, 9_818)]);
        dispatch(&mut entries, 20_000, &mut queues, Mono(0), &mut Vec::new());
        let queue = queues.get(slot).expect("it was added");
        // A later gap leaves its begin alone.
        assert_eq!((queue.min, queue.end), (14, 17));
        assert_eq!(queue.entries(0).filter(|unit| unit.is_blank()).count(), 15);
    }

    #[test]
    fn delayed_records_carry_their_deliver_time() {
        let levels = [1000, 5000];
        let code = |topic, raw: &[u8]| tags_code(topic, Some(7), raw, WallMillis(100), &levels);
        assert_eq!(code("T", b"DELAY\x012\x02"), 7);
        assert_eq!(code(SCHEDULE_TOPIC, b"DELAY\x012\x02"), 5100);
        assert_eq!(code(SCHEDULE_TOPIC, b"DELAY\x019\x02"), 5100);
        assert_eq!(code(SCHEDULE_TOPIC, b"DELAY\x010\x02"), 7);
        assert_eq!(code(SCHEDULE_TOPIC, b""), 7);
        assert_eq!(tags_code("T", None, b"TAGS\x01TagA", WallMillis(0), &[]), 0x0027_A807);
    }
}
