//! Arrivals that come soon after each other share a turn of the event loop: before the loop asks
//! the kernel for news it waits a moment, as a network card does before it interrupts.
//!
//! A message that comes alone costs a wake-up and four system calls. At 15,000 a second that is
//! more than half a core; with three in a turn it is a fifth. The price is latency, so `Plan` tries
//! it, compares, and goes on only while it saves work and slows nobody down: who sends the next
//! message when the last one is answered would send fewer of them. A busy loop finds enough work
//! each time, and never waits.

use crate::rt::time::{Duration, Mono};

/// How long one comparison takes.
const EPOCH: Duration = Duration::from_millis(100);

/// Epochs with waits between two without.
const ON_EPOCHS: u32 = 20;

/// After a trial that was no use the next one waits so long, and each time twice as long.
const PAUSE_MIN: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(32);

/// A load that is so many times larger or smaller is another one.
const OTHER_LOAD: f64 = 1.5;

/// Below this there is little to save. Units: turns per second.
const TURNS_MIN: f64 = 3_000.0;

/// Above this share of a core turns find enough work without a wait.
const BUSY_MAX: f64 = 0.85;

/// As much must still arrive, in so few turns.
const RECEIVED_KEPT: f64 = 0.9;
const TURNS_LEFT: f64 = 0.7;

/// What an epoch showed. Units: per second; of a core.
#[derive(Clone, Copy, Debug)]
struct Rates {
    received: f64,
    turns: f64,
    busy: f64,
}

impl Rates {
    fn can_gain(&self) -> bool {
        self.received > 0.0 && self.turns >= TURNS_MIN && self.busy < BUSY_MAX
    }

    /// Whether these, with waits, are better than those without.
    fn are_better_than(&self, without: &Rates) -> bool {
        self.received >= without.received * RECEIVED_KEPT
            && self.turns <= without.turns * TURNS_LEFT
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// No waits, and no trial before that time; for a load of another rate than the last trial had,
    /// none before `other_at`.
    Off { until: Mono, other_at: Mono, received: f64 },
    /// Waits, for one epoch, after one without.
    Trial { without: Rates },
    /// Waits, for so many epochs more.
    On { left: u32, received: f64 },
    /// No waits, for one epoch, after one with.
    Check { with: Rates },
}

/// Decides before each wait for news whether it begins with a pause.
#[derive(Debug)]
pub struct Plan {
    step: Step,
    pause: Duration,
    began: Mono,
    awake_since: Mono,
    busy: Duration,
    turns: u64,
    /// Units: bytes since the process began.
    received: u64,
}

impl Plan {
    pub fn new(now: Mono) -> Self {
        Plan {
            step: Step::off(now),
            pause: PAUSE_MIN,
            began: now,
            awake_since: now,
            busy: Duration::ZERO,
            turns: 0,
            received: 0,
        }
    }

    /// The loop has nothing left to do; `received` bytes came in since the process began. True when
    /// it shall pause before it looks for news.
    pub fn on_park(&mut self, now: Mono, received: u64) -> bool {
        self.turns += 1;
        self.busy += now.since(self.awake_since);
        let took = now.since(self.began);
        if took >= EPOCH {
            let seconds = took.as_secs_f64();
            let rates = Rates {
                received: received.wrapping_sub(self.received) as f64 / seconds,
                turns: self.turns as f64 / seconds,
                busy: self.busy.as_secs_f64() / seconds,
            };
            self.step = self.next(now, rates);
            (self.began, self.received) = (now, received);
            (self.turns, self.busy) = (0, Duration::ZERO);
        }
        matches!(self.step, Step::Trial { .. } | Step::On { .. })
    }

    /// The loop has news.
    pub fn on_unpark(&mut self, now: Mono) {
        self.awake_since = now;
    }

