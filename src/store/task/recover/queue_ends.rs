//! The queue files become what the scan found.

use super::evidence::Evidence;
use crate::store::consume_queue::{Queue, Queues};
use crate::store::error::{Error, RecoveryReport};
use crate::store::options::Options;
use crate::store::recovery::{Rebuild, unseen};

/// Makes the queue files what the scan found, and returns the queues.
pub async fn settle_queues(
    found: &mut Evidence,
    options: &Options,
    rebuild: Rebuild,
    end: u64,
    report: &mut RecoveryReport,
) -> Result<Queues, Error> {
    let log_min = found.log.first;
    let as_left = !found.unclean && report.scanned_records == 0 && found.snapshot.is_some();
    let same_min = found.snapshot.as_ref().is_some_and(|s| s.log_min == log_min);
    let mut rebuilt = rebuild.finish();
    let scanned_from = if found.log.first == found.log.end { 0 } else { report.scanned_from.0 };
    for key in found.queues.files.keys() {
        if !rebuilt.contains_key(key) {
            let from = (log_min, found.topic_floors.of(&key.topic));
            let (end, last_physical) =
                found.queues.own_end(key, scanned_from.min(end), from).await?;
            rebuilt.insert(key.clone(), unseen(end, last_physical));
        }
    }
    let mut queues = Queues::new(options.queue_run_entries);
    for (key, mut queue) in rebuilt {
        found.queues.count_rot(&key, &mut queue).await;
        if !as_left || queue.end == 0 {
            found.queues.cut(&key, queue.end).await?;
        }
        let min = match (queue.seen, same_min) {
            (true, _) if found.snapshot.is_none() => queue.first,
            (_, true) => queue.first,
            _ => found.queues.min(&key, queue.end, log_min).await?,
        };
        queues.add(Queue::new(key, min, queue.end, queue.last_physical));
    }
    found.queues.sync().await?;
    report.repaired_entries = found.queues.repaired;
    report.queues = queues.count();
    Ok(queues)
}
