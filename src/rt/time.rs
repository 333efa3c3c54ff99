//! Time as data: a `Clock` is a value handed down, a wait names its deadline.

pub use crate::model::WallMillis;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
pub use std::time::Duration;

/// A moment of the monotonic clock. Units: nanoseconds since this process's clock was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mono(pub u64);

impl Mono {
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Mono {
    type Output = Mono;
    fn add(self, by: Duration) -> Mono {
        Mono(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// The two clocks of one process. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Clock {
    base: tokio::time::Instant,
    skew_ms: Arc<AtomicI64>,
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock {
    pub fn new() -> Self {
        Self::with_skew(Arc::default())
    }

    /// A clock whose wall time is off by `skew_ms`, which may change at any moment: the simulator's
    /// clock steps.
    #[cfg_attr(madsim, expect(clippy::disallowed_methods, reason = "the virtual clock"))]
    pub fn with_skew(skew_ms: Arc<AtomicI64>) -> Self {
        Clock { base: tokio::time::Instant::now(), skew_ms }
    }

    pub fn mono(&self) -> Mono {
        Mono(u64::try_from(self.base.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    #[expect(clippy::disallowed_methods, reason = "the one place where wall time enters")]
    pub fn wall(&self) -> WallMillis {
        let since =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        WallMillis(ms + self.skew_ms.load(Ordering::Relaxed))
    }

    /// How far local time is ahead of UTC at that moment, as TZ or /etc/localtime says; 0 when
    /// neither can be read, and under simulation. Units: milliseconds.
    pub fn local_offset_ms(&self, at: WallMillis) -> i64 {
        local_offset_s(at.0.div_euclid(1000)).unwrap_or(0) * 1000
    }

    /// Resolves at `deadline`, at once when it has passed.
    pub fn sleep_until(&self, deadline: Mono) -> Sleep {
        Box::pin(tokio::time::sleep_until(self.base + Duration::from_nanos(deadline.0)))
    }

    /// `work`'s value, or `None` when `deadline` came first.
    pub async fn before<F: Future>(&self, deadline: Mono, work: F) -> Option<F::Output> {
        crate::rt::select! {
            value = work => Some(value),
            _ = self.sleep_until(deadline) => None,
        }
    }
}

#[cfg(not(madsim))]
fn local_offset_s(unix_s: i64) -> Option<i64> {
    let zone = match std::env::var("TZ") {
        Ok(name) if !name.is_empty() => tz::TimeZone::from_posix_tz(&name),
        _ => tz::TimeZone::local(),
    };
    let zone = zone.ok()?;
    Some(i64::from(zone.find_local_time_type(unix_s).ok()?.ut_offset()))
}
#[cfg(madsim)]
fn local_offset_s(_unix_s: i64) -> Option<i64> {
    None
}

/// A pending wait.
pub type Sleep = Pin<Box<tokio::time::Sleep>>;

/// The one timer of a driver: re-armed only when its deadline moves.
pub struct Alarm {
    clock: Clock,
    at: Option<Mono>,
    sleep: Option<Sleep>,
}

impl Alarm {
    pub fn new(clock: &Clock) -> Self {
        Alarm { clock: clock.clone(), at: None, sleep: None }
    }

    pub fn set(&mut self, at: Option<Mono>) {
        if self.at == at {
            return;
        }
        self.at = at;
        self.sleep = at.map(|at| self.clock.sleep_until(at));
    }

    /// Resolves at the deadline last set; never when none is set. Safe to drop and call again.
    pub async fn ring(&mut self) {
        match &mut self.sleep {
            Some(sleep) => {
                sleep.as_mut().await;
                self.at = None;
                self.sleep = None;
            }
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_rings_at_its_deadline_and_only_once() {
        crate::rt::block_on(async {
            let clock = Clock::new();
            let mut alarm = Alarm::new(&clock);
            let at = clock.mono() + Duration::from_millis(10);
            alarm.set(Some(at));
            alarm.ring().await;
            assert!(clock.mono() >= at, "it rang early");
            let later = clock.mono() + Duration::from_millis(10);
            assert_eq!(clock.before(later, alarm.ring()).await, None);
        });
    }
}
