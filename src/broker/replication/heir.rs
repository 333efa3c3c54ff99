//! A slave that becomes the master: topics that it has records of, and never heard of, are made
//! then.
//!
//! In 4.9 such records cannot be read, for consumers find no route to them.

use super::super::timer::TIMER_TOPIC;
use super::super::topics::{SCHEDULE_TOPIC, TopicConfig, Topics, perm};
use super::super::transaction::{HALF_TOPIC, OP_TOPIC};
use crate::model::{TopicName, WallMillis};
use crate::store::Store;
use std::collections::BTreeMap;

/// Every topic that has records, and enough queues of it. Returns those that were made or grew.
pub fn make_topics(topics: &mut Topics, store: &Store, now: WallMillis) -> Vec<TopicName> {
    let mut counts: BTreeMap<TopicName, u32> = BTreeMap::new();
    for (key, ..) in store.queues() {
        let count = counts.entry(key.topic).or_default();
        *count = key.queue.0.saturating_add(1).max(*count);
    }
    let mut made = Vec::new();
    for (name, count) in counts {
        let is_ours = [SCHEDULE_TOPIC, TIMER_TOPIC, HALF_TOPIC, OP_TOPIC].contains(&&*name);
        let known = topics.get(&name).map(|topic| topic.config.clone());
        if is_ours || known.as_ref().is_some_and(|known| known.read_queue_nums >= count) {
            continue;
        }
        let anew = || TopicConfig::new(&name, count, perm::READ | perm::WRITE);
        let config = TopicConfig { read_queue_nums: count, ..known.unwrap_or_else(anew) };
        if topics.update(now, config).is_ok() {
            made.push(name);
        }
    }
    made
}
