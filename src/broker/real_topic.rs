//! The topic that a message comes to after it has waited: delayed, timed, or half.
//!
//! Source: none; 4.9.3 puts the message and asks nobody (ScheduleMessageService#messageTimeup,
//! EndTransactionProcessor#endMessageTransaction).

use super::driver::{Core, Shared};
use super::topics::{RETRY_PREFIX, TopicConfig, perm};
use crate::model::{PhysicalOffset, QueueId, TopicName};

/// A topic, and where it is counted when it is known.
pub type RealTopic = (TopicName, Option<u32>);

/// The topic `name` of a message that was stored at `at`. One that nobody here knows is made: its
/// master was lost before its table came, and the first message waited. Not one that was deleted
/// since the message was stored, or written anew where it waits. `None`: it is not on disk yet,
/// and no message is put before that (ADR-0010); try again soon.
pub fn real_topic(
    shared: &Shared,
    core: &mut Core,
    name: &str,
    queue: QueueId,
    at: PhysicalOffset,
) -> Option<RealTopic> {
    let is_unknown = core.topics.get(name).is_none();
    if is_unknown && (at < shared.store.topic_floor(name) || !make(shared, core, name, queue)) {
        return Some((TopicName::new(name), None));
    }
    let topic = core.topics.get(name)?;
    core.topics.has_durable_row(topic).then(|| (topic.name.clone(), Some(topic.slot)))
}

/// Whether it is there now.
fn make(shared: &Shared, core: &mut Core, name: &str, queue: QueueId) -> bool {
    let is_retry = name.starts_with(RETRY_PREFIX);
    let least = if is_retry { 1 } else { shared.options.topics.default_queues };
    let count = queue.0.saturating_add(1).max(least);
    let config = TopicConfig::new(name, count, perm::READ | perm::WRITE);
    match core.topics.update(shared.clock.wall(), config) {
        Ok(()) => {
            crate::rt::probe!("broker: a topic was made for a message that waited");
            tracing::warn!("topic {name} is made anew: a message that waited comes to it");
            shared.topics_changed();
            true
        }
        Err(error) => {
            tracing::warn!("topic {name} of a message that waited: {error}");
            false
        }
    }
}
