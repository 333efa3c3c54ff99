//! Decides which of the oldest commit log files go, and when appends are refused for want of space.
//!
//! Source: DefaultMessageStore.CleanCommitLogService, UtilAll#getDiskPartitionSpaceUsedPercent
//! (4.9.3).
//! Differs: a file is old when its time of change and the store time behind its end both say so
//! (W-71); a clock that jumps forward is believed only when it stays there; bytes can be told
//! beside ratios; usage is asked before every file, so that no more goes than is needed (ADR-0014).

use crate::model::WallMillis;
use crate::rt::rng::Rng;
use crate::rt::time::{Duration, Mono};
use std::fmt;

/// What is kept, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// `deleteWhen`. Units: hours of local time.
    pub delete_hours: Vec<u32>,
    /// `fileReservedTime`.
    pub keep_for: Duration,
    /// `diskMaxUsedSpaceRatio`: above it expired files go at any hour. Units: percent.
    pub used_percent_clean: u64,
    /// `diskSpaceCleanForciblyRatio`: above it the oldest files go, expired or not.
    pub used_percent_force: u64,
    /// `diskSpaceWarningLevelRatio`: above it appends are refused.
    pub used_percent_full: u64,
    /// `cleanFileForciblyEnable`: files that are not expired may go when space is short.
    pub may_force: bool,
    /// `diskFreeMinBytes`: with less, appends are refused; with less than twice as much, space is
    /// short. 0 is off. Units: bytes.
    pub free_bytes_min: u64,
    /// `commitLogMaxBytes`: the oldest files go while the log's files have more. 0 is off.
    pub log_bytes_max: u64,
    /// `cleanResourceInterval`, and how long after the start it begins.
    pub check_interval: Duration,
    pub first_check_after: Duration,
    /// `deleteCommitLogFilesInterval`: the pause after a file of the log.
    pub log_file_pause: Duration,
    /// `deleteConsumeQueueFilesInterval`: the pause after a queue that lost files.
    pub queue_pause: Duration,
    /// Files of the log in one round: the clean-up of a neglected store goes in steps.
    pub files_per_round: usize,
    /// How often the disk is asked how full it is.
    pub probe_interval: Duration,
    /// `destroyMapedFileIntervalForcibly`: how long a deleted file is held open for its readers.
    pub release_timeout: Duration,
    /// `redeleteHangedFileInterval`: when a file that could not be deleted is tried again.
    pub retry_interval: Duration,
    /// A clock that is further ahead than this has jumped.
    pub clock_step_max: Duration,
    /// A clock that jumped is believed after this.
    pub clock_grace: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_secs(3600);
        Rules {
            delete_hours: vec![4],
            keep_for: HOUR * 72,
            used_percent_clean: 75,
            used_percent_force: 85,
            used_percent_full: 90,
            may_force: true,
            free_bytes_min: 0,
            log_bytes_max: 0,
            check_interval: Duration::from_secs(10),
            first_check_after: Duration::from_secs(60),
            log_file_pause: Duration::from_millis(100),
            queue_pause: Duration::from_millis(100),
            files_per_round: 10,
            probe_interval: Duration::from_secs(10),
            release_timeout: Duration::from_secs(120),
            retry_interval: Duration::from_secs(120),
            clock_step_max: HOUR,
            clock_grace: HOUR * 24,
        }
    }
}

impl Rules {
    /// Nothing is ever deleted or refused.
    pub fn never() -> Self {
        Rules {
            delete_hours: Vec::new(),
            used_percent_clean: u64::MAX,
            used_percent_force: u64::MAX,
            used_percent_full: u64::MAX,
            ..Rules::default()
        }
    }

