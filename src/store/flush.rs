//! Decides when the log is synced, what is visible, and who may be answered.
//!
//! Source: CommitLog.GroupCommitService, FlushRealTimeService (4.9.3).
//! Differs: a watermark is taken before the sync starts and counts only when the sync returns
//! without an error (ADR-0005, ADR-0006); a record is visible when it is ackable.
//!
//! The driver carries out, in this order: write, `on_written`, answer; sync what `wanted` says,
//! `on_synced`, answer. At most one sync is under way.

use super::append::{Outcome, Rejection, Ticket};
use super::gather::Gather;
use super::options::{FlushMode, Options, Visibility};
use super::replicas::{Need, Replicas, SlaveReport};
use crate::rt::time::{Duration, Mono};
use std::collections::VecDeque;

const PAGE_SIZE: u64 = 4096;

struct Waiter {
    /// Answered when the watermark reaches this.
    end: u64,
    ticket: Ticket,
    need: Need,
}

/// Everything appended below `end` is to be answered by `deadline`.
struct Mark {
    end: u64,
    deadline: Mono,
}

pub struct Flush {
    mode: FlushMode,
    visibility: Visibility,
    timeout: Duration,
    interval: Duration,
    thorough_interval: Duration,
    least_size: u64,
    written: u64,
    synced: u64,
    /// The watermark of the sync that is under way.
    syncing: Option<u64>,
    /// Synced up to here whatever the mode says.
    demanded: u64,
    /// Answered when written.
    unwaited: VecDeque<Waiter>,
    /// Answered when synced.
    waiting: VecDeque<Waiter>,
    marks: VecDeque<Mark>,
    last_sync: Mono,
    last_thorough: Mono,
    gather: Gather,
    /// SYNC_MASTER: what is stored here waits for a slave too.
    replicas: Option<Replicas>,
}

impl Flush {
    pub fn new(options: &Options, end: u64, now: Mono) -> Self {
        Flush {
            mode: options.flush,
            visibility: options.visibility,
            timeout: options.sync_flush_timeout,
            interval: options.flush_interval,
            thorough_interval: options.flush_thorough_interval,
            least_size: options.flush_least_pages * PAGE_SIZE,
            written: end,
            synced: end,
            syncing: None,
            demanded: 0,
            unwaited: VecDeque::new(),
            waiting: VecDeque::new(),
            marks: VecDeque::new(),
            last_sync: now,
            last_thorough: now,
            gather: Gather::new(options.flush_gather_max),
            replicas: options.replicate.map(|r| Replicas::new(r.timeout, r.fall_behind_max, end)),
        }
    }

    /// The log, which is empty, begins at `at` instead.
    pub fn begin_at(&mut self, at: u64) {
        assert!(self.written == 0 && self.syncing.is_none(), "the log is not empty");
        (self.written, self.synced) = (at, at);
        self.marks.clear();
    }

    pub fn written(&self) -> u64 {
        self.written
    }
    pub fn synced(&self) -> u64 {
        self.synced
    }
    /// Everything below may be seen.
    pub fn visible(&self) -> u64 {
        let stored = match (self.mode, self.visibility) {
            (FlushMode::Sync, Visibility::Ackable) => self.synced,
            _ => self.written,
        };
        match (&self.replicas, self.visibility) {
            (Some(replicas), Visibility::Ackable) => stored.min(replicas.confirmed()),
            _ => stored,
        }
    }

    /// An append that ends at `end` was accepted.
    pub fn on_accepted(&mut self, end: u64, ticket: Ticket, wait: bool) {
        let queue = match self.mode {
            FlushMode::Sync if wait => &mut self.waiting,
            _ => &mut self.unwaited,
        };
        let need = match &self.replicas {
            Some(replicas) if wait => replicas.need(end),
            _ => Need::None,
        };
        queue.push_back(Waiter { end, ticket, need });
    }

    /// How far the slaves are.
    pub fn on_slaves(&mut self, report: SlaveReport, out: &mut Vec<(Ticket, Outcome)>) {
        if let Some(replicas) = &mut self.replicas {
            replicas.on_report(report, out);
        }
    }

