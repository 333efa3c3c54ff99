//! Only what may go is deleted, oldest first; what is kept can be read; space comes back.

use super::judge::Verdict;
use crate::disk::Removed;
use crate::history::{Fate, History};
use hotfire::store::retention::Rules;

/// What the store was told, and what happened to its clock.
#[derive(Clone, Debug)]
pub struct Terms {
    pub rules: Rules,
    /// Units: bytes of a log file.
    pub segment_size: u64,
    /// Forward steps of the machine's clock: when, and by how much. Units: microseconds, ms.
    pub steps: Vec<(u64, u64)>,
    /// When its processes opened the store. Units: microseconds.
    pub opened_us: Vec<u64>,
    /// When the disk had suddenly more space. Units: microseconds.
    pub relieved_us: Vec<u64>,
}

/// Probe and deletion are not one moment. Units: microseconds.
const SOON_US: u64 = 1_000_000;

fn base(path: &str) -> Option<u64> {
    path.rsplit('/').next()?.parse().ok()
}

/// A file of the log lost its name: it was the oldest, not the newest with something in it, and
/// old or in the way.
pub fn may_go(removed: &Removed, terms: &Terms) -> Verdict {
    let Some(own) = base(&removed.path).filter(|_| removed.has_data) else { return Ok(()) };
    let path = &removed.path;
    let others = || removed.beside.iter().filter_map(|(path, data)| Some((base(path)?, *data)));
    let is_alone = !others().any(|(other, _)| other != own);
    if !is_alone && others().all(|(other, _)| other <= own) {
        return Ok(()); // a start took back what lay behind the log's end
    }
    if let Some((older, _)) = others().find(|(other, _)| *other < own) {
        return Err(format!("{path} was deleted, {older} is older"));
    }
    if !others().any(|(other, data)| data && other > own) {
        return Err(format!("{path} was deleted, it is the newest file of the log"));
    }
    let rules = &terms.rules;
    // The file in which the log ends counts before it is there.
    let size = (removed.beside.len() as u64 + 1) * terms.segment_size;
    if rules.log_bytes_max > 0 && size > rules.log_bytes_max {
        return Ok(());
    }
    let percent = (removed.used * 100).div_ceil(removed.capacity.max(1));
    let relieved = |at: &u64| *at <= removed.at_us && removed.at_us - at < SOON_US;
    let tight = percent > rules.used_percent_force || terms.relieved_us.iter().any(relieved);
    if rules.may_force && tight {
        return Ok(());
    }
    // A step that was small, or that a later process could not know of, moves the clock.
    let step_max = rules.clock_step_max.as_millis() as u64;
    let counts = |(at, by): &&(u64, u64)| {
        *by <= step_max || terms.opened_us.iter().any(|us| us > at && *us <= removed.at_us)
    };
    let ahead: u64 = terms.steps.iter().filter(counts).map(|(_, by)| by).sum();
    let age_ms = (removed.at_us - removed.written_us) / 1000 + ahead;
    let keep_ms = rules.keep_for.as_millis() as u64;
    if age_ms + 1 < keep_ms {
        return Err(format!(
            "{path} was deleted at an age of {age_ms} ms, files are kept for {keep_ms} ms; \
             {percent} % of the disk were used"
        ));
    }
    Ok(())
}

/// No acked message in `range` of a queue is kept: a reader was led past them.
pub fn nothing_kept(
    history: &History,
    (machine, topic, queue): (usize, &str, u32),
    range: std::ops::Range<u64>,
    log_start: u64,
) -> Verdict {
    for (id, sent) in history.sent.iter().enumerate().filter(|(_, sent)| !sent.is_gone) {
        let Fate::Acked { place, .. } = sent.fate else { continue };
        let is_there = place.machine == machine && sent.topic == topic && place.queue == queue;
        if is_there && range.contains(&place.queue_offset) && place.physical >= log_start {
            return Err(format!(
                "a reader of {topic}/{queue} was led from {} to {}, past message {id} at {}, the \
                 log begins at {log_start}",
                range.start, range.end, place.physical
            ));
        }
    }
    Ok(())
}

/// A queue begins behind every message that is gone.
pub fn min_is_raised(
    history: &History,
    (machine, topic, queue): (usize, &str, u32),
    min: u64,
    log_start: u64,
) -> Verdict {
    for (id, sent) in history.sent.iter().enumerate() {
        let Fate::Acked { place, .. } = sent.fate else { continue };
        let is_there = place.machine == machine && sent.topic == topic && place.queue == queue;
        if is_there && place.physical < log_start && place.queue_offset >= min {
            return Err(format!(
                "{topic}/{queue} begins at {min}, message {id} at {} is gone, the log begins at \
                 {log_start}",
                place.queue_offset
            ));
        }
    }
    Ok(())
}
