//! SYNC_MASTER: who waits for a slave, and up to where what is stored here may be seen.
//!
//! Source: CommitLog#submitReplicaRequest, HAService.GroupTransferService (4.9.3).
//! Differs: every record has its own wait, so that a slow one holds up no other (W-44); records
//! travel while they are synced here; nothing is seen before its wait has ended (ADR-0005).

use super::append::{Outcome, Ticket};
use crate::rt::time::{Duration, Mono};
use std::collections::VecDeque;

/// How far the best slave is, as whoever speaks with the slaves knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlaveReport {
    /// Whether any slave is connected that has said how far it is.
    pub is_connected: bool,
    /// A slave has everything below. Units: an offset of the log; never goes back.
    pub acked: u64,
}

/// What an append that waits is to be told about slaves once it is stored here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: it does not ask for a slave.
    None,
    /// There was no slave when it came.
    NoSlave,
    Slave,
}

struct Waiter {
    end: u64,
    ticket: Ticket,
}

/// Everything appended below `end` waits for a slave until `deadline`.
struct Mark {
    end: u64,
    deadline: Mono,
}

pub struct Replicas {
    timeout: Duration,
    fall_behind_max: u64,
    report: SlaveReport,
    /// Nobody waits for a slave below.
    released: u64,
    marks: VecDeque<Mark>,
    /// Stored here, and not known to be at a slave.
    waiting: VecDeque<Waiter>,
}

impl Replicas {
    /// A slave counts while it is less than `fall_behind_max` behind. Units: bytes.
    pub fn new(timeout: Duration, fall_behind_max: u64, end: u64) -> Self {
        Replicas {
            timeout,
            fall_behind_max,
            report: SlaveReport::default(),
            released: end,
            marks: VecDeque::new(),
            waiting: VecDeque::new(),
        }
    }

    /// Everything below is at a slave, or nobody waits for that any more.
    pub fn confirmed(&self) -> u64 {
        self.report.acked.max(self.released)
    }

    /// An append that ends at `end` was accepted. Source: HAService#isSlaveOK (4.9.3).
    pub fn need(&self, end: u64) -> Need {
        if self.is_available(end) { Need::Slave } else { Need::NoSlave }
    }

    fn is_available(&self, end: u64) -> bool {
        self.report.is_connected && end.saturating_sub(self.report.acked) < self.fall_behind_max
    }

    /// Everything appended so far, up to `end`, has from now on its time to wait.
    pub fn on_turn(&mut self, now: Mono, end: u64) {
        let last = self.marks.back().map_or(self.confirmed(), |mark| mark.end);
        if last >= end {
            return;
        }
        let deadline = if self.is_available(end) { now + self.timeout } else { now };
        self.marks.push_back(Mark { end, deadline });
        self.release(now);
    }

    /// An append is stored here as the flush mode says. `end` never goes back.
    pub fn on_stored(&mut self, end: u64, ticket: Ticket, out: &mut Vec<(Ticket, Outcome)>) {
        if self.report.acked >= end {
            out.push((ticket, Outcome::Durable));
        } else if self.released >= end {
            out.push((ticket, Outcome::SlaveTimeout));
        } else {
            self.waiting.push_back(Waiter { end, ticket });
        }
    }

    /// Whether an append that ends at `end` has waited for a slave in vain.
    pub fn is_given_up(&self, end: u64) -> bool {
        self.report.acked < end && self.released >= end
    }

    pub fn on_report(&mut self, report: SlaveReport, out: &mut Vec<(Ticket, Outcome)>) {
        let acked = report.acked.max(self.report.acked);
        self.report = SlaveReport { acked, ..report };
        while self.waiting.front().is_some_and(|waiter| waiter.end <= acked) {
            let waiter = self.waiting.pop_front().expect("the loop looked at it");
            out.push((waiter.ticket, Outcome::Durable));
        }
        while self.marks.front().is_some_and(|mark| mark.end <= acked) {
            self.marks.pop_front();
        }
    }

    pub fn next_deadline(&self) -> Option<Mono> {
        // A turn may have released a mark whose waiters are still to be told.
        let is_late = self.waiting.front().is_some_and(|waiter| waiter.end <= self.released);
        if is_late { Some(Mono(0)) } else { self.marks.front().map(|mark| mark.deadline) }
    }

    /// Whoever has waited too long is told so. True when more may be seen now.
    pub fn on_deadline(&mut self, now: Mono, out: &mut Vec<(Ticket, Outcome)>) -> bool {
        let before = self.confirmed();
        self.release(now);
        while self.waiting.front().is_some_and(|waiter| waiter.end <= self.released) {
            let waiter = self.waiting.pop_front().expect("the loop looked at it");
            out.push((waiter.ticket, Outcome::SlaveTimeout));
        }
        self.confirmed() > before
    }

