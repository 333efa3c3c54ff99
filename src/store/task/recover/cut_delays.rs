//! `hotfire/cut_delays`: how many deliveries of each delay level a cut took off the log. Their
//! messages wait again, and whoever keeps the progress of the levels must go back by so many.

use super::log_files::{Found, LogFiles};
use crate::disk::{Disk, read_small, replace_small};
use crate::format::message_unit::{self, Unit, View};
use crate::model::PhysicalOffset;
use crate::store::dispatch::SCHEDULE_TOPIC;
use crate::store::error::Error;
use crate::store::options::Options;
use std::collections::BTreeMap;
use std::io;

/// Deliveries by queue of the schedule topic.
pub type CutDelays = BTreeMap<u32, u64>;

const ROW_SIZE: usize = 12;
const SIZE_MAX: u64 = 1 << 20;

fn path(options: &Options) -> String {
    format!("{}/cut_delays", options.own_dir())
}

/// Counts what lies behind `to`, before it is cut off. Durable on return. A try that is repeated
/// counts again: then more is delivered again, and nothing is left out.
pub async fn note(
    disk: &dyn Disk,
    options: &Options,
    log: &mut LogFiles,
    to: u64,
) -> Result<(), Error> {
    let mut all = load(disk, options);
    let mut at = to.max(log.first);
    while at < log.end {
        at = match log.look(at).await {
            Ok((Found::Record { end }, bytes)) => {
                if let Ok(Unit::Record(view)) =
                    message_unit::decode(&bytes, PhysicalOffset(at), false)
                    && let Some(queue) = delivered_from(&view, options.delay_levels_ms.len())
                {
                    *all.entry(queue).or_default() += 1;
                }
                end
            }
            Ok((Found::Blank, _)) => log.base_of(at) + log.size,
            Ok((Found::Nothing, _)) => break,
            Ok((Found::Bad(_), _)) | Err(_) => log.find_next(at + 1, log.end).await,
        };
    }
    if all.is_empty() {
        return Ok(());
    }
    crate::rt::probe!("store: a cut took deliveries of delayed messages");
    let saved = replace_small(disk, &path(options), &encode(&all)).await;
    saved.map_err(Error::io("write hotfire/cut_delays"))
}

/// The queue of the schedule topic that a record was delivered from.
fn delivered_from(view: &View<'_>, levels: usize) -> Option<u32> {
    let level = usize::try_from(view.dispatch().delay_level).ok()?.min(levels);
    let is_delivery = level > 0 && view.topic() != SCHEDULE_TOPIC;
    is_delivery.then(|| level as u32 - 1)
}

/// Empty when no cut took any.
pub fn load(disk: &dyn Disk, options: &Options) -> CutDelays {
    match read_small(disk, &path(options), SIZE_MAX).map(|bytes| decode(&bytes)) {
        Ok(Some(all)) => all,
        Err(e) if e.kind() == io::ErrorKind::NotFound => CutDelays::new(),
        _ => {
            tracing::error!(
                "hotfire/cut_delays cannot be read: delayed messages whose delivery was cut off do \
                 not come again"
            );
            CutDelays::new()
        }
    }
}

/// The progress of the levels has gone back, durably.
pub fn forget(disk: &dyn Disk, options: &Options) -> io::Result<()> {
    match disk.remove(&path(options)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn encode(all: &CutDelays) -> Vec<u8> {
    let mut out = Vec::with_capacity(all.len() * ROW_SIZE + 4);
    for (queue, count) in all {
        out.extend_from_slice(&queue.to_be_bytes());
        out.extend_from_slice(&count.to_be_bytes());
    }
    let sum = crc32fast::hash(&out);
    out.extend_from_slice(&sum.to_be_bytes());
    out
}

fn decode(bytes: &[u8]) -> Option<CutDelays> {
    let (rows, sum) = bytes.split_last_chunk::<4>()?;
    if crc32fast::hash(rows) != u32::from_be_bytes(*sum) || rows.len() % ROW_SIZE != 0 {
        return None;
    }
    let row = |row: &[u8]| {
        let (queue, count) = row.split_first_chunk::<4>()?;
        Some((u32::from_be_bytes(*queue), u64::from_be_bytes(*count.first_chunk()?)))
    };
    rows.chunks_exact(ROW_SIZE).map(row).collect()
}