    fn next(&mut self, now: Mono, rates: Rates) -> Step {
        match self.step {
            Step::Off { until, other_at, received } => {
                let is_other = now >= other_at && is_another(rates.received, received);
                if !rates.can_gain() || now < until && !is_other {
                    return self.step;
                }
                if is_other {
                    self.pause = PAUSE_MIN;
                }
                Step::Trial { without: rates }
            }
            Step::Trial { without } => self.judge(now, rates, without, rates.received),
            // The load is another one, or over.
            Step::On { received, .. } if rates.received < received / 2.0 => Step::off(now),
            Step::On { left: 0, .. } => Step::Check { with: rates },
            Step::On { left, received } => Step::On { left: left - 1, received },
            Step::Check { .. } if !rates.can_gain() => Step::off(now),
            Step::Check { with } => self.judge(now, with, rates, with.received),
        }
    }

    fn judge(&mut self, now: Mono, with: Rates, without: Rates, received: f64) -> Step {
        if with.are_better_than(&without) {
            self.pause = PAUSE_MIN;
            return Step::On { left: ON_EPOCHS, received };
        }
        let (until, other_at) = (now + self.pause, now + PAUSE_MIN);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Step::Off { until, other_at, received: without.received }
    }
}

impl Step {
    /// The next trial may come at once.
    fn off(now: Mono) -> Self {
        Step::Off { until: now, other_at: now, received: 0.0 }
    }
}

fn is_another(received: f64, before: f64) -> bool {
    received > before * OTHER_LOAD || received * OTHER_LOAD < before
}

#[cfg(not(madsim))]
pub use real::Coalesce;

#[cfg(not(madsim))]
mod real {
    use super::Plan;
    use crate::rt::sync::Mutex;
    use crate::rt::time::{Duration, Mono};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Instant;

    /// The plan of one event loop, and the network's count of what came in.
    pub struct Coalesce {
        wait: Duration,
        base: Instant,
        received: Arc<AtomicU64>,
        plan: Mutex<Plan>,
    }

    impl Coalesce {
        /// `wait` is the pause before the loop looks for news; zero is never. The kernel adds
        /// up to 50 us.
        #[expect(clippy::disallowed_methods, reason = "the loop's own clock, not the program's")]
        pub fn new(wait: Duration) -> Arc<Self> {
            Arc::new(Coalesce {
                wait,
                base: Instant::now(),
                received: Arc::default(),
                plan: Mutex::new(Plan::new(Mono(0))),
            })
        }

        /// Where the network counts what it received. Units: bytes.
        pub fn received(&self) -> Arc<AtomicU64> {
            self.received.clone()
        }

        fn now(&self) -> Mono {
            Mono(u64::try_from(self.base.elapsed().as_nanos()).unwrap_or(u64::MAX))
        }

        #[expect(clippy::disallowed_methods, reason = "it is the event loop that sleeps")]
        pub fn on_park(&self) {
            if self.wait.is_zero() {
                return;
            }
            let received = self.received.load(Ordering::Relaxed);
            if self.plan.lock().on_park(self.now(), received) {
                std::thread::sleep(self.wait);
            }
        }

