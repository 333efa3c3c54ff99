//! Only what may go is deleted, oldest first; what is kept can be read; space comes back.

use super::judge::Verdict;
use crate::disk::Removed;
use crate::history::{Fate, History};
use hotfire::rt::time::Duration;
use hotfire::store::retention::Rules;

/// What the store was told, and what happened to its clock.
#[derive(Clone, Debug)]
pub struct Terms {
    pub rules: Rules,
    /// Units: bytes of a log file.
    pub segment_size: u64,
    /// Steps of the machine's clock, in order: when, and by how much. Units: microseconds, ms.
    pub steps: Vec<(u64, i64)>,
    /// When its processes opened the store. Units: microseconds.
    pub opened_us: Vec<u64>,
    /// When the disk had suddenly more space. Units: microseconds.
    pub relieved_us: Vec<u64>,
}

impl Terms {
    /// How long so many files take to go at the pace the store was told: a file waits for a fresh
    /// snapshot once, which is a step of its round and asked for twice, and each round may empty
    /// every queue's directory.
    pub fn time_for(&self, files: u64, queues: u64) -> Duration {
        let rules = &self.rules;
        let rounds = (2 * files).div_ceil(rules.files_per_round as u64);
        let (files, queues) = (files as u32, queues as u32);
        let round = rules.check_interval + rules.queue_pause * queues;
        (rules.log_file_pause + SNAPSHOT_WAIT * 2) * files + round * rounds as u32
    }
}

/// How long a round of the store waits before it looks again whether a snapshot is fresh.
const SNAPSHOT_WAIT: Duration = Duration::from_millis(100);

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
    let ahead = each_step_ahead(removed, terms).max(all_steps_ahead(removed, terms));
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

/// How far forward steps may have moved the time that the store goes by: each that was small, or
/// that a later process could not know of. Units: milliseconds.
fn each_step_ahead(removed: &Removed, terms: &Terms) -> u64 {
    let step_max = terms.rules.clock_step_max.as_millis() as u64;
    let forward = terms.steps.iter().filter_map(|(at, by)| Some((at, u64::try_from(*by).ok()?)));
    let counts = |(at, by): &(&u64, u64)| {
        *by <= step_max || terms.opened_us.iter().any(|us| us > at && *us <= removed.at_us)
    };
    forward.filter(counts).map(|(_, by)| by).sum()
}

/// The same for all steps together, back and forth: a large one that was taken back but for a
/// little is a small one. Units: milliseconds since the file's last write.
fn all_steps_ahead(removed: &Removed, terms: &Terms) -> u64 {
    let step_max = terms.rules.clock_step_max.as_millis() as i64;
    let (mut clock, mut at_write, mut believed) = (0, 0, 0);
    let before = terms.steps.partition_point(|(at, _)| *at <= removed.at_us);
    for (n, (at, by)) in terms.steps[..before].iter().enumerate() {
        clock += by;
        if *at <= removed.written_us {
            at_write = clock;
        }
        let next = terms.steps[..before].get(n + 1).map_or(removed.at_us, |(at, _)| *at);
        let restarted = terms.opened_us.iter().any(|us| us > at && *us <= next);
        if restarted || clock - believed <= step_max {
            // The store may look at the clock between two steps or not: what it can believe most.
            believed = believed.max(clock);
        }
    }
    let believed = if clock - believed <= step_max { clock } else { believed };
    u64::try_from(believed - at_write).unwrap_or(0)
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
