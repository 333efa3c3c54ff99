//! Which half messages are open, and how far both queues of transactions are done.
//!
//! A half message waits in the half topic until its producer commits it or takes it back. That it
//! is resolved is said by an op message, which carries its queue offset. Here every resolution has
//! an op message, also that of a copy: a half message that is asked for is appended anew, and its
//! old copy is resolved by the same append. So the two queues alone say what is open; progress in
//! `consumerOffset.json` only says where to begin. It never passes an op message that a power loss
//! may take.
//!
//! An op message follows its effect (final message, copy, discarded message) in a row in one
//! segment, as one append with one outcome. A crash can keep the effect without the op message
//! only at the end of the log: the next start looks there.
//!
//! Source: TransactionalMessageServiceImpl, TransactionalMessageBridge (4.9.3).
//! Differs: see ADR-0018.

pub mod rewrite;
pub mod rule;

use super::options::TransactionOptions;
use super::tickets::Tickets;
use crate::model::{PhysicalOffset, QueueOffset};
use std::collections::{BTreeMap, VecDeque};

pub const HALF_TOPIC: &str = "RMQ_SYS_TRANS_HALF_TOPIC";
pub use crate::format::op_message::TOPIC as OP_TOPIC;
/// Half messages that were asked for too often. Source: TopicValidator (4.9.3).
pub const DISCARD_TOPIC: &str = "TRANS_CHECK_MAX_TIME_TOPIC";
/// Its offsets on both topics are the progress. Source: MixAll.CID_SYS_RMQ_TRANS (4.9.3).
pub const GROUP: &str = "CID_RMQ_SYS_TRANS";

/// An op message that names no half message.
const IDLE: u64 = u64::MAX;
/// An op message whose append is under way.
const COMING: u64 = u64::MAX - 1;

/// A half message from the progress on. Those that are not in the table are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Half {
    Open,
    /// Its op message is under way.
    Ending,
    Resolved,
}

/// How a half message stands that somebody wants to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// This one is to be resolved: it, or its newest copy.
    Open(QueueOffset),
    Ending,
    Resolved,
}

/// What an append is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// A producer ends its transaction.
    End,
    /// A newer copy takes its place.
    Renew { copy: Copied, asks: bool },
    /// It was asked for too often.
    Discard,
    /// A start found its effect in the log, and no op message.
    Repair,
    /// A discarded one begins anew: nothing is resolved.
    Resume,
}

/// A half message that was appended anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    pub half: QueueOffset,
    pub physical: PhysicalOffset,
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// In the log, even if no sync has covered it yet.
    Yes,
    No,
    /// The log is poisoned: nobody knows.
    Unknown,
}

#[derive(Clone, Copy, Debug)]
struct Flight {
    aim: Aim,
    resolves: Option<Resolves>,
}

/// Queue offsets of a half message, of its first copy, and of its op message.
#[derive(Clone, Copy, Debug)]
struct Resolves {
    half: u64,
    first: u64,
    op: u64,
}

/// What a walk over the half messages finds next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    End,
    Open(QueueOffset),
    /// Nothing so far: ask from here on.
    Later(u64),
}

/// What becomes of a half message that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    First,
    Again,
    LeftBehind,
}

/// Half messages that one call walks over, in well below 1 ms.
const WALK_MAX: u64 = 65_536;

/// A queue as recovery left it, and the progress that was saved for it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    pub saved: Option<i64>,
    pub min: QueueOffset,
    pub end: QueueOffset,
}

impl Bounds {
    /// Source: TransactionalMessageBridge#fetchConsumeOffset (4.9.3).
    fn begin(&self) -> u64 {
        let saved = self.saved.and_then(|at| u64::try_from(at).ok()).unwrap_or(self.min.0);
        saved.clamp(self.min.0, self.end.0.max(self.min.0))
    }
}

/// Progress that may be saved once everything below `end` of the log is on disk.
#[derive(Clone, Copy, Debug)]
struct Held {
    end: u64,
    progress: Progress,
}

/// The next offset of either topic that is not done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub half: u64,
    pub op: u64,
}

/// All transactions of this broker.
#[derive(Debug)]
pub struct Transactions {
    options: TransactionOptions,
    /// Everything below is resolved.
    base: u64,
    /// From `base` on.
    halves: VecDeque<Half>,
    /// One past the newest half message, as far as it is known.
    end: u64,
    /// Op messages below name half messages below `base`.
    op_base: u64,
    /// The half message that each op message from `op_base` on names.
    ops: VecDeque<u64>,
    /// The newest copy of each open half message that was copied, by its first copy.
    copies: BTreeMap<u64, u64>,
    flights: Tickets<Flight>,
    /// Appends under way that are the check's own.
    own_flights: usize,
    /// Copies whose producers are to be asked.
    asks: Vec<Copied>,
    /// Half messages that could not be read: how often.
    unreadable: BTreeMap<u64, u32>,
    /// Resolved by something in the log, and still without an op message.
    owed: Vec<u64>,
    /// Which member of a group is asked next.
    turn: usize,
    saved: Progress,
    held: Option<Held>,
}