    fn release(&mut self, now: Mono) {
        while let Some(mark) = self.marks.front()
            && mark.deadline <= now
        {
            self.released = self.released.max(mark.end);
            self.marks.pop_front();
        }
    }

    /// Nothing from `at` on is in the log: it was not written.
    pub fn reject_from(&mut self, at: u64) {
        for mark in self.marks.iter_mut().rev().take_while(|mark| mark.end > at) {
            mark.end = at;
        }
        self.released = self.released.min(at);
    }

    pub fn has_waiters(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Everyone who still waits.
    pub fn take_waiters(&mut self) -> impl Iterator<Item = Ticket> + '_ {
        self.marks.clear();
        self.waiting.drain(..).map(|waiter| waiter.ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Outcome::{Durable, SlaveTimeout};

    const A: Ticket = Ticket(1);
    const B: Ticket = Ticket(2);

    fn at(ms: u64) -> Mono {
        Mono(ms * 1_000_000)
    }
    fn replicas() -> Replicas {
        let mut replicas = Replicas::new(Duration::from_secs(3), 100, 0);
        replicas.on_report(SlaveReport { is_connected: true, acked: 0 }, &mut Vec::new());
        replicas
    }
    fn acked(acked: u64) -> SlaveReport {
        SlaveReport { is_connected: true, acked }
    }

    #[test]
    fn a_record_waits_for_a_slave_and_is_seen_when_one_has_it() {
        let (mut r, mut out) = (replicas(), Vec::new());
        assert_eq!(r.need(10), Need::Slave);
        r.on_turn(at(0), 10);
        r.on_stored(10, A, &mut out);
        assert_eq!((r.confirmed(), out.len()), (0, 0));
        r.on_report(acked(9), &mut out);
        assert_eq!((r.confirmed(), out.len()), (9, 0));
        r.on_report(acked(10), &mut out);
        assert_eq!((r.confirmed(), r.next_deadline()), (10, None));
        assert_eq!(out, [(A, Durable)]);
    }

    #[test]
    fn a_slave_may_have_it_before_it_is_synced_here() {
        let (mut r, mut out) = (replicas(), Vec::new());
        r.on_turn(at(0), 10);
        r.on_report(acked(10), &mut out);
        r.on_stored(10, A, &mut out);
        assert_eq!(out, [(A, Durable)]);
    }

    #[test]
    fn each_record_has_its_own_time_to_wait() {
        let (mut r, mut out) = (replicas(), Vec::new());
        r.on_turn(at(0), 10);
        r.on_turn(at(1000), 20);
        r.on_stored(10, A, &mut out);
        r.on_stored(20, B, &mut out);
        assert_eq!(r.next_deadline(), Some(at(3000)));
        assert!(r.on_deadline(at(3000), &mut out));
        assert_eq!((&out[..], r.confirmed()), (&[(A, SlaveTimeout)][..], 10));
        assert!(r.is_given_up(10) && !r.is_given_up(20));
        r.on_report(acked(20), &mut out);
        assert_eq!(out, [(A, SlaveTimeout), (B, Durable)]);
    }

    #[test]
    fn whoever_a_turn_released_is_told_at_once() {
        let (mut r, mut out) = (replicas(), Vec::new());
        r.on_turn(at(0), 10);
        r.on_stored(10, A, &mut out);
        r.on_turn(at(3000), 20);
        assert!(r.next_deadline().is_some_and(|due| due <= at(3000)));
        r.on_deadline(at(3000), &mut out);
        assert_eq!(out, [(A, SlaveTimeout)]);
        assert_eq!(r.next_deadline(), Some(at(6000)));
    }

    #[test]
    fn without_a_slave_nothing_waits_but_what_came_before_does() {
        let (mut r, mut out) = (replicas(), Vec::new());
        r.on_turn(at(0), 10);
        r.on_report(SlaveReport { is_connected: false, acked: 5 }, &mut out);
        assert_eq!(r.need(20), Need::NoSlave);
        r.on_turn(at(1), 20);
        assert_eq!(r.confirmed(), 5);
        r.on_deadline(at(3000), &mut out);
        assert_eq!(r.confirmed(), 20);
        r.on_turn(at(3001), 30);
        assert_eq!(r.confirmed(), 30);
    }

    #[test]
    fn a_slave_that_is_far_behind_does_not_count() {
        let (mut r, mut out) = (replicas(), Vec::new());
        assert_eq!((r.need(99), r.need(100)), (Need::Slave, Need::NoSlave));
        r.on_report(acked(50), &mut out);
        assert_eq!((r.need(149), r.need(150)), (Need::Slave, Need::NoSlave));
    }
}
