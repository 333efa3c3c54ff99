//! What recovery makes of the log: queue ends and entries from records, without any file.
//!
//! Source: CommitLog#recoverAbnormally, DefaultMessageStore#recoverTopicQueueTable (4.9.3).
//! Differs: every queue is made right from its own end (W-24, W-26), records of a deleted topic
//! stay deleted (W-29), and entries are written at the offset that the record says.

use super::dispatch;
use super::snapshot::{NO_ENTRY, Row, TopicFloors};
use crate::format::consume_queue_unit::{QueueUnit, SIZE};
use crate::format::message_unit::Dispatch;
use crate::model::{QueueId, QueueKey, TopicName, is_directory_name, sys_flag};
use std::collections::BTreeMap;

/// More missing entries in a row are not believed: the record's queue offset was damaged.
pub const GAP_MAX: u64 = 1 << 20;

/// The same in files, which are made for them: small queue files must not become too many.
const GAP_FILES_MAX: u64 = 1024;

/// A queue file's place has 63 bits: no queue can have come further. Units: entries.
pub const QUEUE_OFFSET_MAX: u64 = i64::MAX as u64 / SIZE as u64 / 2;

/// A queue that is being made right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    /// The first offset that is known; entries below are as they are in the files.
    pub first: u64,
    pub end: u64,
    pub last_physical: u64,
    /// Whether a record was seen: otherwise everything is as the snapshot said.
    pub seen: bool,
    run_from: u64,
    run: Vec<QueueUnit>,
}

/// A run of entries to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub key: QueueKey,
    pub from: u64,
    pub units: Vec<QueueUnit>,
}

pub struct Rebuild {
    levels_ms: Vec<i64>,
    /// Units: entries missing in a row that are believed.
    gap_max: u64,
    floors: TopicFloors,
    queues: BTreeMap<TopicName, BTreeMap<QueueId, Rebuilt>>,
    /// The scan begins at the log's start, nothing else is known about queues.
    full: bool,
    /// Units: entries in runs.
    pending: usize,
    /// The snapshot and the log do not fit together: the whole log must be scanned.
    pub contradicted: bool,
    /// Records whose queue offset was given before.
    pub repeated: u64,
    /// Records that enter no queue because their topic is a path.
    pub misnamed: u64,
    /// Units: entries written by recovery.
    pub entries: u64,
}

impl Rebuild {
    /// `rows` are the queues where the scan begins; `None` when it begins at the log's start.
    /// Queue files have `file_entries` each.
    pub fn new(
        rows: Option<&[Row]>,
        floors: TopicFloors,
        levels_ms: &[i64],
        file_entries: u64,
    ) -> Self {
        let mut queues: BTreeMap<TopicName, BTreeMap<QueueId, Rebuilt>> = BTreeMap::new();
        for row in rows.unwrap_or_default() {
            let rebuilt = Rebuilt {
                first: row.min,
                end: row.end,
                last_physical: row.last_physical,
                seen: false,
                run_from: row.end,
                run: Vec::new(),
            };
            let topic = queues.entry(row.key.topic.clone()).or_default();
            topic.insert(row.key.queue, rebuilt);
        }
        Rebuild {
            levels_ms: levels_ms.to_vec(),
            gap_max: GAP_MAX.min(file_entries.saturating_mul(GAP_FILES_MAX)),
            floors,
            queues,
            full: rows.is_none(),
            pending: 0,
            contradicted: false,
            repeated: 0,
            misnamed: 0,
            entries: 0,
        }
    }

