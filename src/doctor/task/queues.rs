//! Queue entries against the records that they name.

use super::layout::Shape;
use crate::disk::{Disk, File};
use crate::doctor::driver::Progress;
use crate::doctor::options::Options;
use crate::doctor::report::Report;
use crate::format::consume_queue_unit::{QueueUnit, SIZE};
use crate::format::message_unit::{self, Unit};
use crate::model::QueueKey;
use crate::rt::task::yield_now;
use crate::store::{Rehearsal, segment_name};
use std::io;
use std::sync::Arc;

const ADVICE: &str = "remove the queue's directory and hotfire/queues while the broker is stopped: \
                      a start makes the queue again from the log";

/// Entries looked at between two turns of others.
const TURN_ENTRIES: u64 = 64;

struct Looker<'a> {
    disk: &'a dyn Disk,
    options: &'a Options,
    shape: &'a Shape,
    report: &'a mut Report,
    /// The log's file that was read last.
    open: Option<(u64, Arc<dyn File>)>,
}

/// Every entry with `deep`, otherwise the ends of each queue and some between.
pub async fn look(
    disk: &dyn Disk,
    shape: &Shape,
    start: &Rehearsal,
    options: &Options,
    report: &mut Report,
    progress: &dyn Progress,
) {
    let looks = |min: u64, end: u64| {
        if options.deep { end - min } else { (end - min).min(options.queue_sample) }
    };
    let total = start.queues.iter().map(|(_, min, end)| looks(min.0, end.0)).sum();
    progress.begin("checking queue entries", total);
    let mut looker = Looker { disk, options, shape, report, open: None };
    let mut done = 0;
    for (key, min, end) in &start.queues {
        let count = end.0 - min.0;
        looker.report.queues.entries += count;
        let chosen = looks(min.0, end.0);
        for n in 0..chosen {
            // The first, the last, and evenly between.
            let step = if chosen > 1 { n * (count - 1) / (chosen - 1) } else { 0 };
            if let Err(error) = looker.entry(key, min.0 + step) {
                let place = format!("{}/{}", key.topic, key.queue);
                looker.report.error("unreadable", &place, error.to_string(), "");
            }
            done += 1;
            if done % TURN_ENTRIES == 0 {
                progress.at(done);
                yield_now().await;
            }
        }
    }
}

impl Looker<'_> {
    fn entry(&mut self, key: &QueueKey, offset: u64) -> io::Result<()> {
        let (size, at) = (self.shape.queue_file_size, offset * SIZE as u64);
        let starts = self.shape.queues.get(key);
        let base = if size > 0 { at - at % size } else { 0 };
        if starts.is_none_or(|starts| starts.binary_search(&base).is_err()) {
            self.mismatch(key, offset, "is in no file; a start makes it".to_owned());
            return Ok(());
        }
        let dir = format!("{}/consumequeue/{}/{}", self.options.root, key.topic, key.queue);
        let file = self.disk.open(&format!("{dir}/{}", segment_name(base)))?;
        let bytes = file.read_at(at - base, SIZE)?;
        self.report.queues.entries_checked += 1;
        let unit = QueueUnit::decode(&bytes).filter(|unit| !unit.is_blank() && !unit.is_empty());
        let Some(unit) = unit else {
            self.mismatch(key, offset, "is empty; a start makes it again".to_owned());
            return Ok(());
        };
        if let Err(what) = self.record(key, offset, &unit)? {
            self.mismatch(key, offset, what);
        }
        Ok(())
    }

    /// What does not fit between an entry and its record.
    fn record(
        &mut self,
        key: &QueueKey,
        offset: u64,
        unit: &QueueUnit,
    ) -> io::Result<Result<(), String>> {
        let (at, size) = (unit.physical_offset.0, u64::from(unit.size));
        let (first, end) = (self.report.log.min, self.report.log.end);
        if at < first {
            return Ok(Ok(())); // its record has expired
        }
        let base = at - at % self.shape.segment_size.max(1);
        if at >= end || at + size > (base + self.shape.segment_size).min(end) {
            return Ok(Err(format!("points to {at}, size {size}, the log ends at {end}")));
        }
        let bytes = self.file(base)?.read_at(at - base, size as usize)?;
        let view = match message_unit::decode(&bytes, unit.physical_offset, false) {
            Ok(Unit::Record(view)) => view,
            Ok(_) => return Ok(Err(format!("points to {at}, where no record begins"))),
            Err(error) => return Ok(Err(format!("points to {at}: {error}"))),
        };
        if view.size() as u64 != size {
            return Ok(Err(format!("says {size} bytes, the record at {at} has {}", view.size())));
        }
        // A light queue's entries lead to records of other topics.
        if key.topic.starts_with("%LMQ%") {
            return Ok(Ok(()));
        }
        let (topic, queue, own) = (view.topic(), view.queue_id(), view.queue_offset().0);
        if (topic, queue) != (&*key.topic, key.queue) {
            return Ok(Err(format!("leads to a record of {topic} queue {queue}, at {at}")));
        }
        if own != offset {
            return Ok(Err(format!("leads to the record of offset {own}, at {at}")));
        }
        Ok(Ok(()))
    }

    fn file(&mut self, base: u64) -> io::Result<Arc<dyn File>> {
        if let Some((open, file)) = &self.open
            && *open == base
        {
            return Ok(file.clone());
        }
        let path = self.shape.segments.get(&base).ok_or(io::ErrorKind::NotFound)?;
        let file = self.disk.open(path)?;
        self.open = Some((base, file.clone()));
        Ok(file)
    }

    fn mismatch(&mut self, key: &QueueKey, offset: u64, what: String) {
        self.report.queues.mismatches += 1;
        let place = format!("{}/{}", key.topic, key.queue);
        self.report.warn("queue", &place, format!("entry {offset} {what}"), ADVICE);
    }
}
