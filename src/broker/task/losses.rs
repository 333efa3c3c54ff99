//! Says which groups lost messages to the deletion of old files: never silently.

use super::super::driver::Shared;
use super::super::losses;
use crate::rt::sync::mpsc;
use crate::rt::task::{Stop, yield_now};
use crate::store::Deleted;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Rounds of deletions that wait to be told; they come ten seconds apart.
pub const ROUNDS_MAX: usize = 16;

/// Lines per round of deletions: more groups are counted, not named.
const LINES_MAX: usize = 20;

pub async fn run(shared: Arc<Shared>, mut inbox: mpsc::Receiver<Deleted>, mut stop: Stop) {
    loop {
        let deleted = crate::rt::select! {
            _ = stop.wait() => return,
            deleted = inbox.recv() => deleted,
        };
        let Some(deleted) = deleted else { return };
        tell(&shared, &deleted).await;
    }
}

async fn tell(shared: &Shared, deleted: &Deleted) {
    let (mut pairs, mut messages) = (0, 0);
    for cuts in deleted.queues.chunk_by(|a, b| a.key.topic == b.key.topic) {
        let lost = losses::of_topic(cuts, &shared.core.lock().offsets);
        for loss in lost {
            (pairs, messages) = (pairs + 1, messages + loss.count);
            if pairs <= LINES_MAX {
                tracing::warn!(
                    "deleted before it was consumed: topic {}, group {}: {} messages in {} queues",
                    loss.topic,
                    loss.group,
                    loss.count,
                    loss.queues
                );
            }
        }
        yield_now().await;
    }
    if pairs > 0 {
        crate::rt::probe!("broker: a group lost messages to retention");
        shared.deleted_unconsumed.fetch_add(messages, Ordering::Relaxed);
        tracing::warn!(
            "{messages} messages of {pairs} groups and topics were deleted before they were \
             consumed ({} files, the log begins at {} now: {})",
            deleted.files,
            deleted.min,
            deleted.why
        );
    }
}