    /// Hurried, for the simulator: files live for seconds.
    pub fn swarm(rng: &mut Rng) -> Self {
        let mut ms = |lo, hi| Duration::from_millis(rng.between(lo, hi));
        let mut rules = Rules {
            delete_hours: (0..24).collect(),
            keep_for: ms(300, 4_000),
            check_interval: ms(50, 500),
            first_check_after: ms(10, 500),
            log_file_pause: ms(1, 30),
            queue_pause: ms(1, 30),
            probe_interval: ms(50, 500),
            release_timeout: ms(10, 2_000),
            retry_interval: ms(50, 500),
            clock_step_max: ms(500, 2_000),
            clock_grace: Duration::from_secs(3_600),
            ..Rules::default()
        };
        rules.files_per_round = rng.between(1, 10) as usize;
        rules.may_force = rng.chance(0.7);
        if rng.chance(0.3) {
            rules.delete_hours.clear();
        }
        rules
    }
}

/// How full a file system is. Units: bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub free: u64,
    pub all: u64,
}

impl Usage {
    /// Units: percent, rounded up as in 4.9.3.
    pub fn percent(self) -> u64 {
        let used = u128::from(self.all.saturating_sub(self.free));
        (used * 100).div_ceil(u128::from(self.all.max(1))) as u64
    }
}

/// Why files go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Asked,
    Full(Usage),
    Hour,
    LogSize(u64),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Asked => f.write_str("an operator asked for it"),
            Cause::Full(usage) => write!(f, "{} % of the disk is used", usage.percent()),
            Cause::Hour => f.write_str("it is the hour of deleteWhen"),
            Cause::LogSize(bytes) => write!(f, "the log's files have {bytes} bytes"),
        }
    }
}

/// What may be deleted now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    Nothing,
    /// The oldest file, if it is expired.
    Expired(Cause),
    /// The oldest file.
    Oldest(Cause),
}

/// What the world looks like at a decision.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    pub now: Mono,
    pub wall: WallMillis,
    /// Units: hours of local time.
    pub hour: u32,
    /// `None` when it could not be asked.
    pub usage: Option<Usage>,
    /// Units: bytes of the log's files, but for one made ahead.
    pub log_size: u64,
}

pub struct Retention {
    rules: Rules,
    /// What the time is taken to be, and when it was taken to be so.
    time: WallMillis,
    at: Mono,
    /// Since when the machine's clock is further ahead than a clock can drift.
    ahead_since: Option<Mono>,
    /// Rounds that an operator asked for.
    asked: u32,
}

/// Rounds that one request of an operator gives.
/// Source: DefaultMessageStore#executeDeleteFilesManually (4.9.3).
const ROUNDS_ASKED: u32 = 20;

impl Retention {
    /// `newest` is when the newest record was stored: a clock that is far ahead of it at the start
    /// may be wrong.
    pub fn new(rules: Rules, now: Mono, wall: WallMillis, newest: Option<WallMillis>) -> Self {
        let time = newest.map_or(wall, |newest| newest.min(wall));
        Retention { rules, time, at: now, ahead_since: None, asked: 0 }
    }

    pub fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// An operator wants expired files deleted now.
    pub fn on_asked(&mut self) {
        self.asked = ROUNDS_ASKED;
    }

    /// A round of deletions begins.
    pub fn on_round(&mut self) {
        self.asked = self.asked.saturating_sub(1);
    }

    /// The machine's clock is looked at. True when it has just jumped ahead and is not believed.
    pub fn on_time(&mut self, now: Mono, wall: WallMillis) -> bool {
        let passed = i64::try_from(now.since(self.at).as_millis()).unwrap_or(i64::MAX);
        let expected = self.time.0.saturating_add(passed);
        self.at = now;
        let step_max = millis(self.rules.clock_step_max);
        if wall.0.saturating_sub(expected) <= step_max {
            (self.time, self.ahead_since) = (wall, None);
            return false;
        }
        let is_new = self.ahead_since.is_none();
        let since = *self.ahead_since.get_or_insert(now);
        if now.since(since) >= self.rules.clock_grace {
            (self.time, self.ahead_since) = (wall, None);
            return false;
        }
        self.time = WallMillis(expected);
        is_new
    }

