//! How many request bytes all connections together may hold.

use crate::rt::sync::Mutex;
use std::collections::BTreeMap;
use std::task::Waker;

/// A number of bytes that connections take and give back. Whoever finds too few left waits, in
/// the order of asking, so that a large frame is not overtaken for ever by small ones.
#[derive(Debug)]
pub struct Budget {
    size_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    next_ticket: u64,
    waiting: BTreeMap<u64, (usize, Waker)>,
}

impl Budget {
    pub fn new(size_max: usize) -> Self {
        Budget { size_max, state: Mutex::default() }
    }

    /// Units: bytes.
    pub fn taken(&self) -> usize {
        self.state.lock().taken
    }

    /// Takes `size` bytes, or remembers `waker` and says no. A caller that is told no passes the
    /// same `ticket` again when woken, and must `leave` when it gives up.
    pub fn poll_take(&self, ticket: &mut Option<u64>, size: usize, waker: &Waker) -> bool {
        let mut state = self.state.lock();
        let first = state.waiting.first_key_value().map(|(first, _)| *first);
        let is_turn = first.is_none() || first == *ticket;
        // A frame larger than the whole budget passes when it is alone.
        let fits = state.taken == 0 || state.taken.saturating_add(size) <= self.size_max;
        if is_turn && fits {
            state.taken += size;
            if let Some(ticket) = ticket.take() {
                state.waiting.remove(&ticket);
                state.wake_first(self.size_max);
            }
            return true;
        }
        let ticket = *ticket.get_or_insert_with(|| {
            state.next_ticket += 1;
            state.next_ticket
        });
        state.waiting.insert(ticket, (size, waker.clone()));
        false
    }

    /// Takes `size` bytes that are in memory already, even beyond the bound.
    pub fn take_anyway(&self, size: usize) {
        self.state.lock().taken += size;
    }

    /// Gives bytes back and wakes who can go on.
    pub fn give_back(&self, size: usize) {
        let mut state = self.state.lock();
        assert!(size <= state.taken, "{size} bytes given back of {} taken", state.taken);
        state.taken -= size;
        state.wake_first(self.size_max);
    }

    /// Stops waiting.
    pub fn leave(&self, ticket: &mut Option<u64>) {
        if let Some(ticket) = ticket.take() {
            let mut state = self.state.lock();
            state.waiting.remove(&ticket);
            state.wake_first(self.size_max);
        }
    }
}

impl State {
    /// One at a time: who was woken wakes the next when it took its share.
    fn wake_first(&self, size_max: usize) {
        let Some((size, waker)) = self.waiting.values().next() else { return };
        if self.taken == 0 || self.taken.saturating_add(*size) <= size_max {
            waker.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_frame_is_not_overtaken_by_small_ones() {
        let budget = Budget::new(100);
        let waker = Waker::noop();
        let (mut a, mut b, mut c) = (None, None, None);
        assert!(budget.poll_take(&mut a, 60, waker));
        assert!(!budget.poll_take(&mut b, 80, waker));
        assert!(!budget.poll_take(&mut c, 10, waker), "c came after b");
        budget.give_back(60);
        assert!(!budget.poll_take(&mut c, 10, waker));
        assert!(budget.poll_take(&mut b, 80, waker));
        assert!(budget.poll_take(&mut c, 10, waker));
        assert_eq!(budget.taken(), 90);
    }

    #[test]
    fn who_leaves_makes_room_for_the_next() {
        let budget = Budget::new(100);
        let waker = Waker::noop();
        let (mut a, mut b, mut c) = (None, None, None);
        assert!(budget.poll_take(&mut a, 60, waker));
        assert!(!budget.poll_take(&mut b, 80, waker));
        assert!(!budget.poll_take(&mut c, 40, waker));
        budget.leave(&mut b);
        assert!(budget.poll_take(&mut c, 40, waker));
    }

    #[test]
    fn a_frame_beyond_the_whole_budget_passes_alone() {
        let budget = Budget::new(10);
        let mut a = None;
        assert!(budget.poll_take(&mut a, 50, Waker::noop()));
        budget.give_back(50);
        assert_eq!(budget.taken(), 0);
    }
}