        pub fn on_unpark(&self) {
            if !self.wait.is_zero() {
                self.plan.lock().on_unpark(self.now());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: u64 = 1_000;
    /// What one message, and one turn, keep the loop busy.
    const MESSAGE: u64 = 10 * US;
    const TURN: u64 = 25 * US;
    const WAIT: u64 = 200 * US;

    /// Who sends: at a rate, or so many at a time, each again when it is answered.
    enum Load {
        Every(u64),
        Closed { in_flight: usize, away: u64 },
    }

    /// Runs a loop under a load. Returns messages, turns and the share of turns with a pause.
    fn run(load: &Load, seconds: u64) -> (u64, u64, f64) {
        let (mut plan, mut now, mut done, mut turns, mut pauses) = (Plan::new(Mono(0)), 0, 0, 0, 0);
        let mut due: std::collections::BinaryHeap<std::cmp::Reverse<u64>> = match load {
            Load::Every(_) => [std::cmp::Reverse(0)].into(),
            Load::Closed { in_flight, .. } => vec![std::cmp::Reverse(0); *in_flight].into(),
        };
        while now < seconds * 1_000_000_000 {
            if plan.on_park(Mono(now), done * 1000) {
                (now, pauses) = (now + WAIT, pauses + 1);
            }
            now = now.max(due.peek().unwrap().0);
            plan.on_unpark(Mono(now));
            (now, turns) = (now + TURN, turns + 1);
            let news = now;
            while due.peek().is_some_and(|at| at.0 <= news) {
                let at = due.pop().unwrap().0;
                (now, done) = (now + MESSAGE, done + 1);
                due.push(std::cmp::Reverse(match load {
                    Load::Every(every) => at + every,
                    Load::Closed { away, .. } => now + away,
                }));
            }
        }
        (done, turns, pauses as f64 / turns as f64)
    }

    #[test]
    fn arrivals_at_a_rate_share_turns_and_none_is_lost() {
        let (done, turns, paused) = run(&Load::Every(67 * US), 20);
        assert!(done > 20 * 14_900, "{done} messages");
        assert!(turns < done / 2 && paused > 0.8, "{turns} turns, {paused} paused");
    }

    #[test]
    fn a_load_of_another_rate_is_tried_soon() {
        let mut plan = Plan::new(Mono(0));
        let (mut at, mut received) = (0, 0);
        // Epochs of 5,000 turns a second; a pause saves turns only when `is_open`.
        let mut epoch = |plan: &mut Plan, per_turn: u64, is_open: bool| {
            let (end, mut paused) = (at + 100_000_000, false);
            while at < end {
                let step = if is_open && paused { 600_000 } else { 200_000 };
                (at, received) = (at + step, received + per_turn * (step / 200_000));
                plan.on_unpark(Mono(at - 20_000));
                paused = plan.on_park(Mono(at), received);
            }
            paused
        };
        let trials = (0..400).filter(|_| epoch(&mut plan, 1_000, false)).count();
        assert!(trials <= 6, "{trials} trials in 40 s");
        let waits = (0..40).filter(|_| epoch(&mut plan, 2_000, true)).count();
        assert!(waits > 15, "{waits} epochs of 40 with pauses");
    }

    #[test]
    fn who_waits_for_an_answer_is_not_slowed_down() {
        for in_flight in [1, 2, 4] {
            let (done, turns, paused) = run(&Load::Closed { in_flight, away: 60 * US }, 60);
            let alone = TURN + MESSAGE * in_flight as u64 + 60 * US;
            let expected = 60_000_000_000 / alone * in_flight as u64;
            assert!(done > expected * 97 / 100, "{in_flight}: {done} of {expected}");
            assert!(paused < 0.02, "{in_flight}: {paused} of {turns} turns paused");
        }
    }

    #[test]
    fn few_turns_and_a_busy_loop_are_left_alone() {
        assert_eq!(run(&Load::Every(1000 * US), 5).2, 0.0);
        let busy = run(&Load::Closed { in_flight: 64, away: 20 * US }, 5);
        assert_eq!(busy.2, 0.0);
    }

    #[test]
    fn a_load_that_ends_ends_the_pauses() {
        let (mut plan, mut now, mut received) = (Plan::new(Mono(0)), 0, 0);
        let mut on = 0;
        // 15,000 a second, one turn each, or three in a turn when it pauses.
        while now < 5_000_000_000u64 {
            let pauses = plan.on_park(Mono(now), received);
            on += u64::from(pauses);
            let step = if pauses { 200 * US } else { 67 * US };
            plan.on_unpark(Mono(now + step));
            now += step + 10 * US;
            received = now / 67;
        }
        assert!(on > 1000);
        for _ in 0..50 {
            now += 20_000_000;
            plan.on_unpark(Mono(now));
            plan.on_park(Mono(now + US), received);
        }
        assert!(!plan.on_park(Mono(now + 2 * US), received));
    }
}
