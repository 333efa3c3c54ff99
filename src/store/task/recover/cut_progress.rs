//! `hotfire/cut_progress`: what a cut took off the log that whoever keeps progress took for done:
//! deliveries of delayed messages, and ends of half messages. That progress must go back.

use super::log_files::{Found, LogFiles};
use crate::disk::{Disk, read_small, replace_small};
use crate::format::message_unit::{self, Unit, View};
use crate::format::op_message;
use crate::model::{PhysicalOffset, QueueOffset};
use crate::store::dispatch::SCHEDULE_TOPIC;
use crate::store::error::Error;
use crate::store::options::Options;
use std::collections::BTreeMap;
use std::io;

/// What cuts took since `forget`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CutProgress {
    /// How many deliveries, by queue of the schedule topic.
    pub deliveries: BTreeMap<u32, u64>,
    /// The first half message that an op message named.
    pub first_half: Option<QueueOffset>,
}

const ROW_SIZE: usize = 12;
const SIZE_MAX: u64 = 1 << 20;
/// No op message was taken.
const NO_HALF: u64 = u64::MAX;

impl CutProgress {
    pub fn is_empty(&self) -> bool {
        self.deliveries.is_empty() && self.first_half.is_none()
    }

    fn take(&mut self, view: &View<'_>, levels: usize) {
        if let Some(queue) = delivered_from(view, levels) {
            *self.deliveries.entry(queue).or_default() += 1;
        }
        if let Some(half) = op_message::half_of(view) {
            self.first_half = Some(self.first_half.map_or(half, |first| first.min(half)));
        }
    }
}

fn path(options: &Options) -> String {
    format!("{}/cut_progress", options.own_dir())
}

/// Notes what lies behind `to`, before it is cut off. Durable on return. A try that is repeated
/// counts again: then more is done again, and nothing is left out.
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
                let unit = message_unit::decode(&bytes, PhysicalOffset(at), false);
                if let Ok(Unit::Record(view)) = unit {
                    all.take(&view, options.delay_levels_ms.len());
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
    if !all.deliveries.is_empty() {
        crate::rt::probe!("store: a cut took deliveries of delayed messages");
    }
    if all.first_half.is_some() {
        crate::rt::probe!("store: a cut took ends of half messages");
    }
    let saved = replace_small(disk, &path(options), &encode(&all)).await;
    saved.map_err(Error::io("write hotfire/cut_progress"))
}

/// The queue of the schedule topic that a record was delivered from.
fn delivered_from(view: &View<'_>, levels: usize) -> Option<u32> {
    let level = usize::try_from(view.dispatch().delay_level).ok()?.min(levels);
    let is_delivery = level > 0 && view.topic() != SCHEDULE_TOPIC;
    is_delivery.then(|| level as u32 - 1)
}

/// Empty when no cut took any.
pub fn load(disk: &dyn Disk, options: &Options) -> CutProgress {
    match read_small(disk, &path(options), SIZE_MAX).map(|bytes| decode(&bytes)) {
        Ok(Some(all)) => all,
        Err(e) if e.kind() == io::ErrorKind::NotFound => CutProgress::default(),
        _ => {
            tracing::error!(
                "hotfire/cut_progress cannot be read: delayed messages whose delivery was cut off \
                 do not come again, and half messages whose end was cut off stay open unasked"
            );
            CutProgress::default()
        }
    }
}

/// All progress has gone back, durably.
pub fn forget(disk: &dyn Disk, options: &Options) -> io::Result<()> {
    match disk.remove(&path(options)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn encode(all: &CutProgress) -> Vec<u8> {
    let mut out = Vec::with_capacity(all.deliveries.len() * ROW_SIZE + 12);
    let half = all.first_half.map_or(NO_HALF, |half| half.0);
    out.extend_from_slice(&half.to_be_bytes());
    for (queue, count) in &all.deliveries {
        out.extend_from_slice(&queue.to_be_bytes());
        out.extend_from_slice(&count.to_be_bytes());
    }
    let sum = crc32fast::hash(&out);
    out.extend_from_slice(&sum.to_be_bytes());
    out
}

fn decode(bytes: &[u8]) -> Option<CutProgress> {
    let (all, sum) = bytes.split_last_chunk::<4>()?;
    let (half, rows) = all.split_first_chunk::<8>()?;
    if crc32fast::hash(all) != u32::from_be_bytes(*sum) || rows.len() % ROW_SIZE != 0 {
        return None;
    }
    let row = |row: &[u8]| {
        let (queue, count) = row.split_first_chunk::<4>()?;
        Some((u32::from_be_bytes(*queue), u64::from_be_bytes(*count.first_chunk()?)))
    };
    let half = Some(u64::from_be_bytes(*half)).filter(|half| *half != NO_HALF);
    Some(CutProgress {
        deliveries: rows.chunks_exact(ROW_SIZE).map(row).collect::<Option<_>>()?,
        first_half: half.map(QueueOffset),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_read_again_and_damage_is_seen() {
        let deliveries = BTreeMap::from([(0, 3), (7, u64::MAX)]);
        for first_half in [None, Some(QueueOffset(5))] {
            let all = CutProgress { deliveries: deliveries.clone(), first_half };
            let bytes = encode(&all);
            assert_eq!(decode(&bytes), Some(all));
            assert_eq!(decode(&bytes[1..]), None);
        }
        assert_eq!(decode(b""), None);
    }
}