    /// Units: entries that wait to be taken.
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// The next record of the log.
    pub fn on_record(&mut self, record: &Dispatch<'_>) {
        let deleted = record.physical_offset.0 < self.floors.of(record.topic);
        if deleted || !sys_flag::is_queued(record.sys_flag) {
            return;
        }
        if !is_directory_name(record.topic) {
            crate::rt::probe!("store: recovery met a topic that is a path");
            self.misnamed += 1;
            return;
        }
        let tags_code = dispatch::tags_code_of(record, &self.levels_ms);
        let (physical_offset, size) = (record.physical_offset, record.size);
        let unit = QueueUnit { physical_offset, size, tags_code };
        let offset = record.queue_offset.0;
        if !self.queues.contains_key(record.topic) {
            self.queues.insert(TopicName::new(record.topic), BTreeMap::new());
        }
        let topic = self.queues.get_mut(record.topic).expect("it was put there");
        let queue = topic.entry(record.queue_id).or_insert_with(|| {
            // Only a scan of the whole log may find a queue that does not begin at 0.
            self.contradicted |= !self.full && offset > 0;
            let first = if offset > QUEUE_OFFSET_MAX { 0 } else { offset };
            Rebuilt {
                first,
                end: first,
                last_physical: NO_ENTRY,
                seen: false,
                run_from: first,
                run: Vec::new(),
            }
        });
        queue.seen = true;
        if offset == 0 && queue.end > 0 {
            // The queue began anew: its topic was made again, or Java had lost the queue.
            crate::rt::probe!("store: recovery met a queue that began anew");
            self.pending -= queue.run.len();
            *queue = Rebuilt { first: 0, end: 0, run_from: 0, run: Vec::new(), ..*queue };
        } else if offset < queue.end {
            self.repeated += 1;
            return;
        } else if offset > queue.end && offset - queue.end <= self.gap_max {
            self.contradicted |= !self.full;
            let missing = (offset - queue.end) as usize;
            queue.run.extend(std::iter::repeat_n(QueueUnit::BLANK, missing));
            queue.end = offset;
            self.pending += missing;
        }
        queue.run.push(unit);
        queue.end += 1;
        queue.last_physical = record.physical_offset.0;
        self.pending += 1;
        self.entries += 1;
    }

    /// The runs collected so far.
    pub fn take_runs(&mut self) -> Vec<Run> {
        let mut runs = Vec::new();
        for (topic, queues) in &mut self.queues {
            for (id, queue) in queues {
                if !queue.run.is_empty() {
                    let key = QueueKey { topic: topic.clone(), queue: *id };
                    let units = std::mem::take(&mut queue.run);
                    runs.push(Run { key, from: queue.run_from, units });
                }
                queue.run_from = queue.end;
            }
        }
        self.pending = 0;
        runs
    }

    pub fn finish(self) -> BTreeMap<QueueKey, Rebuilt> {
        let mut all = BTreeMap::new();
        for (topic, queues) in self.queues {
            for (queue, rebuilt) in queues {
                all.insert(QueueKey { topic: topic.clone(), queue }, rebuilt);
            }
        }
        all
    }
}

/// A queue that the scan saw no record of.
pub fn unseen(end: u64, last_physical: u64) -> Rebuilt {
    Rebuilt { first: end, end, last_physical, seen: false, run_from: end, run: Vec::new() }
}