impl Transactions {
    pub fn new(options: &TransactionOptions) -> Self {
        Transactions {
            options: options.clone(),
            base: 0,
            halves: VecDeque::new(),
            end: 0,
            op_base: 0,
            ops: VecDeque::new(),
            copies: BTreeMap::new(),
            flights: Tickets::default(),
            own_flights: 0,
            asks: Vec::new(),
            unreadable: BTreeMap::new(),
            owed: Vec::new(),
            turn: 0,
            saved: Progress::default(),
            held: None,
        }
    }

    /// Takes both queues as they are after recovery. The op messages from the returned offset on
    /// are to be told next, each with `on_op`.
    pub fn restore(&mut self, half: &Bounds, op: &Bounds) -> QueueOffset {
        (self.base, self.end) = (half.begin(), half.end.0);
        self.op_base = op.begin();
        let row = |bounds: &Bounds| bounds.saved.and_then(|at| u64::try_from(at).ok()).unwrap_or(0);
        self.saved = Progress { half: row(half), op: row(op) };
        QueueOffset(self.op_base)
    }

    /// An op message that lies in the log; `None` for one that names no half message.
    pub fn on_op(&mut self, half: Option<QueueOffset>) {
        let half = half.map(|half| half.0).filter(|half| *half < self.end);
        self.ops.push_back(half.unwrap_or(IDLE));
        if let Some(half) = half {
            self.set(half, Half::Resolved);
        }
        self.settle();
    }

    /// How the half message at `half` stands, whose first copy is `first`.
    pub fn stand(&self, half: QueueOffset, first: u64) -> Standing {
        match self.get(half.0) {
            Half::Open => Standing::Open(half),
            Half::Ending => Standing::Ending,
            Half::Resolved => match self.copies.get(&first).map(|copy| (*copy, self.get(*copy))) {
                Some((copy, Half::Open)) => Standing::Open(QueueOffset(copy)),
                Some((_, Half::Ending)) => Standing::Ending,
                _ => Standing::Resolved,
            },
        }
    }

    /// The first open half message at `from` or behind, below `end`.
    pub fn next_open(&self, from: u64, end: QueueOffset) -> Next {
        let from = from.max(self.base);
        let to = end.0.min(from.saturating_add(WALK_MAX));
        match (from..to).find(|half| self.get(*half) == Half::Open) {
            Some(half) => Next::Open(QueueOffset(half)),
            None if to < end.0 => Next::Later(to),
            None => Next::End,
        }
    }