    /// Whether somebody waits for a slave alone.
    pub fn waits_for_slave(&self) -> bool {
        self.replicas.as_ref().is_some_and(Replicas::has_waiters)
    }

    /// The driver looked: everything accepted so far has from now on its time to wait.
    pub fn on_turn(&mut self, now: Mono, end: u64) {
        if self.marks.back().map_or(self.acked(), |mark| mark.end) < end {
            self.marks.push_back(Mark { end, deadline: now + self.timeout });
        }
        if let Some(replicas) = &mut self.replicas {
            replicas.on_turn(now, end);
        }
    }

    /// Since when the oldest append that is not written (SYNC_FLUSH: not synced) waits.
    pub fn waiting_since(&self) -> Option<Mono> {
        let timeout = u64::try_from(self.timeout.as_nanos()).unwrap_or(u64::MAX);
        self.marks.front().map(|mark| Mono(mark.deadline.0.saturating_sub(timeout)))
    }

    pub fn on_written(&mut self, end: u64, out: &mut Vec<(Ticket, Outcome)>) {
        assert!(end >= self.written, "the written watermark goes back");
        self.written = end;
        answer(&mut self.unwaited, end, &mut self.replicas, out);
        self.drop_marks();
    }

    /// What is written now is synced as soon as may be. Returns up to where that is.
    pub fn demand_sync(&mut self) -> u64 {
        self.demanded = self.written;
        self.demanded
    }

    /// The watermark that a sync should now be started for: everything written before this call.
    pub fn wanted(&self, now: Mono) -> Option<u64> {
        let dirty = self.written - self.synced;
        if dirty == 0 || self.syncing.is_some() {
            return None;
        }
        let due = match self.mode {
            _ if self.synced < self.demanded => true,
            FlushMode::Sync => self.gather.until(now, self.waiting.len()).is_none(),
            FlushMode::Async => {
                (now >= self.last_sync + self.interval && dirty >= self.least_size.max(1))
                    || now >= self.last_thorough + self.thorough_interval
            }
        };
        due.then_some(self.written)
    }

    /// A sync begins that covers everything below `watermark`.
    pub fn on_sync_started(&mut self, watermark: u64, now: Mono) {
        assert!(self.syncing.is_none(), "two syncs at a time");
        assert!(watermark <= self.written, "a sync cannot cover what is not written");
        if now >= self.last_thorough + self.thorough_interval {
            self.last_thorough = now;
        }
        self.last_sync = now;
        self.gather.on_sync_started(self.waiting.len());
        self.syncing = Some(watermark);
    }

    /// The sync returned without an error.
    pub fn on_synced(&mut self, out: &mut Vec<(Ticket, Outcome)>) {
        let watermark = self.syncing.take().expect("a sync was started");
        assert!(watermark >= self.synced, "the synced watermark goes back");
        self.synced = watermark;
        answer(&mut self.waiting, watermark, &mut self.replicas, out);
        self.drop_marks();
    }

    /// What `on_synced` answered was handed over: they may come back soon.
    pub fn on_answered(&mut self, now: Mono, count: usize) {
        let time = Duration::from_nanos(now.0.saturating_sub(self.last_sync.0));
        self.gather.on_synced(now, time, count, self.waiting.len());
    }

    fn acked(&self) -> u64 {
        match self.mode {
            FlushMode::Sync => self.synced,
            FlushMode::Async => self.written,
        }
    }

    fn drop_marks(&mut self) {
        let acked = self.acked();
        while self.marks.front().is_some_and(|mark| mark.end <= acked) {
            self.marks.pop_front();
        }
    }

    pub fn next_deadline(&self, now: Mono) -> Option<Mono> {
        let mark = self.marks.front().map(|mark| mark.deadline);
        let dirty = self.written - self.synced;
        let sync = match self.mode {
            FlushMode::Async if dirty > 0 && self.syncing.is_none() => {
                let thorough = self.last_thorough + self.thorough_interval;
                let enough = dirty >= self.least_size.max(1);
                Some(if enough { thorough.min(self.last_sync + self.interval) } else { thorough })
            }
            FlushMode::Sync if dirty > 0 && self.syncing.is_none() => {
                self.gather.until(now, self.waiting.len())
            }
            _ => None,
        };
        let slave = self.replicas.as_ref().and_then(Replicas::next_deadline);
        mark.into_iter().chain(sync).chain(slave).min()
    }

