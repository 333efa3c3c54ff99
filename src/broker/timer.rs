//! Messages that are delivered at a time of their own: what waits, and what is done.
//!
//! They wait in queue 0 of the timer topic, in the order in which they came. A delivery is appended
//! together with a done message, which goes to queue 1 and names the offset that is done. Offsets
//! below `base` are done all together; every done message says how far that was, so the last one
//! tells a start where to begin. What this table knows stands in the log; nothing of it is saved.
//!
//! Source: HookUtils#transformTimerMessage, TimerMessageStore (5.3).
//! Differs: see ADR-0024.

pub mod rewrite;

use super::options::TimerOptions;
use super::tickets::Tickets;
use super::transaction::Kept;
use crate::model::{PhysicalOffset, QueueOffset};
use crate::rt::time::{Duration, Mono, WallMillis};
use std::collections::{BTreeMap, VecDeque};

/// Where messages wait for a time of their own. Source: TimerMessageStore.TIMER_TOPIC (5.3).
pub const TIMER_TOPIC: &str = "rmq_sys_wheel_timer";

/// The wall clock may step: so often it is looked at again.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A message from `base` on. What is not in the table was not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unread,
    Waiting,
    /// Its delivery is with the store.
    Sent,
    /// Delivered, written anew, or stepped over.
    Done,
}

/// A waiting message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub due: WallMillis,
    pub offset: QueueOffset,
    pub physical: PhysicalOffset,
}

/// What is told to who looks after a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Messages that wait for their time, or for their delivery.
    pub waiting: u64,
    /// Those of which it is not known yet when they are due.
    pub unread: u64,
    /// When the first one is due.
    pub earliest: Option<WallMillis>,
}

impl Backlog {
    /// How late the first one is. Units: milliseconds.
    pub fn late_ms(&self, now: WallMillis) -> i64 {
        self.earliest.map_or(0, |due| now.0.saturating_sub(due.0).max(0))
    }
}

/// What the driver does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Reads these entries of the queue, to learn when they are due.
    Read { from: QueueOffset, count: usize },
    /// Sends these on, in this order.
    Deliver(Vec<Waiting>),
    /// Writes those that wait among these entries anew: they lie far behind all others.
    Renew { from: QueueOffset, count: usize },
}

/// After something did not go on, the same is tried again later.
#[derive(Clone, Copy, Debug, Default)]
struct Pause {
    until: Mono,
    failures: u32,
}

/// All messages of this broker that wait for their time.
#[derive(Debug)]
pub struct Timers {
    options: TimerOptions,
    /// Everything below is done.
    base: u64,
    /// From `base` on.
    states: VecDeque<State>,
    /// How many of them are done.
    done: u64,
    /// Everything below was looked at.
    read: u64,
    /// One past the newest visible message, as far as it is known.
    end: u64,
    /// One past the newest message that was taken, as far as it is known.
    newest: u64,
    waiting: BTreeMap<(WallMillis, u64), PhysicalOffset>,
    flights: Tickets<Waiting>,
    flights_count: usize,
    /// The done messages of the log were told.
    is_open: bool,
    reading: Pause,
    sending: Pause,
    /// How often in a row the next entry, and what is due first, could not be read.
    unread: u32,
    unreadable: u32,
    /// Messages that are to wait longer than files are kept.
    too_far: u64,
}

impl Timers {
    /// `end`: of the queue of waiting messages.
    pub fn new(options: &TimerOptions, end: QueueOffset) -> Self {
        Timers {
            options: options.clone(),
            base: end.0,
            states: VecDeque::new(),
            done: 0,
            read: end.0,
            end: end.0,
            newest: end.0,
            waiting: BTreeMap::new(),
            flights: Tickets::default(),
            flights_count: 0,
            is_open: false,
            reading: Pause::default(),
            sending: Pause::default(),
            unread: 0,
            unreadable: 0,
            too_far: 0,
        }
    }

    /// Everything below `base` is done. Done messages are to be told next, each with `on_done`, and
    /// then `open`.
    pub fn restore(&mut self, base: QueueOffset) {
        self.base = base.0.min(self.end);
        self.read = self.base;
    }

    /// A done message of the log names this message.
    pub fn on_done(&mut self, offset: QueueOffset) {
        if offset.0 < self.newest {
            self.set(offset.0, State::Done);
        }
    }

    pub fn open(&mut self) {
        self.settle();
        self.is_open = true;
    }