    /// A half message is about to be appended. False: too many are between the oldest open one
    /// and the newest.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.end.saturating_sub(self.base) < self.options.window_max as u64
    }

    /// A half message got this offset, for now.
    pub fn on_half(&mut self, half: QueueOffset) {
        self.end = self.end.max(half.0 + 1);
    }

    /// Half messages below were deleted. Returns how many of them were open.
    pub fn on_deleted(&mut self, min: QueueOffset) -> u64 {
        let mut lost = 0;
        while self.base < min.0 {
            lost += u64::from(self.get(self.base) == Half::Open);
            self.halves.pop_front();
            self.base += 1;
        }
        self.forget_copies();
        self.settle();
        lost
    }

    /// The half message at `half` is open and was read: it is a copy of `first`.
    pub fn on_read(&mut self, half: QueueOffset, first: u64) {
        self.unreadable.remove(&half.0);
        if first < half.0 {
            self.copies.insert(first, half.0);
        }
    }

    /// It cannot be read. It stays open, so that its producer can still end it, and is asked for
    /// once the disk gives it back. It is left behind when it is in the way of new ones.
    pub fn on_unreadable(&mut self, half: QueueOffset) -> Unreadable {
        let (tries_max, rows_max) = (self.options.read_tries_max, self.options.unreadable_max);
        if self.unreadable.len() >= rows_max && !self.unreadable.contains_key(&half.0) {
            return Unreadable::Again;
        }
        let tries = self.unreadable.entry(half.0).or_insert(0);
        *tries = tries.saturating_add(1);
        let is_in_the_way = self.end.saturating_sub(half.0) > self.options.window_max as u64 / 2;
        if *tries >= tries_max && is_in_the_way {
            self.set(half.0, Half::Resolved);
            self.settle();
            self.forget_copies();
            return Unreadable::LeftBehind;
        }
        match *tries {
            1 => Unreadable::First,
            _ => Unreadable::Again,
        }
    }

    /// The ticket that the next `on_sent` uses.
    pub fn next_ticket(&self) -> u64 {
        self.flights.next()
    }

    /// The store took an append that resolves `half`, a copy of `first`, by the op message at `op`:
    /// its outcome comes with this ticket.
    pub fn on_sent(&mut self, aim: Aim, half: QueueOffset, first: u64, op: QueueOffset) {
        self.end = self.end.max(half.0 + 1);
        self.set(half.0, Half::Ending);
        self.own_flights += usize::from(is_own(&aim));
        let resolves = Resolves { half: half.0, first, op: op.0 };
        self.flights.insert(Flight { aim, resolves: Some(resolves) });
    }

    /// The same for a discarded message that begins anew.
    pub fn on_resumed(&mut self) {
        self.flights.insert(Flight { aim: Aim::Resume, resolves: None });
    }

    /// What became of an append; gives what it was for.
    pub fn on_outcome(&mut self, ticket: u64, kept: Kept) -> Option<Aim> {
        let flight = self.flights.take(ticket)?;
        self.own_flights -= usize::from(is_own(&flight.aim));
        let Some(Resolves { half, first, op }) = flight.resolves else { return Some(flight.aim) };
        match kept {
            Kept::Yes => {
                self.set(half, Half::Resolved);
                self.set_op(op, half);
                if self.copies.get(&first) == Some(&half) {
                    self.copies.remove(&first);
                }
                self.on_kept(&flight.aim, first);
                self.settle();
            }
            Kept::No if flight.aim == Aim::Repair => self.owed.push(half),
            Kept::No => self.set(half, Half::Open),
            Kept::Unknown => {}
        }
        Some(flight.aim)
    }

    fn on_kept(&mut self, aim: &Aim, first: u64) {
        let Aim::Renew { copy, asks } = *aim else { return };
        self.end = self.end.max(copy.half.0 + 1);
        self.copies.insert(first, copy.half.0);
        if asks {
            self.asks.push(copy);
        }
    }

    /// Copies whose producers are to be asked now.
    pub fn take_asks(&mut self) -> Vec<Copied> {
        std::mem::take(&mut self.asks)
    }

    /// Appends of the check under way.
    pub fn own_flights(&self) -> usize {
        self.own_flights
    }

    /// Something in the log resolved `half`, and its op message is missing.
    pub fn on_owed(&mut self, half: QueueOffset) {
        self.set(half.0, Half::Ending);
        self.owed.push(half.0);
    }

    /// A half message whose op message is still to be written; it is then told by `on_sent`.
    pub fn take_owed(&mut self) -> Option<QueueOffset> {
        self.owed.pop().map(QueueOffset)
    }

    pub fn is_owing(&self) -> bool {
        !self.owed.is_empty()
    }

    /// Counts up: members of a group are asked in turn.
    pub fn next_turn(&mut self) -> usize {
        self.turn = self.turn.wrapping_add(1);
        self.turn
    }

    pub fn progress(&self) -> Progress {
        Progress { half: self.base, op: self.op_base }
    }

    /// One past the newest half message, as far as it is known.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The progress that may be saved now; `None` when there is no news, or when what there is may
    /// still be lost. `written` and `synced` are positions of the log.
    pub fn to_save(&mut self, written: u64, synced: u64) -> Option<Progress> {
        let progress = self.progress();
        if self.saved != progress && (synced >= written || self.held.is_none()) {
            self.held = Some(Held { end: written, progress });
        }
        let held = self.held.filter(|held| held.end <= synced)?;
        self.held = None;
        self.saved = held.progress;
        Some(held.progress)
    }

    fn get(&self, half: u64) -> Half {
        let Some(at) = half.checked_sub(self.base) else { return Half::Resolved };
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        self.halves.get(at).copied().unwrap_or(Half::Open)
    }

    fn set(&mut self, half: u64, state: Half) {
        let Some(at) = half.checked_sub(self.base) else { return };
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        if at >= self.halves.len() {
            self.halves.resize(at + 1, Half::Open);
        }
        if let Some(slot) = self.halves.get_mut(at) {
            *slot = state;
        }
    }

    fn set_op(&mut self, op: u64, half: u64) {
        let Some(at) = op.checked_sub(self.op_base) else { return };
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        if at >= self.ops.len() {
            self.ops.resize(at + 1, COMING);
        }
        if let Some(slot) = self.ops.get_mut(at) {
            *slot = half;
        }
    }

    /// Progress follows what is resolved.
    fn settle(&mut self) {
        while self.halves.front() == Some(&Half::Resolved) {
            self.halves.pop_front();
            self.base += 1;
        }
        while let Some(half) = self.ops.front()
            && *half != COMING
            && (*half == IDLE || *half < self.base)
        {
            self.ops.pop_front();
            self.op_base += 1;
        }
        while self.unreadable.first_key_value().is_some_and(|(half, _)| *half < self.base) {
            self.unreadable.pop_first();
        }
    }

    /// Copies that went without an op message.
    fn forget_copies(&mut self) {
        let mut copies = std::mem::take(&mut self.copies);
        copies.retain(|_, copy| self.get(*copy) != Half::Resolved);
        self.copies = copies;
    }
}

/// Whether the check waits for it.
fn is_own(aim: &Aim) -> bool {
    matches!(aim, Aim::Renew { .. } | Aim::Discard)
}

#[cfg(test)]
mod tests;