    /// Answers who waited too long for a sync or a slave. True when something was not even written
    /// in time: the driver then rejects what is not written.
    pub fn on_deadline(&mut self, now: Mono, out: &mut Vec<(Ticket, Outcome)>) -> bool {
        let mut late = false;
        if let Some(replicas) = &mut self.replicas {
            replicas.on_deadline(now, out);
        }
        while let Some(mark) = self.marks.front()
            && mark.deadline <= now
        {
            late |= mark.end > self.written;
            let end = mark.end.min(self.written);
            while self.waiting.front().is_some_and(|waiter| waiter.end <= end) {
                let waiter = self.waiting.pop_front().expect("the loop looked at it");
                out.push((waiter.ticket, late_outcome(&waiter, self.replicas.as_ref())));
            }
            self.marks.pop_front();
        }
        late
    }

    /// How many appends end behind `at`.
    pub fn count_from(&self, at: u64) -> usize {
        let behind =
            |queue: &VecDeque<Waiter>| queue.len() - queue.partition_point(|w| w.end <= at);
        behind(&self.waiting) + behind(&self.unwaited)
    }

    /// Everything from `at` on, which was not written, is not in the log.
    pub fn reject_from(&mut self, at: u64, why: Rejection, out: &mut Vec<(Ticket, Outcome)>) {
        assert!(at >= self.written, "what is written cannot be rejected");
        let first = out.len();
        for queue in [&mut self.waiting, &mut self.unwaited] {
            while queue.back().is_some_and(|waiter| waiter.end > at) {
                let waiter = queue.pop_back().expect("the loop looked at it");
                out.push((waiter.ticket, Outcome::Rejected(why)));
            }
        }
        out[first..].reverse();
        for mark in self.marks.iter_mut().rev().take_while(|mark| mark.end > at) {
            mark.end = at;
        }
        if let Some(replicas) = &mut self.replicas {
            replicas.reject_from(at);
        }
        self.drop_marks();
    }

    /// The log is poisoned: nobody is acknowledged any more.
    pub fn on_poison(&mut self, out: &mut Vec<(Ticket, Outcome)>) {
        let all = self.unwaited.drain(..).chain(self.waiting.drain(..));
        let all = all.map(|waiter| waiter.ticket);
        let stored = self.replicas.as_mut().into_iter().flat_map(Replicas::take_waiters);
        let all = all.chain(stored);
        out.extend(all.map(|ticket| (ticket, Outcome::Rejected(Rejection::Poisoned))));
        self.marks.clear();
    }
}

fn answer(
    queue: &mut VecDeque<Waiter>,
    watermark: u64,
    replicas: &mut Option<Replicas>,
    out: &mut Vec<(Ticket, Outcome)>,
) {
    while queue.front().is_some_and(|waiter| waiter.end <= watermark) {
        let waiter = queue.pop_front().expect("the loop looked at it");
        match (waiter.need, &mut *replicas) {
            (Need::NoSlave, _) => out.push((waiter.ticket, Outcome::NoSlave)),
            (Need::Slave, Some(replicas)) => replicas.on_stored(waiter.end, waiter.ticket, out),
            _ => out.push((waiter.ticket, Outcome::Durable)),
        }
    }
}

