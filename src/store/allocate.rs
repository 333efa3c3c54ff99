//! Decides when the next segment is made.
//!
//! Source: AllocateMappedFileService (4.9.3).
//! Differs: one file ahead, made when half of the current one is used; a full disk is retried each
//! interval, and at once when an append asks.

use crate::rt::time::{Duration, Mono};

/// An append may ask for another try this soon after a failed one. Units: milliseconds.
const PAUSE_MS: u64 = 100;

/// What the log needs of the next segment.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    /// Records wait for it.
    pub waiting: bool,
    /// It will be needed soon.
    pub ahead: bool,
    /// An append was refused because it is not there.
    pub asked: bool,
}

pub struct Allocation {
    retry_interval: Duration,
    running: bool,
    failed_at: Option<Mono>,
}

impl Allocation {
    pub fn new(retry_interval: Duration) -> Self {
        Allocation { retry_interval, running: false, failed_at: None }
    }

    /// True when a segment shall be made now; it then counts as under way.
    pub fn start(&mut self, now: Mono, need: Need) -> bool {
        let due = match self.failed_at {
            None => need.waiting || need.ahead,
            Some(at) => {
                now >= at + self.retry_interval
                    || ((need.waiting || need.asked) && now >= at + Duration::from_millis(PAUSE_MS))
            }
        };
        let starts = due && !self.running;
        self.running |= starts;
        starts
    }

    pub fn on_made(&mut self) {
        self.running = false;
        self.failed_at = None;
    }

    pub fn on_failed(&mut self, now: Mono) {
        self.running = false;
        self.failed_at = Some(now);
    }

    pub fn next_deadline(&self) -> Option<Mono> {
        self.failed_at.filter(|_| !self.running).map(|at| at + self.retry_interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_allocation_is_retried_by_itself_and_sooner_when_asked() {
        let at = |ms: u64| Mono(ms * 1_000_000);
        let need = |ahead, asked| Need { waiting: false, ahead, asked };
        let mut a = Allocation::new(Duration::from_secs(1));
        assert!(!a.start(at(0), need(false, false)));
        assert!(a.start(at(0), need(true, false)));
        assert!(!a.start(at(0), need(true, true)));
        a.on_failed(at(10));
        assert_eq!(a.next_deadline(), Some(at(1010)));
        assert!(!a.start(at(100), need(true, true)));
        assert!(!a.start(at(1000), need(true, false)));
        assert!(a.start(at(110), need(true, true)));
        a.on_failed(at(120));
        assert!(a.start(at(1120), need(false, false)));
        a.on_made();
        assert_eq!(a.next_deadline(), None);
        assert!(!a.start(at(2000), need(false, true)));
    }
}
