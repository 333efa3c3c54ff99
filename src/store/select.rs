//! Which entries a read takes, and what it says when it takes none.
//!
//! Source: DefaultMessageStore#getMessage (4.9.3).
//! Differs: a scan may cross the end of a queue file, and the bound on what is scanned counts
//! entries.

use super::options::Options;
use super::read::{ReadLimits, ReadResult, ReadStatus};
use crate::format::consume_queue_unit::QueueUnit;
use crate::model::QueueOffset;

/// The bounds of a queue and of the log at the moment of the read.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub min: u64,
    pub end: u64,
    /// The queue's end as readers may have seen it before the log was poisoned.
    pub seen_end: u64,
    /// The oldest byte that the log still has.
    pub log_min: u64,
    /// Everything below may be seen.
    pub visible: u64,
}

impl Bounds {
    /// The answer that needs no entry: the offset lies outside of the queue.
    pub fn outside(&self, from: u64) -> Option<ReadResult> {
        let (status, next) = match from {
            _ if self.seen_end == 0 => (ReadStatus::NoMessageInQueue, 0),
            _ if from < self.min => (ReadStatus::OffsetTooSmall, self.min),
            _ if (self.end..=self.seen_end).contains(&from) => {
                (ReadStatus::OffsetOverflowOne, from)
            }
            _ if from > self.end && self.min == 0 => (ReadStatus::OffsetOverflowBadly, 0),
            _ if from > self.end => (ReadStatus::OffsetOverflowBadly, self.end),
            _ => return None,
        };
        Some(self.empty(status, next))
    }

    pub fn empty(&self, status: ReadStatus, next: u64) -> ReadResult {
        ReadResult {
            status,
            next: QueueOffset(next),
            min: QueueOffset(self.min),
            max: QueueOffset(self.end),
            messages: Vec::new(),
            count: 0,
            size: 0,
            suggest_slave: false,
        }
    }
}

/// What a read takes.
#[derive(Debug)]
pub struct Selection {
    pub status: ReadStatus,
    pub next: u64,
    pub picked: Vec<QueueUnit>,
    pub suggest_slave: bool,
}

/// Walks over `entries`, which begin at offset `from`. The first message is always taken, whatever
/// its size.
pub fn select<'a>(
    bounds: &Bounds,
    options: &Options,
    limits: &ReadLimits,
    from: u64,
    entries: impl Iterator<Item = &'a QueueUnit>,
    filter: &dyn Fn(i64) -> bool,
) -> Selection {
    let mut out = Selection {
        status: ReadStatus::NoMatchedMessage,
        next: from,
        picked: Vec::new(),
        suggest_slave: false,
    };
    let (mut size, mut last) = (0, None);
    let visible = usize::try_from(bounds.end.saturating_sub(from)).unwrap_or(usize::MAX);
    for unit in entries.take(options.read_scan_max.max(limits.count).min(visible)) {
        let at = unit.physical_offset.0;
        if unit.is_blank() || unit.is_empty() || at < bounds.log_min {
            // The record went away with its segment, or never had an entry here.
            if out.picked.is_empty() {
                out.status = ReadStatus::MessageWasRemoving;
            }
            out.next += 1;
            continue;
        }
        let cold = bounds.visible.saturating_sub(at) > options.memory_size_bytes;
        if is_full(options, limits, cold, out.picked.len(), size, unit.size as usize) {
            break;
        }
        out.next += 1;
        last = Some(at);
        if filter(unit.tags_code) {
            size += unit.size as usize;
            out.picked.push(*unit);
            out.status = ReadStatus::Found;
        } else if out.picked.is_empty() {
            out.status = ReadStatus::NoMatchedMessage;
        }
    }
    out.suggest_slave =
        last.is_some_and(|at| bounds.visible.saturating_sub(at) > options.memory_size_bytes);
    out
}

/// Source: DefaultMessageStore#isTheBatchFull (4.9.3).
fn is_full(
    options: &Options,
    limits: &ReadLimits,
    cold: bool,
    count: usize,
    size: usize,
    more: usize,
) -> bool {
    let (count_max, size_max) = if cold {
        (options.read_cold_count_max, options.read_cold_size_max_bytes)
    } else {
        (options.read_hot_count_max, options.read_hot_size_max_bytes)
    };
    count > 0 && (count >= limits.count || count >= count_max || size + more > size_max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PhysicalOffset;

    fn units(n: u64) -> Vec<QueueUnit> {
        let unit = |n| QueueUnit {
            physical_offset: PhysicalOffset(n * 100),
            size: 100,
            tags_code: n as i64 % 2,
        };
        (0..n).map(unit).collect()
    }
    const BOUNDS: Bounds = Bounds { min: 3, end: 10, seen_end: 10, log_min: 0, visible: 1000 };
    const LIMITS: ReadLimits = ReadLimits { count: 3 };

    #[test]
    fn offsets_outside_of_the_queue_are_answered_as_java_does() {
        use ReadStatus::*;
        let answer = |b: Bounds, from| b.outside(from).map(|r| (r.status, r.next.0));
        let from_zero = Bounds { min: 0, ..BOUNDS };
        let empty = Bounds { end: 0, min: 0, seen_end: 0, ..BOUNDS };
        assert_eq!(answer(empty, 7), Some((NoMessageInQueue, 0)));
        assert_eq!(answer(BOUNDS, 2), Some((OffsetTooSmall, 3)));
        assert_eq!(answer(BOUNDS, 10), Some((OffsetOverflowOne, 10)));
        assert_eq!(answer(BOUNDS, 11), Some((OffsetOverflowBadly, 10)));
        assert_eq!(answer(from_zero, 11), Some((OffsetOverflowBadly, 0)));
        assert_eq!(answer(BOUNDS, 3), None);
        let poisoned = Bounds { end: 8, ..BOUNDS };
        assert_eq!(answer(poisoned, 7), None);
        assert_eq!(answer(poisoned, 9), Some((OffsetOverflowOne, 9)), "nobody is sent back");
        assert_eq!(answer(poisoned, 11), Some((OffsetOverflowBadly, 8)));
    }

    #[test]
    fn a_read_takes_what_matches_up_to_its_limits() {
        let options = Options::new("x");
        let units = units(10);
        let s = select(&BOUNDS, &options, &LIMITS, 0, units.iter(), &|code| code == 1);
        assert_eq!((s.status, s.next, s.picked.len()), (ReadStatus::Found, 6, 3));
        let s = select(&BOUNDS, &options, &LIMITS, 0, units.iter(), &|_| false);
        assert_eq!((s.status, s.next), (ReadStatus::NoMatchedMessage, 10));
        let gone = Bounds { log_min: 500, ..BOUNDS };
        let s = select(&gone, &options, &LIMITS, 0, units[..5].iter(), &|_| true);
        assert_eq!((s.status, s.next), (ReadStatus::MessageWasRemoving, 5));
    }

    #[test]
    fn cold_reads_are_smaller_but_take_one_message_of_any_size() {
        let cold =
            Options { memory_size_bytes: 10, read_cold_size_max_bytes: 50, ..Options::new("x") };
        let s = select(&BOUNDS, &cold, &LIMITS, 0, units(5).iter(), &|_| true);
        assert_eq!((s.picked.len(), s.next, s.suggest_slave), (1, 1, true));
    }
}