/// What became of one whose sync did not come in time. What is to be said about slaves goes before
/// it. Source: CommitLog#asyncPutMessage (4.9.3).
fn late_outcome(waiter: &Waiter, replicas: Option<&Replicas>) -> Outcome {
    match (waiter.need, replicas) {
        (Need::NoSlave, _) => Outcome::NoSlave,
        (Need::Slave, Some(replicas)) if replicas.is_given_up(waiter.end) => Outcome::SlaveTimeout,
        _ => Outcome::FlushTimeout,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Outcome::{Durable, FlushTimeout};

    fn at(ms: u64) -> Mono {
        Mono(ms * 1_000_000)
    }
    fn flush(mode: FlushMode) -> Flush {
        Flush::new(&Options { flush: mode, ..Options::new("x") }, 0, at(0))
    }
    const A: Ticket = Ticket(1);
    const B: Ticket = Ticket(2);
    const C: Ticket = Ticket(3);

    #[test]
    fn a_sync_acknowledges_what_was_written_before_it_began_and_nothing_later() {
        let (mut f, mut out) = (flush(FlushMode::Sync), Vec::new());
        f.on_accepted(10, A, true);
        f.on_accepted(20, B, false);
        f.on_turn(at(0), 20);
        assert_eq!(f.wanted(at(0)), None);
        f.on_written(20, &mut out);
        assert_eq!(out, [(B, Durable)]);
        assert_eq!(f.visible(), 0);
        let watermark = f.wanted(at(0)).unwrap();
        f.on_sync_started(watermark, at(0));
        f.on_accepted(30, C, true);
        f.on_turn(at(1), 30);
        f.on_written(30, &mut out);
        assert_eq!(f.wanted(at(1)), None);
        f.on_synced(&mut out);
        assert_eq!(out, [(B, Durable), (A, Durable)]);
        assert_eq!(f.visible(), 20);
        assert_eq!(f.wanted(at(1)), Some(30));
    }

    #[test]
    fn a_slow_sync_answers_timeout_once_and_the_message_becomes_visible_later() {
        let (mut f, mut out) = (flush(FlushMode::Sync), Vec::new());
        f.on_accepted(10, A, true);
        f.on_turn(at(0), 10);
        f.on_written(10, &mut out);
        f.on_sync_started(10, at(0));
        assert_eq!(f.next_deadline(at(0)), Some(at(5000)));
        assert!(!f.on_deadline(at(5000), &mut out));
        assert_eq!(out, [(A, FlushTimeout)]);
        assert_eq!(f.next_deadline(at(0)), None);
        f.on_synced(&mut out);
        assert_eq!(out.len(), 1);
        assert_eq!(f.visible(), 10);
    }

    #[test]
    fn what_was_not_written_in_time_is_late() {
        let (mut f, mut out) = (flush(FlushMode::Async), Vec::new());
        f.on_accepted(10, A, true);
        f.on_turn(at(0), 10);
        f.on_written(10, &mut out);
        f.on_accepted(20, B, true);
        f.on_accepted(30, C, true);
        f.on_turn(at(7), 30);
        out.clear();
        assert!(f.on_deadline(at(5007), &mut out));
        f.reject_from(10, Rejection::SegmentLate, &mut out);
        let rejected = Outcome::Rejected(Rejection::SegmentLate);
        assert_eq!(out, [(B, rejected), (C, rejected)]);
    }

    #[test]
    fn async_syncs_by_pages_and_at_least_thoroughly() {
        let (mut f, mut out) = (flush(FlushMode::Async), Vec::new());
        f.on_written(100, &mut out);
        assert_eq!(f.visible(), 100);
        assert_eq!(f.wanted(at(600)), None);
        assert_eq!(f.next_deadline(at(0)), Some(at(10_000)));
        assert_eq!(f.wanted(at(10_000)), Some(100));
        f.on_written(20_000, &mut out);
        assert_eq!(f.next_deadline(at(0)), Some(at(500)));
        assert_eq!(f.wanted(at(500)), Some(20_000));
    }

    #[test]
    fn poison_answers_everyone_once() {
        let (mut f, mut out) = (flush(FlushMode::Sync), Vec::new());
        f.on_accepted(10, A, true);
        f.on_accepted(20, B, false);
        f.on_poison(&mut out);
        let rejected = Outcome::Rejected(Rejection::Poisoned);
        assert_eq!(out, [(B, rejected), (A, rejected)]);
        out.clear();
        f.on_poison(&mut out);
        assert!(out.is_empty());
    }
}
