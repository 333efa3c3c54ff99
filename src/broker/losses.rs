//! What consumer groups lost when old files were deleted.

use super::offsets::Offsets;
use crate::store::Cut;

/// Messages of a topic that a group had not consumed when they were deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    pub topic: String,
    pub group: String,
    /// Units: messages.
    pub count: u64,
    /// Units: queues.
    pub queues: usize,
}

/// `cuts` are queues of one topic. A group without a committed offset has lost nothing: it begins
/// where its own rule says.
pub fn of_topic(cuts: &[Cut], offsets: &Offsets) -> Vec<Loss> {
    let Some(first) = cuts.first() else { return Vec::new() };
    let topic = &first.key.topic;
    let mut losses = Vec::new();
    for (group, committed) in offsets.of_topic(topic) {
        let missed = |cut: &Cut| {
            let at = u64::try_from(committed.get(&cut.key.queue.0)?.offset).unwrap_or(0);
            Some(cut.to.0.saturating_sub(at.max(cut.from.0))).filter(|missed| *missed > 0)
        };
        let missed: Vec<u64> = cuts.iter().filter_map(missed).collect();
        if !missed.is_empty() {
            let (topic, group) = (topic.to_string(), group.to_owned());
            losses.push(Loss { topic, group, count: missed.iter().sum(), queues: missed.len() });
        }
    }
    losses
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{QueueId, QueueKey, QueueOffset, TopicName};

    #[test]
    fn a_group_lost_what_lies_between_its_offset_and_the_new_min() {
        let mut offsets = Offsets::new(9);
        for (group, queue, at) in [("slow", 0, 3), ("slow", 1, 0), ("done", 0, 50), ("new", 2, 0)] {
            offsets.commit(1, group, "T", QueueId(queue), at);
        }
        offsets.commit(1, "slow", "T2", QueueId(0), 0);
        let cut = |queue, from, to| Cut {
            key: QueueKey { topic: TopicName::new("T"), queue: QueueId(queue) },
            from: QueueOffset(from),
            to: QueueOffset(to),
        };
        let losses = of_topic(&[cut(0, 1, 10), cut(1, 5, 8)], &offsets);
        let slow = Loss { topic: "T".into(), group: "slow".into(), count: 7 + 3, queues: 2 };
        assert_eq!(losses, [slow]);
        assert!(of_topic(&[], &offsets).is_empty());
    }
}
