//! Whether a sync should wait a moment for the producers that were just answered.
//!
//! Producers who send one message after the other come back together, a moment after their sync
//! returned. A sync that starts with the first of them makes all others wait for the one after
//! it: two groups then take turns, and each message costs two syncs. So a sync waits until as many
//! wait for it as were waiting or answered when the last one returned, for less than that sync's
//! time, which is what the two groups would cost. Producers who do not come back so soon cost a
//! wait; after one the next syncs do not wait, and their number doubles.

use crate::rt::time::{Duration, Mono};

/// Syncs that do not wait after the waits that were for nothing. Units: a power of two.
const SKIPPED_LOG_MAX: u32 = 8;

/// Of ten who are expected, so many are enough for a wait to have been worth it.
const TENTHS_ENOUGH: usize = 5;

pub struct Gather {
    time_max: Duration,
    /// Until when to wait, and for how many.
    wait: Option<(Mono, usize)>,
    /// Waits in a row that were for nothing.
    failed: u32,
    /// Syncs that are not to wait.
    skip: u32,
}

impl Gather {
    pub fn new(time_max: Duration) -> Self {
        Gather { time_max, wait: None, failed: 0, skip: 0 }
    }

    /// A sync that took `time` returned: `answered` were answered, `waiting` wait for the next.
    pub fn on_synced(&mut self, now: Mono, time: Duration, answered: usize, waiting: usize) {
        self.wait = None;
        if self.skip > 0 {
            self.skip -= 1;
        } else if answered > 0 {
            let until = now + (time * 3 / 4).min(self.time_max);
            self.wait = Some((until, waiting + answered));
        }
    }

    /// Until when a sync for `waiting` is put off; `None` when it should start.
    pub fn until(&self, now: Mono, waiting: usize) -> Option<Mono> {
        let (until, wanted) = self.wait?;
        (waiting > 0 && waiting < wanted && now < until).then_some(until)
    }

    /// A sync starts with `waiting`.
    pub fn on_sync_started(&mut self, waiting: usize) {
        let Some((_, wanted)) = self.wait.take() else { return };
        if waiting * 10 >= wanted * TENTHS_ENOUGH {
            self.failed = 0;
        } else {
            self.failed = (self.failed + 1).min(SKIPPED_LOG_MAX);
            self.skip = 1 << self.failed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(ms: u64) -> Mono {
        Mono(ms * 1_000_000)
    }

    #[test]
    fn a_sync_waits_for_those_who_were_answered_but_not_for_long() {
        let mut gather = Gather::new(MS * 100);
        assert_eq!(gather.until(at(0), 1), None);
        gather.on_synced(at(10), MS * 8, 3, 1);
        assert_eq!(gather.until(at(10), 0), None, "there is nothing to sync");
        assert_eq!(gather.until(at(10), 3), Some(at(16)));
        assert_eq!(gather.until(at(10), 4), None);
        assert_eq!(gather.until(at(16), 1), None);
        let mut short = Gather::new(MS);
        short.on_synced(at(10), MS * 8, 3, 1);
        assert_eq!(short.until(at(10), 3), Some(at(11)));
    }

    #[test]
    fn waits_for_nothing_become_rare() {
        let mut gather = Gather::new(MS * 100);
        let mut waits = 0;
        for sync in 0..1000 {
            gather.on_synced(at(sync * 10), MS * 8, 5, 0);
            waits += usize::from(gather.until(at(sync * 10), 1).is_some());
            gather.on_sync_started(1);
        }
        assert!((8..=12).contains(&waits), "{waits}");
        // Who comes back is waited for again.
        gather.skip = 0;
        gather.on_synced(at(20_000), MS * 8, 5, 0);
        gather.on_sync_started(5);
        gather.on_synced(at(20_010), MS * 8, 5, 0);
        assert!(gather.until(at(20_010), 1).is_some());
    }
}
