//! Messages that ask for a time of their own.

use hotfire::broker::options::TimerOptions;
use hotfire::rt::rng::Rng;
use hotfire::rt::time::WallMillis;

/// What a message asks for.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    pub name: &'static str,
    pub value: i64,
    /// From now on. Units: milliseconds; below 1 for a time that is past.
    pub wait_ms: i64,
}

impl Ask {
    /// By the clock of who asks; the broker's may be another.
    pub fn is_date(&self) -> bool {
        self.name == "TIMER_DELIVER_MS"
    }
}

/// Most are due soon, so that crashes come between; some long after the rest, some at once.
pub fn draw(dice: &mut Rng, now: WallMillis) -> Ask {
    let wait_ms = match dice.below(10) {
        0 => -(dice.below(5_000) as i64),
        1..=6 => 1 + dice.below(2_000) as i64,
        7 | 8 => 1 + dice.below(6_000) as i64,
        _ => 8_000 + dice.below(12_000) as i64,
    };
    match dice.below(4) {
        0 => {
            let secs = wait_ms.div_euclid(1_000);
            Ask { name: "TIMER_DELAY_SEC", value: secs, wait_ms: secs * 1_000 }
        }
        1 => Ask { name: "TIMER_DELIVER_MS", value: now.0 + wait_ms, wait_ms },
        _ => Ask { name: "TIMER_DELAY_MS", value: wait_ms, wait_ms },
    }
}

/// Some brokers have little room, so that what lies far behind is written anew.
pub fn options(swarm: u64) -> TimerOptions {
    let mut dice = Rng::from_seed(swarm ^ 0x71AE_5EED);
    let mut options = TimerOptions {
        turn_count_max: 1 << dice.below(5),
        span_max: dice.between(2, 20),
        ..Default::default()
    };
    if dice.chance(0.5) {
        options.waiting_count_max = dice.between(3, 12) as usize;
    }
    options
}
