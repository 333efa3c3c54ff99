//! Decides when appends are refused because the log cannot keep up: a measured stall, not a queue
//! that happens to be long.
//!
//! Source: DefaultMessageStore#isOSPageCacheBusy, BrokerFastFailure (4.9.3).
//! Differs: 4.9.3 measures how long its put lock is held; here the age of the oldest append that
//! is not written (SYNC_FLUSH: not synced) counts, and how long the last write took.

use crate::rt::time::{Duration, Mono};

/// What appends wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// The next commit log file is being made.
    NextFile,
    Sync,
    Write,
}

impl Resource {
    /// The subject of "has waited ...".
    pub fn name(self) -> &'static str {
        match self {
            Resource::NextFile => "the making of the next commit log file",
            Resource::Sync => "the log's sync",
            Resource::Write => "the log's write",
        }
    }
}

/// A resource that has kept appends waiting for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    pub resource: Resource,
    pub waited_ms: u64,
}

/// A device that stalled gets so much rest at most, before another write is tried.
const REST_MAX: Duration = Duration::from_secs(5);

/// What the log writer measures.
pub struct Watch {
    /// `osPageCacheBusyTimeOutMills`.
    limit: Duration,
    /// After a write that took too long: how long it took, and until when nothing is taken.
    rest: Option<(u64, Mono)>,
    longest_write: Duration,
}

impl Watch {
    pub fn new(limit: Duration) -> Self {
        Watch { limit, rest: None, longest_write: Duration::ZERO }
    }

    /// A write returned that began at `began`.
    pub fn on_write(&mut self, began: Mono, now: Mono) {
        let took = now.since(began);
        self.longest_write = self.longest_write.max(took);
        if took >= self.limit {
            self.rest = Some((took.as_millis() as u64, now + took.min(REST_MAX)));
        }
    }

    /// Units: the longest time that one write of the log took since the start.
    pub fn longest_write(&self) -> Duration {
        self.longest_write
    }

    /// Whether appends are to be refused now. `oldest` is since when the oldest append waits, and
    /// `resource` what for.
    pub fn look(&mut self, now: Mono, oldest: Option<Mono>, resource: Resource) -> Option<Stall> {
        let waited = oldest.map_or(Duration::ZERO, |since| now.since(since));
        if waited >= self.limit {
            return Some(Stall { resource, waited_ms: waited.as_millis() as u64 });
        }
        self.rest = self.rest.filter(|(_, until)| now < *until);
        self.rest.map(|(waited_ms, _)| Stall { resource: Resource::Write, waited_ms })
    }

    /// When `look` may say something else.
    pub fn next_deadline(&self, now: Mono, oldest: Option<Mono>) -> Option<Mono> {
        let late = oldest.map(|since| since + self.limit).filter(|at| *at > now);
        late.into_iter().chain(self.rest.map(|(_, until)| until)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Mono {
        Mono(ms * 1_000_000)
    }

    #[test]
    fn only_an_append_that_has_waited_for_the_limit_is_a_stall() {
        let mut watch = Watch::new(Duration::from_secs(1));
        assert_eq!(watch.look(at(500), None, Resource::Sync), None);
        assert_eq!(watch.look(at(1999), Some(at(1000)), Resource::Sync), None);
        assert_eq!(watch.next_deadline(at(1999), Some(at(1000))), Some(at(2000)));
        let stall = watch.look(at(2000), Some(at(1000)), Resource::Sync);
        assert_eq!(stall, Some(Stall { resource: Resource::Sync, waited_ms: 1000 }));
        assert_eq!(watch.next_deadline(at(2000), Some(at(1000))), None);
        assert_eq!(watch.look(at(2001), Some(at(1900)), Resource::Sync), None);
    }

    #[test]
    fn a_write_that_took_too_long_gives_the_device_as_much_rest() {
        let mut watch = Watch::new(Duration::from_secs(1));
        watch.on_write(at(0), at(999));
        assert_eq!(watch.look(at(999), None, Resource::Write), None);
        watch.on_write(at(1000), at(2500));
        let stall = Stall { resource: Resource::Write, waited_ms: 1500 };
        assert_eq!(watch.look(at(3999), None, Resource::Sync), Some(stall));
        assert_eq!(watch.next_deadline(at(3999), None), Some(at(4000)));
        assert_eq!(watch.look(at(4000), None, Resource::Sync), None);
        watch.on_write(at(10_000), at(100_000));
        assert_eq!(watch.next_deadline(at(100_000), None), Some(at(105_000)));
        assert_eq!(watch.longest_write(), Duration::from_secs(90));
    }
}
