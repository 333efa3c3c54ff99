//! Which client of a group may consume a queue in order.

use crate::rt::time::{Duration, Mono};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A queue as an orderly consumer names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LockedQueue {
    pub broker_name: String,
    #[serde(rename = "queueId")]
    pub queue: i32,
    pub topic: String,
}

#[derive(Clone, Debug)]
struct Holder {
    client: String,
    expires: Mono,
}

/// Locks by group and queue, in memory only.
/// Source: RebalanceLockManager (4.9.3): more than 60 s without renewal end a lock. A client owns
/// it by its id, so one that connects again keeps what it has.
#[derive(Debug)]
pub struct QueueLocks {
    lifetime: Duration,
    locks_max: usize,
    count: usize,
    groups: BTreeMap<String, BTreeMap<LockedQueue, Holder>>,
}

impl QueueLocks {
    pub fn new(lifetime: Duration, locks_max: usize) -> Self {
        QueueLocks { lifetime, locks_max, count: 0, groups: BTreeMap::new() }
    }

    /// Takes or renews each lock that is free, expired or already the client's own. Returns those
    /// that the client now holds.
    pub fn lock(
        &mut self,
        now: Mono,
        group: &str,
        client: &str,
        wanted: Vec<LockedQueue>,
    ) -> Vec<LockedQueue> {
        let expires = now + self.lifetime;
        let locks = self.groups.entry(group.to_owned()).or_default();
        let mut held = Vec::new();
        for queue in wanted {
            let holder = Holder { client: client.to_owned(), expires };
            match locks.get_mut(&queue) {
                Some(old) if old.client == client || old.expires < now => *old = holder,
                Some(_) => continue,
                None if self.count >= self.locks_max => continue,
                None => {
                    self.count += 1;
                    locks.insert(queue.clone(), holder);
                }
            }
            held.push(queue);
        }
        held
    }

    /// Who holds a queue now.
    pub fn owner(&self, now: Mono, group: &str, queue: &LockedQueue) -> Option<&str> {
        let holder = self.groups.get(group)?.get(queue)?;
        (holder.expires >= now).then_some(holder.client.as_str())
    }

    /// Gives back the locks that the client holds; others are left alone.
    pub fn unlock(&mut self, group: &str, client: &str, queues: &[LockedQueue]) {
        let Some(locks) = self.groups.get_mut(group) else { return };
        for queue in queues {
            if locks.get(queue).is_some_and(|holder| holder.client == client) {
                locks.remove(queue);
                self.count -= 1;
            }
        }
        if locks.is_empty() {
            self.groups.remove(group);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(id: i32) -> LockedQueue {
        LockedQueue { topic: "T".to_owned(), broker_name: "b".to_owned(), queue: id }
    }

    fn at(seconds: u64) -> Mono {
        Mono::default() + Duration::from_secs(seconds)
    }

    #[test]
    fn one_client_holds_a_queue_until_it_unlocks_or_goes_silent() {
        let mut locks = QueueLocks::new(Duration::from_secs(60), 10);
        let both = vec![queue(0), queue(1)];
        assert_eq!(locks.lock(at(0), "g", "a", both.clone()), both);
        assert_eq!(locks.lock(at(30), "g", "a", vec![queue(0)]), [queue(0)]);
        assert_eq!(locks.lock(at(59), "g", "b", both.clone()), []);
        assert_eq!(locks.lock(at(60), "g", "b", both.clone()), [], "60 s are not over");
        assert_eq!(locks.lock(at(61), "g", "b", both.clone()), [queue(1)]);
        assert_eq!(locks.owner(at(61), "g", &queue(1)), Some("b"));
        assert_eq!(locks.owner(at(122), "g", &queue(1)), None);
        locks.unlock("g", "b", &both);
        assert_eq!(locks.lock(at(62), "g", "a", both.clone()), both);
        assert_eq!(locks.lock(at(61), "other", "b", both.clone()), both);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut locks = QueueLocks::new(Duration::from_secs(60), 1);
        assert_eq!(locks.lock(at(0), "g", "a", vec![queue(0), queue(1)]), [queue(0)]);
    }
}
