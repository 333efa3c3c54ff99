//! Requests that wait for their answer: matched by opaque, given up at a deadline.

use crate::rt::time::Mono;
use std::collections::{BTreeMap, BTreeSet};

/// The requests one end of one connection has sent and not seen answered. `T` is who waits.
///
/// Each direction of a connection has ids of its own, so a table only ever looks up answers to
/// requests of its own side. Source: NettyRemotingAbstract#responseTable (4.9.3)
#[derive(Debug)]
pub struct Pending<T> {
    next_opaque: i32,
    count_max: usize,
    waiting: BTreeMap<i32, (Mono, T)>,
    deadlines: BTreeSet<(Mono, i32)>,
}

impl<T> Pending<T> {
    pub fn new(count_max: usize) -> Self {
        Pending { next_opaque: 0, count_max, waiting: BTreeMap::new(), deadlines: BTreeSet::new() }
    }

    pub fn is_full(&self) -> bool {
        self.waiting.len() >= self.count_max
    }

    /// An id for a request that no answer is expected to.
    pub fn oneway(&mut self) -> i32 {
        let opaque = self.next_opaque;
        self.next_opaque = opaque.wrapping_add(1);
        opaque
    }

    /// Remembers a request and returns its id. Errors: gives `who` back when the table is full.
    pub fn register(&mut self, deadline: Mono, who: T) -> Result<i32, T> {
        if self.is_full() {
            return Err(who);
        }
        let mut opaque = self.oneway();
        // After 2^32 requests an old one may still wait under this id.
        while self.waiting.contains_key(&opaque) {
            opaque = self.oneway();
        }
        self.waiting.insert(opaque, (deadline, who));
        self.deadlines.insert((deadline, opaque));
        Ok(opaque)
    }

    /// Who asked what is being answered; `None` when nobody waits any more. Also how a caller
    /// that lost interest leaves.
    pub fn on_reply(&mut self, opaque: i32) -> Option<T> {
        let (deadline, who) = self.waiting.remove(&opaque)?;
        self.deadlines.remove(&(deadline, opaque));
        Some(who)
    }

    pub fn next_deadline(&self) -> Option<Mono> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Takes out everyone whose deadline has come, earliest first.
    pub fn on_deadline(&mut self, now: Mono, out: &mut Vec<T>) {
        while let Some((at, opaque)) = self.deadlines.first().copied() {
            if at > now {
                break;
            }
            out.extend(self.on_reply(opaque));
        }
    }

    /// Takes out everyone: the connection ended.
    pub fn on_close(&mut self, out: &mut Vec<T>) {
        self.deadlines.clear();
        out.extend(std::mem::take(&mut self.waiting).into_values().map(|(_, who)| who));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_reaches_who_asked_and_only_once() {
        let mut pending = Pending::new(8);
        let a = pending.register(Mono(10), "a").unwrap();
        let b = pending.register(Mono(5), "b").unwrap();
        assert_ne!(a, b);
        assert_eq!(pending.on_reply(a), Some("a"));
        assert_eq!(pending.on_reply(a), None);
        assert_eq!(pending.on_reply(b), Some("b"));
        assert_eq!(pending.next_deadline(), None);
    }

    #[test]
    fn deadlines_take_the_due_ones_in_order() {
        let mut pending = Pending::new(8);
        for (at, who) in [(30, "c"), (10, "a"), (20, "b")] {
            pending.register(Mono(at), who).unwrap();
        }
        assert_eq!(pending.next_deadline(), Some(Mono(10)));
        let mut out = Vec::new();
        pending.on_deadline(Mono(20), &mut out);
        assert_eq!(out, ["a", "b"]);
        assert_eq!((pending.waiting.len(), pending.next_deadline()), (1, Some(Mono(30))));
    }

    #[test]
    fn a_full_table_refuses_and_recovers() {
        let mut pending = Pending::new(1);
        let first = pending.register(Mono(1), "a").unwrap();
        assert_eq!(pending.register(Mono(1), "b"), Err("b"));
        pending.on_reply(first);
        assert!(pending.register(Mono(1), "b").is_ok());
    }

    #[test]
    fn ids_wrap_into_the_negatives_and_skip_those_still_waiting() {
        let mut pending = Pending::new(8);
        let old = pending.register(Mono(1), "old").unwrap();
        pending.next_opaque = i32::MAX;
        assert_eq!(pending.register(Mono(1), "x"), Ok(i32::MAX));
        assert_eq!(pending.register(Mono(1), "y"), Ok(i32::MIN));
        pending.next_opaque = old;
        assert_eq!(pending.register(Mono(1), "z"), Ok(old + 1));
    }

    #[test]
    fn the_end_of_the_connection_empties_the_table() {
        let mut pending = Pending::new(8);
        pending.register(Mono(2), "a").unwrap();
        pending.register(Mono(1), "b").unwrap();
        let mut out = Vec::new();
        pending.on_close(&mut out);
        assert_eq!(out, ["a", "b"]);
        assert_eq!((pending.waiting.len(), pending.next_deadline()), (0, None));
    }
}
