//! A delayed message on its way in and out of the schedule topic.
//!
//! Source: CommitLog#asyncPutMessage, ScheduleMessageService#messageTimeup (4.9.3).
//! Differs: items keep the sender's order, REAL_TOPIC and REAL_QID are appended.

use crate::broker::timer::TIMER_TOPIC;
use crate::broker::transaction::HALF_TOPIC;
use crate::format::message_unit::View;
use crate::format::properties;
use crate::model::{QueueId, property};
use crate::store::SCHEDULE_TOPIC;

/// The level that a message is kept at: one above the table counts as its last. `None` for a
/// message that is not delayed.
pub fn clamp(level: i32, levels: usize) -> Option<u32> {
    let level = usize::try_from(level).ok()?.min(levels);
    u32::try_from(level).ok().filter(|level| *level > 0)
}

/// The queue of a level. Source: ScheduleMessageService#delayLevel2QueueId.
pub fn queue_of(level: u32) -> QueueId {
    QueueId(level.saturating_sub(1))
}

/// Makes a property string that of a delayed message: it will be delivered to `topic` and `queue`.
/// Only the last value of DELAY, REAL_TOPIC and REAL_QID counts, and each stands once.
pub fn delay(raw: &mut Vec<u8>, level: u32, topic: &str, queue: u32) {
    for name in [property::REAL_TOPIC, property::REAL_QUEUE_ID] {
        if properties::get(raw, name).is_some() {
            properties::remove(raw, name);
        }
    }
    set_level(raw, level);
    properties::append(raw, property::REAL_TOPIC, topic.as_bytes());
    properties::append(raw, property::REAL_QUEUE_ID, queue.to_string().as_bytes());
}

/// Sets DELAY; 0 says that the message is not delayed.
pub fn set_level(raw: &mut Vec<u8>, level: u32) {
    let text = level.to_string();
    if properties::get(raw, property::DELAY) != Some(text.as_bytes()) {
        properties::remove(raw, property::DELAY);
        properties::append(raw, property::DELAY, text.as_bytes());
    }
}

/// Where a message of the schedule topic is delivered to. All else is kept as it is, also its
/// property string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Real<'a> {
    pub topic: &'a str,
    pub queue: QueueId,
}

/// Why a record of the schedule topic can never be delivered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("it has no REAL_TOPIC")]
    NoTopic,
    #[error("its REAL_QID is {0:?}, which is no queue")]
    Queue(String),
    #[error("its REAL_TOPIC is {0}, which takes no delayed messages")]
    Topic(String),
}

/// Errors: see `Fault`.
pub fn real<'a>(record: &View<'a>) -> Result<Real<'a>, Fault> {
    let topic = properties::get_str(record.properties(), property::REAL_TOPIC);
    let topic = topic.ok_or(Fault::NoTopic)?;
    if [HALF_TOPIC, SCHEDULE_TOPIC, TIMER_TOPIC].contains(&topic) {
        return Err(Fault::Topic(topic.to_owned()));
    }
    let text = properties::get(record.properties(), property::REAL_QUEUE_ID).unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    let queue = text.parse::<i32>().ok().and_then(|queue| u32::try_from(queue).ok());
    match queue {
        Some(queue) => Ok(Real { topic, queue: QueueId(queue) }),
        None => Err(Fault::Queue(text.into_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_above_the_table_is_its_last() {
        assert_eq!((clamp(-1, 18), clamp(0, 18), clamp(5, 0)), (None, None, None));
        assert_eq!((clamp(1, 18), clamp(18, 18), clamp(99, 18)), (Some(1), Some(18), Some(18)));
        assert_eq!(queue_of(3), QueueId(2));
    }

    #[test]
    fn a_delayed_message_names_its_topic_once_and_its_level_as_it_is_kept() {
        let mut raw = b"TAGS\x01a\x02DELAY\x0199\x02REAL_TOPIC\x01evil\x02WAIT\x01true".to_vec();
        delay(&mut raw, 18, "T", 3);
        let want = b"TAGS\x01a\x02WAIT\x01true\x02DELAY\x0118\x02REAL_TOPIC\x01T\x02REAL_QID\x013";
        assert_eq!(raw, want);
        let mut raw = b"DELAY\x012".to_vec();
        delay(&mut raw, 2, "T", 0);
        assert_eq!(raw, b"DELAY\x012\x02REAL_TOPIC\x01T\x02REAL_QID\x010");
        set_level(&mut raw, 0);
        assert_eq!(raw, b"REAL_TOPIC\x01T\x02REAL_QID\x010\x02DELAY\x010");
    }
}