    /// A message is about to be taken. False: too many wait.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let span = self.newest.saturating_sub(self.base);
        let max = self.options.waiting_count_max as u64;
        self.waiting() < max && span < self.options.span_max.saturating_mul(2)
    }

    /// Messages that wait, or may.
    pub fn waiting(&self) -> u64 {
        self.newest.saturating_sub(self.base).saturating_sub(self.done)
    }

    /// `None` where nothing is delivered, and until it is known what waits.
    pub fn backlog(&self) -> Option<Backlog> {
        self.is_open.then(|| Backlog {
            waiting: self.waiting(),
            unread: self.end.saturating_sub(self.read),
            earliest: self.waiting.first_key_value().map(|((due, _), _)| *due),
        })
    }

    /// A message got this offset, for now.
    pub fn on_put(&mut self, offset: QueueOffset) {
        self.newest = self.newest.max(offset.0 + 1);
    }

    /// A message became visible. True: the driver should look.
    pub fn on_arrival(&mut self, end: QueueOffset) -> bool {
        self.end = self.end.max(end.0);
        self.newest = self.newest.max(self.end);
        self.is_open
    }

    /// The offset that a done message which is written now calls done with all below it.
    pub fn base(&self) -> QueueOffset {
        QueueOffset(self.base)
    }

    /// When there is something to do.
    pub fn next_deadline(&self, now: Mono, wall: WallMillis) -> Option<Mono> {
        if !self.is_open {
            return None;
        }
        let reads = (self.read < self.end).then(|| self.reading.until.max(now));
        let first = self.waiting.first_key_value().filter(|_| self.flights_count == 0);
        let sends = first.map(|((due, _), _)| self.sending.until.max(now + wait(*due, wall)));
        let renews = (self.flights_count == 0 && self.is_far()).then_some(self.sending.until);
        [reads, sends, renews].into_iter().flatten().min()
    }

    pub fn next_step(&self, now: Mono, wall: WallMillis) -> Option<Step> {
        if !self.is_open {
            return None;
        }
        let count = self.options.turn_count_max;
        if self.flights_count == 0 && self.sending.until <= now {
            let is_due = |at: &(&(WallMillis, u64), &PhysicalOffset)| at.0.0 <= wall;
            let due: Vec<Waiting> =
                self.waiting.iter().take_while(is_due).take(count).map(waiting).collect();
            if !due.is_empty() {
                return Some(Step::Deliver(due));
            }
            if self.is_far() {
                return Some(Step::Renew { from: QueueOffset(self.base), count });
            }
        }
        let is_read = self.read < self.end && self.reading.until <= now;
        is_read.then_some(Step::Read { from: QueueOffset(self.read), count })
    }

    /// Few wait, and one of them lies so far behind that the span of what is kept is long.
    fn is_far(&self) -> bool {
        let span = self.newest.saturating_sub(self.base);
        let is_long = span > self.options.span_max;
        is_long && self.waiting() * 2 <= span && self.states.front() == Some(&State::Waiting)
    }

    /// Retention deleted what lies below. Returns how many of it were not done.
    pub fn on_min(&mut self, min: QueueOffset) -> u64 {
        let mut lost = 0;
        while self.base < min.0.min(self.end) {
            if self.get(self.base) != State::Done {
                lost += 1;
                self.set(self.base, State::Done);
            }
            self.settle();
        }
        if lost > 0 {
            let base = self.base;
            self.waiting.retain(|(_, offset), _| *offset >= base);
        }
        lost
    }

    /// Whether the reader must look at it: it is not known to be done.
    pub fn is_unread(&self, offset: QueueOffset) -> bool {
        self.get(offset.0) == State::Unread
    }

    pub fn is_waiting(&self, offset: QueueOffset) -> bool {
        self.get(offset.0) == State::Waiting
    }

    /// Whether it is time to say that messages are to wait longer than files are kept.
    pub fn is_too_far(&mut self, one: &Waiting, now: WallMillis, keep_for: Duration) -> bool {
        let keep_ms = i64::try_from(keep_for.as_millis()).unwrap_or(i64::MAX);
        let is_far = one.due.0.saturating_sub(now.0) > keep_ms;
        self.too_far += u64::from(is_far);
        is_far && self.too_far.is_power_of_two()
    }

    /// The entry at `offset` was looked at; `None`: it is done, or will never be delivered. One
    /// that `base` has passed meanwhile is nothing new.
    pub fn on_read(&mut self, offset: QueueOffset, found: Option<Waiting>) {
        self.reading = Pause::default();
        self.unread = 0;
        if offset.0 != self.read {
            return;
        }
        match found.filter(|_| self.is_unread(offset)) {
            Some(found) => {
                self.set(offset.0, State::Waiting);
                self.waiting.insert((found.due, offset.0), found.physical);
            }
            None => self.set(offset.0, State::Done),
        }
        self.read += 1;
        self.settle();
    }

    /// The next entry, or its record, cannot be read now. Returns how often in a row.
    pub fn on_not_read(&mut self, is_record: bool, now: Mono) -> u32 {
        self.unread = if is_record { self.unread.saturating_add(1) } else { 0 };
        self.reading.fail(&self.options, now)
    }

    /// How often in a row the record of the next entry could not be read.
    pub fn read_failures(&self) -> u32 {
        self.unread
    }

    /// How often in a row what is due first could not be read: refusals of the store do not count.
    pub fn due_failures(&self) -> u32 {
        self.unreadable
    }

    /// The ticket that the next `on_sent` uses.
    pub fn next_ticket(&self) -> u64 {
        self.flights.next()
    }

    /// The store took a delivery, or the same message anew, and the done message with it: the
    /// outcome of both comes with this ticket.
    pub fn on_sent(&mut self, one: &Waiting) {
        self.waiting.remove(&(one.due, one.offset.0));
        self.set(one.offset.0, State::Sent);
        self.unreadable = 0;
        self.flights.insert(*one);
        self.flights_count += 1;
    }

    /// A record that can never be delivered is left behind.
    pub fn on_stepped_over(&mut self, one: &Waiting) {
        self.unreadable = 0;
        self.waiting.remove(&(one.due, one.offset.0));
        self.set(one.offset.0, State::Done);
        self.settle();
    }

    /// What is due first was read, and cannot be sent now. Returns how often in a row.
    pub fn on_refused(&mut self, now: Mono) -> u32 {
        self.unreadable = 0;
        self.sending.fail(&self.options, now)
    }

    /// What is due first cannot be read now. Returns how often in a row nothing went on.
    pub fn on_unreadable(&mut self, now: Mono) -> u32 {
        self.unreadable = self.unreadable.saturating_add(1);
        self.sending.fail(&self.options, now)
    }

    /// The store says what became of a delivery and its done message. True: the driver should look.
    pub fn on_outcome(&mut self, ticket: u64, kept: Kept, now: Mono) -> bool {
        let Some(one) = self.flights.take(ticket) else { return false };
        self.flights_count -= 1;
        match kept {
            Kept::Yes => {
                self.sending = Pause::default();
                self.set(one.offset.0, State::Done);
                self.settle();
            }
            Kept::No => {
                if one.offset.0 >= self.base {
                    self.set(one.offset.0, State::Waiting);
                    self.waiting.insert((one.due, one.offset.0), one.physical);
                }
                self.sending.fail(&self.options, now);
            }
            Kept::Unknown => {}
        }
        self.flights_count == 0
    }

    fn get(&self, offset: u64) -> State {
        let Some(at) = offset.checked_sub(self.base) else { return State::Done };
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        self.states.get(at).copied().unwrap_or(State::Unread)
    }

    fn set(&mut self, offset: u64, state: State) {
        let Some(at) = offset.checked_sub(self.base) else { return };
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        if at >= self.states.len() {
            self.states.resize(at + 1, State::Unread);
        }
        if let Some(slot) = self.states.get_mut(at) {
            self.done += u64::from(state == State::Done);
            self.done -= u64::from(*slot == State::Done);
            *slot = state;
        }
    }

    fn settle(&mut self) {
        while self.states.front() == Some(&State::Done) {
            self.states.pop_front();
            self.done -= 1;
            self.base += 1;
        }
        self.read = self.read.max(self.base);
    }
}

impl Pause {
    /// Grows from the first pause to the longest one.
    fn fail(&mut self, options: &TimerOptions, now: Mono) -> u32 {
        self.failures = self.failures.saturating_add(1);
        let factor = 1 << (self.failures - 1).min(16);
        let pause = options.retry_pause.saturating_mul(factor).min(options.retry_pause_max);
        self.until = now + pause;
        self.failures
    }
}

fn waiting((key, physical): (&(WallMillis, u64), &PhysicalOffset)) -> Waiting {
    Waiting { due: key.0, offset: QueueOffset(key.1), physical: *physical }
}

fn wait(due: WallMillis, now: WallMillis) -> Duration {
    let ms = u64::try_from(due.0.saturating_sub(now.0)).unwrap_or(0);
    Duration::from_millis(ms).min(LOOK_INTERVAL)
}

#[cfg(test)]
mod tests;
