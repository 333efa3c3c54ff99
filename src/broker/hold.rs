//! Pulls that wait for a message.
//!
//! Parking and arrival meet here: a pull is parked against the queue's end at that very moment, so
//! a message which landed between the read and the park wakes the pull at once (Java leaves that
//! race to a scan every 5 s, W-69).

use crate::model::{QueueKey, QueueOffset};
use crate::rt::time::Mono;
use std::collections::{BTreeMap, BTreeSet};

/// Names a parked pull for its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PullTicket(pub u64);

/// One pull waiting for `from`; it must be answered by `deadline`, message or not.
#[derive(Clone, Copy, Debug)]
pub struct Parked {
    pub ticket: PullTicket,
    pub from: QueueOffset,
    pub deadline: Mono,
}

/// Carried out by the driver in order of appearance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A message is there: run the read again; park again when the filter let nothing through.
    Wake(PullTicket),
    /// The wait is over: run the read again and answer whatever it gives.
    Expire(PullTicket),
}

#[derive(Debug)]
struct Waiting {
    key: QueueKey,
    from: QueueOffset,
    deadline: Mono,
}

/// All parked pulls of a broker.
#[derive(Debug, Default)]
pub struct Hold {
    pulls: BTreeMap<PullTicket, Waiting>,
    by_queue: BTreeMap<QueueKey, BTreeSet<PullTicket>>,
    deadlines: BTreeSet<(Mono, PullTicket)>,
}

impl Hold {
    pub fn len(&self) -> usize {
        self.pulls.len()
    }

    pub fn is_empty(&self) -> bool {
        self.pulls.is_empty()
    }

    /// Waits, or wakes at once if the queue already reaches past `pull.from`. `end` is the queue's
    /// end as its owner knows it now, not as the read saw it.
    pub fn park(&mut self, key: &QueueKey, pull: Parked, end: QueueOffset, out: &mut Vec<Effect>) {
        if pull.from < end {
            out.push(Effect::Wake(pull.ticket));
            return;
        }
        let waiting = Waiting { key: key.clone(), from: pull.from, deadline: pull.deadline };
        assert!(self.pulls.insert(pull.ticket, waiting).is_none(), "a pull is parked once");
        self.deadlines.insert((pull.deadline, pull.ticket));
        match self.by_queue.get_mut(key) {
            Some(tickets) => {
                tickets.insert(pull.ticket);
            }
            None => {
                self.by_queue.insert(key.clone(), BTreeSet::from([pull.ticket]));
            }
        }
    }

    /// The queue now ends at `end`: wakes every pull that waits for something before it.
    pub fn on_arrival(&mut self, key: &QueueKey, end: QueueOffset, out: &mut Vec<Effect>) {
        let Some(tickets) = self.by_queue.get(key) else { return };
        let ripe = |ticket: &&PullTicket| self.pulls.get(*ticket).is_some_and(|w| w.from < end);
        let woken: Vec<PullTicket> = tickets.iter().filter(ripe).copied().collect();
        for ticket in woken {
            self.forget(ticket);
            out.push(Effect::Wake(ticket));
        }
    }

    /// The puller is gone.
    pub fn forget(&mut self, ticket: PullTicket) {
        let Some(waiting) = self.pulls.remove(&ticket) else { return };
        self.deadlines.remove(&(waiting.deadline, ticket));
        if let Some(tickets) = self.by_queue.get_mut(&waiting.key) {
            tickets.remove(&ticket);
            if tickets.is_empty() {
                self.by_queue.remove(&waiting.key);
            }
        }
    }

    pub fn next_deadline(&self) -> Option<Mono> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    pub fn on_deadline(&mut self, now: Mono, out: &mut Vec<Effect>) {
        while let Some((at, ticket)) = self.deadlines.first().copied() {
            if at > now {
                break;
            }
            self.forget(ticket);
            out.push(Effect::Expire(ticket));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{QueueId, TopicName};
    use crate::rt::time::Duration;

    fn key(queue: u32) -> QueueKey {
        QueueKey { topic: TopicName::new("T"), queue: QueueId(queue) }
    }

    fn pull(ticket: u64, from: u64, seconds: u64) -> Parked {
        Parked {
            ticket: PullTicket(ticket),
            from: QueueOffset(from),
            deadline: Mono::default() + Duration::from_secs(seconds),
        }
    }

    fn wake(ticket: u64) -> Effect {
        Effect::Wake(PullTicket(ticket))
    }

    #[test]
    fn an_arrival_wakes_the_pulls_of_its_queue_that_wait_for_it() {
        let (mut hold, mut out) = (Hold::default(), Vec::new());
        hold.park(&key(0), pull(1, 5, 15), QueueOffset(5), &mut out);
        hold.park(&key(0), pull(2, 6, 15), QueueOffset(5), &mut out);
        hold.park(&key(1), pull(3, 5, 15), QueueOffset(5), &mut out);
        hold.on_arrival(&key(0), QueueOffset(6), &mut out);
        assert_eq!(out, [wake(1)]);
        assert_eq!(hold.len(), 2);
    }

    #[test]
    fn a_message_between_read_and_park_wakes_at_once() {
        let (mut hold, mut out) = (Hold::default(), Vec::new());
        hold.park(&key(0), pull(1, 5, 15), QueueOffset(6), &mut out);
        assert_eq!(out, [wake(1)]);
        assert!(hold.is_empty());
    }

    #[test]
    fn a_pull_is_answered_at_its_deadline_whatever_came() {
        let (mut hold, mut out) = (Hold::default(), Vec::new());
        hold.park(&key(0), pull(1, 5, 15), QueueOffset(5), &mut out);
        hold.park(&key(0), pull(2, 5, 10), QueueOffset(5), &mut out);
        assert_eq!(hold.next_deadline(), Some(pull(2, 5, 10).deadline));
        hold.on_deadline(pull(0, 0, 10).deadline, &mut out);
        assert_eq!(out, [Effect::Expire(PullTicket(2))]);
        hold.on_deadline(pull(0, 0, 20).deadline, &mut out);
        assert_eq!(out[1..], [Effect::Expire(PullTicket(1))]);
        assert_eq!(hold.next_deadline(), None);
    }

    #[test]
    fn a_puller_that_left_is_not_woken() {
        let (mut hold, mut out) = (Hold::default(), Vec::new());
        hold.park(&key(0), pull(1, 5, 15), QueueOffset(5), &mut out);
        hold.forget(PullTicket(1));
        hold.on_arrival(&key(0), QueueOffset(9), &mut out);
        assert_eq!((out.len(), hold.next_deadline()), (0, None));
    }
}