    /// What may be deleted now.
    pub fn goal(&mut self, look: &Look) -> Goal {
        self.on_time(look.now, look.wall);
        let rules = &self.rules;
        if rules.log_bytes_max > 0 && look.log_size > rules.log_bytes_max {
            return Goal::Oldest(Cause::LogSize(look.log_size));
        }
        if let Some(usage) = look.usage {
            let short = usage.free < rules.free_bytes_min.saturating_mul(2);
            if rules.may_force && (short || usage.percent() > rules.used_percent_force) {
                return Goal::Oldest(Cause::Full(usage));
            }
            if short || usage.percent() > rules.used_percent_clean {
                return Goal::Expired(Cause::Full(usage));
            }
        }
        if self.asked > 0 {
            return Goal::Expired(Cause::Asked);
        }
        match rules.delete_hours.contains(&look.hour) {
            true => Goal::Expired(Cause::Hour),
            false => Goal::Nothing,
        }
    }

    /// Whether what changed last at `changed` has been kept long enough.
    pub fn is_expired(&self, changed: WallMillis) -> bool {
        changed.0.saturating_add(millis(self.rules.keep_for)) <= self.time.0
    }

    /// Why appends are refused, when the disk is too full for them.
    pub fn full(&self, path: &str, usage: Usage) -> Option<String> {
        let (percent, limit) = (usage.percent(), self.rules.used_percent_full);
        if percent > limit {
            return Some(format!("disk full: {percent} % of {path} used, limit {limit} %"));
        }
        let (free, min) = (usage.free, self.rules.free_bytes_min);
        (free < min).then(|| format!("disk full: {free} bytes of {path} free, limit {min} bytes"))
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// Source: UtilAll#isItTimeToDo (4.9.3): hours separated by `;`. `None` for anything else.
pub fn delete_hours(text: &str) -> Option<Vec<u32>> {
    let hours = text.split(';').map(str::trim).filter(|hour| !hour.is_empty());
    let hours = hours.map(|hour| hour.parse::<u32>().ok().filter(|hour| *hour < 24));
    hours.collect::<Option<Vec<u32>>>().filter(|hours| !hours.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;
    /// Some day at 10 o'clock.
    const WALL: WallMillis = WallMillis(480_010 * HOUR);

    fn mono(ms: i64) -> Mono {
        Mono(ms as u64 * 1_000_000)
    }
    fn usage(used_percent: u64) -> Option<Usage> {
        Some(Usage { free: (100 - used_percent) << 20, all: 100 << 20 })
    }
    fn look(hour: u32, usage: Option<Usage>) -> Look {
        Look { now: mono(0), wall: WALL, hour, usage, log_size: 5 << 30 }
    }
    fn retention(rules: Rules) -> Retention {
        Retention::new(rules, mono(0), WALL, None)
    }

    #[test]
    fn usage_is_rounded_up_to_whole_percent() {
        assert_eq!(Usage { free: 100, all: 1000 }.percent(), 90);
        assert_eq!(Usage { free: 99, all: 1000 }.percent(), 91);
        assert_eq!(Usage { free: 0, all: 0 }.percent(), 0);
    }

    #[test]
    fn the_hour_the_disk_and_an_operator_each_ask_for_expired_files() {
        let mut r = retention(Rules::default());
        assert_eq!(r.goal(&look(3, usage(75))), Goal::Nothing);
        assert_eq!(r.goal(&look(4, usage(10))), Goal::Expired(Cause::Hour));
        assert_eq!(r.goal(&look(4, None)), Goal::Expired(Cause::Hour));
        assert!(matches!(r.goal(&look(3, usage(76))), Goal::Expired(Cause::Full(_))));
        r.on_asked();
        for _ in 0..ROUNDS_ASKED {
            assert_eq!(r.goal(&look(3, usage(10))), Goal::Expired(Cause::Asked));
            r.on_round();
        }
        assert_eq!(r.goal(&look(3, usage(10))), Goal::Nothing);
    }

    #[test]
    fn files_that_are_not_expired_go_only_when_space_is_short_and_it_is_allowed() {
        let mut r = retention(Rules::default());
        assert!(matches!(r.goal(&look(3, usage(85))), Goal::Expired(_)));
        assert!(matches!(r.goal(&look(3, usage(86))), Goal::Oldest(Cause::Full(_))));
        let mut careful = retention(Rules { may_force: false, ..Rules::default() });
        assert!(matches!(careful.goal(&look(3, usage(99))), Goal::Expired(_)));
        let mut bytes = retention(Rules { free_bytes_min: 10 << 20, ..Rules::default() });
        assert_eq!(bytes.goal(&look(3, usage(10))), Goal::Nothing);
        assert!(matches!(bytes.goal(&look(3, usage(81))), Goal::Oldest(Cause::Full(_))));
        let mut size = retention(Rules { log_bytes_max: 5 << 30, ..Rules::default() });
        assert_eq!(size.goal(&look(3, None)), Goal::Nothing);
        let mut size = retention(Rules { log_bytes_max: (5 << 30) - 1, ..Rules::default() });
        assert!(matches!(size.goal(&look(3, None)), Goal::Oldest(Cause::LogSize(_))));
    }

    #[test]
    fn a_full_disk_is_named_with_its_limit_and_clears_at_the_limit() {
        let r = retention(Rules { free_bytes_min: 5 << 20, ..Rules::default() });
        let text = r.full("/data", usage(91).unwrap());
        assert_eq!(text.as_deref(), Some("disk full: 91 % of /data used, limit 90 %"));
        assert_eq!(r.full("/data", usage(90).unwrap()), None);
        let text = r.full("/data", Usage { free: 4 << 20, all: 40 << 20 }).unwrap();
        assert!(text.starts_with("disk full: 4194304 bytes of /data free"), "{text}");
    }

    #[test]
    fn a_file_is_kept_for_its_time_and_no_clock_step_shortens_it() {
        let mut r = retention(Rules::default());
        assert!(!r.is_expired(WallMillis(WALL.0 - 72 * HOUR + 1)));
        assert!(r.is_expired(WallMillis(WALL.0 - 72 * HOUR)));
        // Ten years in one step: not believed for a day.
        let jumped = |ms: i64| WallMillis(WALL.0 + 87_600 * HOUR + ms);
        assert!(r.on_time(mono(10_000), jumped(10_000)));
        assert!(!r.is_expired(WALL));
        assert!(!r.on_time(mono(24 * HOUR), jumped(24 * HOUR)), "said once");
        assert!(!r.is_expired(WALL));
        r.on_time(mono(24 * HOUR + 10_000), jumped(24 * HOUR));
        assert!(r.is_expired(WALL), "a clock that stays there is right");
    }

    #[test]
    fn a_step_back_is_followed_and_its_repair_is_not_a_jump_for_ever() {
        let mut r = retention(Rules::default());
        assert!(!r.on_time(mono(10_000), WallMillis(WALL.0 - 100 * HOUR)));
        assert!(!r.is_expired(WallMillis(WALL.0 - 100 * HOUR)));
        assert!(r.on_time(mono(20_000), WallMillis(WALL.0 + 20_000)));
        assert!(!r.on_time(mono(30_000), WallMillis(WALL.0 - 100 * HOUR + 30_000)));
    }

    #[test]
    fn a_start_long_after_the_last_record_waits_before_it_deletes() {
        let long_ago = WallMillis(WALL.0 - 1000 * HOUR);
        let mut r = Retention::new(Rules::default(), mono(0), WALL, Some(long_ago));
        assert!(r.on_time(mono(1), WALL));
        assert!(!r.is_expired(long_ago));
        let mut r = Retention::new(Rules::default(), mono(0), WALL, Some(WallMillis(WALL.0 - 9)));
        assert!(!r.on_time(mono(1), WALL));
    }

    #[test]
    fn hours_are_read_as_java_reads_them() {
        assert_eq!(delete_hours("04"), Some(vec![4]));
        assert_eq!(delete_hours("02;04;"), Some(vec![2, 4]));
        for wrong in ["", "24", "4:30", "04,05", "-1"] {
            assert_eq!(delete_hours(wrong), None, "{wrong}");
        }
    }
}
