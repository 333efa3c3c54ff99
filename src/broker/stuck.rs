//! Which queues are stuck: a live group has messages there and its offset does not move.
//!
//! A queue is watched from the moment that a look finds messages beyond the group's offset. It is
//! stuck when the offset has then not moved for a while. That is told once, and once more when the
//! queue moves on or nothing waits there any more.

use crate::model::QueueId;
use crate::rt::time::{Duration, Mono};
use std::collections::BTreeMap;

/// A queue as one group consumes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Watched {
    pub group: String,
    pub topic: String,
    pub queue: QueueId,
}

/// How a look found it. Units: queue offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// `None`: the group has never committed here.
    pub offset: Option<i64>,
    pub end: i64,
}

/// What is to be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Units of `lag`: messages.
    Stuck { offset: i64, lag: i64, since: Mono },
    /// It moved, back or forth, or nothing is left to consume.
    Moves { from: i64, to: i64 },
    /// Nobody is there to consume it, or the queue is gone.
    Forgotten { offset: i64 },
}

#[derive(Clone, Debug)]
struct Row {
    /// As committed; without a commit, the end when it was first seen: a group that begins at the
    /// end has nothing to do before it.
    offset: i64,
    is_committed: bool,
    since: Mono,
    is_stuck: bool,
    /// The pass that last saw it.
    pass: u64,
}

/// The watched queues.
#[derive(Debug)]
pub struct StuckQueues {
    after: Duration,
    rows_max: usize,
    rows: BTreeMap<Watched, Row>,
    stuck: usize,
    pass: u64,
}

impl StuckQueues {
    /// A queue is stuck when it has not moved for `after`; with zero none ever is. At most
    /// `rows_max` queues are watched at a time.
    pub fn new(after: Duration, rows_max: usize) -> Self {
        StuckQueues { after, rows_max, rows: BTreeMap::new(), stuck: 0, pass: 0 }
    }

    pub fn is_off(&self) -> bool {
        self.after.is_zero()
    }

    /// Units: queues.
    pub fn count(&self) -> usize {
        self.stuck
    }

    /// The first ones in order of group, topic and queue.
    pub fn first(&self, count: usize) -> impl Iterator<Item = &Watched> {
        self.rows.iter().filter(|(_, row)| row.is_stuck).map(|(key, _)| key).take(count)
    }

    /// Takes what a look at one queue found.
    pub fn on_look(&mut self, now: Mono, key: &Watched, found: Found) -> Option<News> {
        let pass = self.pass;
        let Some(row) = self.rows.get_mut(key) else {
            let offset = found.offset.unwrap_or(found.end);
            // Without a commit, what comes behind the present end is to be consumed.
            if found.offset.is_none_or(|offset| offset < found.end) {
                self.watch(
                    key,
                    Row {
                        offset,
                        is_committed: found.offset.is_some(),
                        since: now,
                        is_stuck: false,
                        pass,
                    },
                );
            }
            return None;
        };
        row.pass = pass;
        let is_new = found.offset.is_some_and(|offset| !row.is_committed || offset != row.offset);
        let at = found.offset.unwrap_or(row.offset);
        let is_done = at >= found.end;
        if is_new || is_done {
            let (from, was_stuck) = (row.offset, row.is_stuck);
            (row.offset, row.is_committed, row.is_stuck) = (at, found.offset.is_some(), false);
            row.since = now;
            self.stuck -= usize::from(was_stuck);
            if is_done && row.is_committed {
                self.rows.remove(key);
            }
            return was_stuck.then_some(News::Moves { from, to: at });
        }
        if row.is_stuck || now.since(row.since) < self.after {
            return None;
        }
        row.is_stuck = true;
        self.stuck += 1;
        Some(News::Stuck { offset: at, lag: found.end - at, since: row.since })
    }

    fn watch(&mut self, key: &Watched, row: Row) {
        if self.rows.len() < self.rows_max {
            self.rows.insert(key.clone(), row);
        } else {
            crate::rt::probe!("broker: a queue is not watched, there are as many as may be");
        }
    }

