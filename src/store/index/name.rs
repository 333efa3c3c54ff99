//! Names of index files: 17 digits, the local time of their creation, `yyyyMMddHHmmssSSS`.
//!
//! Source: UtilAll#timeMillisToHumanString (4.9.3).
//! Differs: a name is always greater than every older one, whatever the clock does (W-37).

/// The name for a moment. `local_ms`: milliseconds since 1970 of the local clock's face.
pub fn of(local_ms: i64) -> u64 {
    let local_ms = local_ms.max(0);
    let (days, ms) = (local_ms / 86_400_000, local_ms % 86_400_000);
    let (year, month, day) = date(days);
    let (hour, minute) = (ms / 3_600_000, ms / 60_000 % 60);
    let digits = ((year * 100 + month) * 100 + day) * 1_000_000_000
        + (hour * 100 + minute) * 100_000
        + ms % 60_000;
    u64::try_from(digits).unwrap_or(0)
}

/// The name of the next file after one called `last`. One more than a name need not be a time, but
/// it lies before the next name that is one.
pub fn next(last: u64, local_ms: i64) -> u64 {
    of(local_ms).max(last + 1)
}

/// The calendar day, from days since 1970. Years begin in March here, so that a leap day is last.
fn date(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, in_era) = (shifted / 146_097, shifted % 146_097);
    let year = (in_era - in_era / 1460 + in_era / 36_524 - in_era / 146_096) / 365;
    let in_year = in_era - (365 * year + year / 4 - year / 100);
    let month = (5 * in_year + 2) / 153;
    let day = in_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

pub fn text(name: u64) -> String {
    format!("{name:017}")
}

/// `None` for anything but 17 digits.
pub fn parse(text: &str) -> Option<u64> {
    let is_name = text.len() == 17 && text.bytes().all(|byte| byte.is_ascii_digit());
    is_name.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_javas() {
        assert_eq!(text(of(1_795_999_999_123)), "20261130005319123");
        assert_eq!(of(0), 19_700_101_000_000_000);
        assert_eq!(text(of(951_782_400_000)), "20000229000000000");
        assert_eq!(parse("20261130005319123"), Some(of(1_795_999_999_123)));
        for other in
            ["2026113000531912", "2026113000531912x", "202611300053191234", "+2026113000531912"]
        {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn names_sort_as_they_were_made_whatever_the_clock_does(
            clock in prop::collection::vec(0..4_000_000_000_000_i64, 1..50),
        ) {
            let mut last = 0;
            for now in clock {
                let name = next(last, now);
                prop_assert!(name > last && text(name) > text(last));
                prop_assert_eq!(parse(&text(name)), Some(name));
                last = name;
            }
        }

        #[test]
        fn later_is_greater(a in 0..4_000_000_000_000_i64, more in 1..100_000_000_i64) {
            prop_assert!(of(a + more) > of(a));
            prop_assert!(of(a) < of(a + 1));
        }
    }
}