/// The end of a queue that no record was seen of: after its last entry that `counts`. `entries` are
/// those of its last file, the first has offset `from`. `blanks_count`: messages of the log may be
/// gone, and blank entries stand for their offsets.
pub fn end_without_records(
    entries: &[QueueUnit],
    from: u64,
    counts: impl Fn(&QueueUnit) -> bool,
    blanks_count: bool,
) -> Option<(u64, u64)> {
    let is_entry = |unit: &QueueUnit| !unit.is_empty() && !unit.is_blank();
    if let Some(last) = entries.iter().rposition(|unit| is_entry(unit) && counts(unit)) {
        return Some((from + last as u64 + 1, entries[last].physical_offset.0));
    }
    // Only what stands before a first entry: offsets that were given and are gone (W-27).
    let blanks = entries.iter().take_while(|unit| unit.is_blank()).count();
    (blanks > 0 && blanks_count).then(|| (from + blanks as u64, NO_ENTRY))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{PhysicalOffset, QueueOffset, WallMillis};

    fn record(topic: &'static str, offset: u64, at: u64) -> Dispatch<'static> {
        Dispatch {
            topic,
            queue_id: QueueId(0),
            queue_offset: QueueOffset(offset),
            physical_offset: PhysicalOffset(at),
            size: 100,
            sys_flag: 0,
            store_timestamp: WallMillis(0),
            tags_code: 0,
            delay_level: 0,
            keys: b"",
            unique_key: None,
        }
    }
    fn key(topic: &str) -> QueueKey {
        QueueKey { topic: TopicName::new(topic), queue: QueueId(0) }
    }
    fn ends(rebuild: Rebuild) -> Vec<(u64, u64)> {
        rebuild.finish().values().map(|q| (q.first, q.end)).collect()
    }

    #[test]
    fn a_queue_goes_on_where_the_snapshot_ended() {
        let rows = [Row { key: key("T"), min: 2, end: 5, last_physical: 90 }];
        let mut rebuild = Rebuild::new(Some(&rows), TopicFloors::default(), &[], 300_000);
        rebuild.on_record(&record("T", 5, 100));
        rebuild.on_record(&record("U", 0, 200));
        let runs = rebuild.take_runs();
        assert_eq!(
            runs.iter().map(|r| (r.from, r.units.len())).collect::<Vec<_>>(),
            [(5, 1), (0, 1)]
        );
        rebuild.on_record(&record("T", 6, 300));
        assert_eq!(rebuild.take_runs()[0].from, 6);
        assert!(!rebuild.contradicted);
        assert_eq!(ends(rebuild), [(2, 7), (0, 1)]);
    }

    #[test]
    fn a_gap_below_the_snapshot_asks_for_the_whole_log() {
        let rows = [Row { key: key("T"), min: 0, end: 5, last_physical: 90 }];
        let mut rebuild = Rebuild::new(Some(&rows), TopicFloors::default(), &[], 300_000);
        rebuild.on_record(&record("T", 7, 100));
        assert!(rebuild.contradicted);
        let mut rebuild = Rebuild::new(Some(&[]), TopicFloors::default(), &[], 300_000);
        rebuild.on_record(&record("T", 3, 100));
        assert!(rebuild.contradicted);
    }

    #[test]
    fn deleted_messages_stay_deleted_and_a_new_beginning_wins() {
        let floors = TopicFloors([(TopicName::new("T"), 300)].into());
        let mut rebuild = Rebuild::new(None, floors, &[], 300_000);
        for n in 0..3 {
            rebuild.on_record(&record("T", n, n * 100));
            rebuild.on_record(&record("U", n, 1000 + n * 100));
        }
        rebuild.on_record(&record("T", 0, 300));
        rebuild.on_record(&record("U", 0, 2000));
        rebuild.on_record(&record("U", 0, 2100)); // begins anew once more
        assert_eq!(ends(rebuild), [(0, 1), (0, 1)]);
    }

    #[test]
    fn missing_entries_are_blank_and_repeats_are_dropped() {
        let mut rebuild = Rebuild::new(None, TopicFloors::default(), &[], 300_000);
        rebuild.on_record(&record("T", 4, 0));
        rebuild.on_record(&record("T", 7, 100));
        rebuild.on_record(&record("T", 6, 200));
        rebuild.on_record(&record("T", u64::MAX / 2, 300));
        let runs = rebuild.take_runs();
        let blank: Vec<bool> = runs[0].units.iter().map(QueueUnit::is_blank).collect();
        assert_eq!((runs[0].from, blank), (4, vec![false, true, true, false, false]));
        assert_eq!(rebuild.repeated, 1);
    }

    #[test]
    fn a_damaged_queue_offset_makes_no_place_that_cannot_be_and_few_files() {
        let mut rebuild = Rebuild::new(None, TopicFloors::default(), &[], 8);
        rebuild.on_record(&record("T", u64::MAX / 2, 0));
        rebuild.on_record(&record("T", 1 + 8 * GAP_FILES_MAX, 100));
        rebuild.on_record(&record("T", 2 + 8 * GAP_FILES_MAX, 200));
        let runs = rebuild.take_runs();
        assert_eq!((runs[0].from, runs[0].units.len() as u64), (0, 3 + 8 * GAP_FILES_MAX));
        rebuild.on_record(&record("U", 0, 300));
        rebuild.on_record(&record("U", 9 * GAP_FILES_MAX, 400));
        assert_eq!(ends(rebuild), [(0, 3 + 8 * GAP_FILES_MAX), (0, 2)]);
    }
}