    /// A pass over all queues is over: forgets up to `count_max` rows that it did not see, from
    /// `after` on. Returns what is to be said of them, and where to go on.
    pub fn sweep(
        &mut self,
        after: Option<Watched>,
        count_max: usize,
    ) -> (Vec<(Watched, News)>, Option<Watched>) {
        let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let range = (from, std::ops::Bound::Unbounded);
        let (mut gone, mut last, mut looked) = (Vec::new(), None, 0);
        for (key, row) in self.rows.range(range).take(count_max) {
            looked += 1;
            if row.pass != self.pass {
                gone.push(key.clone());
            }
            last = Some(key.clone());
        }
        let mut news = Vec::new();
        for key in gone {
            let Some(row) = self.rows.remove(&key).filter(|row| row.is_stuck) else { continue };
            self.stuck -= 1;
            news.push((key, News::Forgotten { offset: row.offset }));
        }
        if looked < count_max {
            self.pass += 1;
            last = None;
        }
        (news, last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_secs(600);

    fn at(seconds: u64) -> Mono {
        Mono::default() + Duration::from_secs(seconds)
    }

    fn key(queue: u32) -> Watched {
        Watched { group: "g".to_owned(), topic: "T".to_owned(), queue: QueueId(queue) }
    }

    fn found(offset: i64, end: i64) -> Found {
        Found { offset: Some(offset), end }
    }

    #[test]
    fn a_queue_is_told_once_per_stall_and_once_when_it_moves() {
        let mut stuck = StuckQueues::new(AFTER, 10);
        assert_eq!(stuck.on_look(at(0), &key(0), found(5, 9)), None);
        assert_eq!(stuck.on_look(at(599), &key(0), found(5, 10)), None);
        let told = News::Stuck { offset: 5, lag: 6, since: at(0) };
        assert_eq!(stuck.on_look(at(600), &key(0), found(5, 11)), Some(told));
        assert_eq!(stuck.on_look(at(9_000), &key(0), found(5, 12)), None, "once");
        assert_eq!((stuck.count(), stuck.first(9).count()), (1, 1));
        let moves = News::Moves { from: 5, to: 6 };
        assert_eq!(stuck.on_look(at(9_001), &key(0), found(6, 12)), Some(moves));
        assert_eq!(stuck.count(), 0);
        assert_eq!(stuck.on_look(at(9_600), &key(0), found(6, 12)), None);
        assert!(stuck.on_look(at(9_601), &key(0), found(6, 12)).is_some(), "it stalls again");
    }

    #[test]
    fn a_slow_queue_and_one_without_messages_are_not_stuck() {
        let mut stuck = StuckQueues::new(AFTER, 10);
        for n in 0..100 {
            assert_eq!(stuck.on_look(at(n as u64 * 500), &key(0), found(n, 1_000)), None);
            assert_eq!(stuck.on_look(at(n as u64 * 500), &key(1), found(7, 7)), None);
        }
        // The time counts from the message, not from the offset.
        assert_eq!(stuck.on_look(at(50_000), &key(1), found(7, 8)), None);
        assert_eq!(stuck.on_look(at(50_599), &key(1), found(7, 8)), None);
        assert!(stuck.on_look(at(50_600), &key(1), found(7, 8)).is_some());
    }

    #[test]
    fn a_group_that_never_committed_is_stuck_by_what_came_after_it() {
        let mut stuck = StuckQueues::new(AFTER, 10);
        let none = |end| Found { offset: None, end };
        assert_eq!(stuck.on_look(at(0), &key(0), none(50)), None);
        assert_eq!(stuck.on_look(at(700), &key(0), none(50)), None, "it may begin at the end");
        assert_eq!(stuck.on_look(at(701), &key(0), none(51)), None);
        let told = News::Stuck { offset: 50, lag: 2, since: at(700) };
        assert_eq!(stuck.on_look(at(1_301), &key(0), none(52)), Some(told));
        let moves = News::Moves { from: 50, to: 50 };
        assert_eq!(stuck.on_look(at(1_302), &key(0), found(50, 52)), Some(moves), "a commit");
    }

    #[test]
    fn rows_are_bounded_and_those_without_a_group_are_forgotten() {
        let mut stuck = StuckQueues::new(AFTER, 2);
        for queue in 0..3 {
            stuck.on_look(at(0), &key(queue), found(0, 9));
        }
        assert_eq!(stuck.rows.len(), 2);
        for queue in 0..2 {
            assert!(stuck.on_look(at(600), &key(queue), found(0, 9)).is_some());
        }
        assert_eq!(stuck.sweep(None, 9), (vec![], None));
        stuck.on_look(at(601), &key(1), found(0, 9));
        let (none, next) = stuck.sweep(None, 1);
        assert_eq!((none.len(), next.clone()), (1, Some(key(0))));
        assert_eq!(stuck.sweep(next, 1), (vec![], Some(key(1))));
        assert_eq!(stuck.sweep(Some(key(1)), 1), (vec![], None));
        assert_eq!((stuck.count(), stuck.rows.len()), (1, 1));
    }
}
