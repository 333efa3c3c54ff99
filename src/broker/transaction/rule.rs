//! When a half message is asked for, put back, or given up.
//!
//! Source: TransactionalMessageServiceImpl#check (4.9.3).
//! Differs: ages go by this broker's clock (W-65); putting an immune message back is no check; a
//! message that was checked once is checked in every round.

use crate::broker::options::TransactionOptions;
use crate::format::message_unit::View;
use crate::model::{WallMillis, property};

/// What a half message says that matters here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// TRANSACTION_CHECK_TIMES; a text that is no number counts as -1, as in Java.
    pub check_times: Option<i32>,
    /// When this copy was stored.
    pub stored: WallMillis,
    /// When its first copy was stored.
    pub began: WallMillis,
    /// CHECK_IMMUNITY_TIME_IN_SECONDS. Units: milliseconds.
    pub immunity_ms: Option<i64>,
}

impl Facts {
    /// `began` is that of this copy.
    pub fn of(half: &View<'_>, options: &TransactionOptions) -> Self {
        let text = |name| half.property(name).map(String::from_utf8_lossy);
        let times = text(property::TRANSACTION_CHECK_TIMES);
        let immunity = text(property::CHECK_IMMUNITY_TIME);
        let seconds = |text: &str| match text.parse::<i64>() {
            Ok(-1) | Err(_) => i64::try_from(options.timeout.as_millis()).unwrap_or(i64::MAX),
            Ok(seconds) => seconds.saturating_mul(1000),
        };
        Facts {
            check_times: times.map(|text| text.parse().unwrap_or(-1)),
            stored: half.store_timestamp(),
            began: half.store_timestamp(),
            immunity_ms: immunity.map(|text| seconds(&text)),
        }
    }

    /// Checks until now, with the next one.
    pub fn next_check(&self) -> i32 {
        self.check_times.map_or(1, |times| times.saturating_add(1))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its producers are asked.
    Check,
    /// It was asked for as often as it may be.
    DiscardChecked,
    /// Its file will be deleted soon.
    DiscardOld,
    /// Its producer has asked for more time.
    PutBack,
    /// It is young, and so are those behind it.
    Wait,
}

pub fn judge(facts: &Facts, now: WallMillis, options: &TransactionOptions) -> Verdict {
    let ms = |time: crate::rt::time::Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    if facts.check_times.is_some_and(|times| times >= options.check_max) {
        return Verdict::DiscardChecked;
    }
    if now.0.saturating_sub(facts.stored.0) > ms(options.keep_for) {
        return Verdict::DiscardOld;
    }
    let (age, timeout) = (now.0.saturating_sub(facts.began.0), ms(options.timeout));
    // A clock that went back further says nothing about ages.
    let is_younger = |than: i64| age < than && age > timeout.saturating_neg();
    match facts.immunity_ms {
        Some(immunity) if is_younger(immunity) => Verdict::PutBack,
        Some(_) => Verdict::Check,
        None if facts.check_times.is_some_and(|times| times > 0) => Verdict::Check,
        None if is_younger(timeout) => Verdict::Wait,
        None => Verdict::Check,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::time::Duration;

    fn facts(check_times: Option<i32>, stored: i64, immunity_ms: Option<i64>) -> Facts {
        let stored = WallMillis(stored);
        Facts { check_times, stored, began: stored, immunity_ms }
    }

    #[test]
    fn a_half_message_is_asked_for_when_it_is_old_enough_and_given_up_after_the_last_time() {
        let options = TransactionOptions {
            timeout: Duration::from_secs(6),
            check_max: 3,
            keep_for: Duration::from_secs(1000),
            ..TransactionOptions::default()
        };
        let now = WallMillis(1_000_000_000);
        let judge = |facts| judge(&facts, now, &options);
        let ago = |ms| now.0 - ms;
        assert_eq!(judge(facts(None, ago(5_999), None)), Verdict::Wait);
        assert_eq!(judge(facts(None, ago(6_000), None)), Verdict::Check);
        assert_eq!(judge(facts(None, ago(-1), None)), Verdict::Wait);
        assert_eq!(judge(facts(None, ago(-6_000), None)), Verdict::Check, "the clock went back");
        assert_eq!(judge(facts(None, ago(-6_000), Some(9_000))), Verdict::Check);
        assert_eq!(judge(facts(Some(1), ago(10), None)), Verdict::Check, "checked before");
        assert_eq!(judge(facts(Some(2), ago(10), None)), Verdict::Check);
        assert_eq!(judge(facts(Some(3), ago(10), None)), Verdict::DiscardChecked);
        assert_eq!(judge(facts(Some(-1), ago(10), None)), Verdict::Wait);
        assert_eq!(judge(facts(None, ago(1_000_001), None)), Verdict::DiscardOld);
        assert_eq!(judge(facts(None, ago(9_000), Some(10_000))), Verdict::PutBack);
        assert_eq!(judge(facts(None, ago(10_000), Some(10_000))), Verdict::Check);
        assert_eq!(
            (facts(None, 0, None).next_check(), facts(Some(4), 0, None).next_check()),
            (1, 5)
        );
    }
}
