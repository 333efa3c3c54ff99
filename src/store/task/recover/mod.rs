//! Makes a store directory right before it is used, whatever ended its last process.
//!
//! Source: DefaultMessageStore#load, CommitLog#recoverNormally, #recoverAbnormally (4.9.3).
//! Differs: the lock is taken first (W-12); the scan begins where the snapshot ends instead of at
//! a time (W-15, W-24); what is not known durable is written again (W-01); the tail is made zero
//! (W-07); rot below the floor never truncates (W-11).
//!
//! Only writes that may be repeated are made, so that a crash in the middle costs nothing.

mod cut;
pub mod cut_back;
pub mod cut_progress;
mod evidence;
mod listing;
mod lock;
mod log_files;
mod log_tail;
mod outcome;
mod queue_dirs;
mod queue_ends;
mod scan;

pub use lock::{lock, rewrite_path};

use crate::disk::Disk;
use crate::model::PhysicalOffset;
use crate::rt::fault;
use crate::rt::time::Clock;
use crate::store::error::{Error, RecoveryReport};
use crate::store::options::Options;
use crate::store::state::State;
use evidence::{forget_snapshot, look, trusted};
use lock::{begin_rewrite, end_rewrite, mark_running};
use log_tail::settle_log;
use outcome::{build, finish};
use queue_ends::settle_queues;
use scan::{report_last, scan};
use std::sync::Arc;

/// Durable on return: the log up to its end, zeros behind it, all queue entries.
pub async fn recover(
    disk: &Arc<dyn Disk>,
    clock: &Clock,
    options: &Options,
) -> Result<(State, RecoveryReport), Error> {
    cut_back::run(disk, options).await?;
    let mut found = look(disk, options).await?;
    let trusted = trusted(disk, options, &mut found).await?;
    let (unclean, removed) = (found.unclean, std::mem::take(&mut found.removed));
    let mut report = RecoveryReport { unclean, removed, ..RecoveryReport::default() };
    report.floor = PhysicalOffset(trusted);
    mark_running(disk, options).await?;
    if found.snapshot.is_none() {
        forget_snapshot(disk, options).await?;
    }
    let writes = found.unclean || found.snapshot.is_none();
    if writes {
        found.queues.cuts_again = begin_rewrite(disk, options)?;
        found.queues.compares = !found.queues.cuts_again;
    }
    let (mut end, mut rebuild) = scan(&mut found, options, clock, trusted, &mut report).await?;
    if rebuild.contradicted {
        crate::rt::probe!("store: recovery scanned the whole log after a contradiction");
        tracing::warn!("the snapshot of the queues does not fit the log: scanning all of it");
        found.snapshot = None;
        forget_snapshot(disk, options).await?;
        (end, rebuild) = scan(&mut found, options, clock, trusted, &mut report).await?;
    }
    let mut last = report_last(&found, end.last);
    if let Some(last) = &mut last {
        last.store_timestamp = found.log.stored_at(last.at).await.unwrap_or_default();
    }
    settle_log(disk, options, &mut found, end.durable, end.at, &mut report).await?;
    fault::point("store: log recovered").await;
    let queues = settle_queues(&mut found, options, rebuild, end.at, &mut report).await?;
    fault::point("store: queues recovered").await;
    let state = build(clock, options, &found, queues, end.at, last);
    let state = finish(disk, options, found, state, last, &mut report).await?;
    if writes {
        end_rewrite(disk, options)?;
    }
    fault::point("store: recovered").await;
    tracing::info!(
        "the log reaches from {} to {}, {} queues, {} records scanned from {}",
        report.min,
        report.end,
        report.queues,
        report.scanned_records,
        report.scanned_from
    );
    Ok((state, report))
}
