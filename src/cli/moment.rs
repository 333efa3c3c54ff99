//! Moments as people write them, always in UTC.

use crate::model::WallMillis;
use crate::rt::time::Duration;

const DAY_MS: i64 = 86_400_000;

/// `2024-02-29T12:00:00.000Z`.
pub fn text(at: WallMillis) -> String {
    let (days, in_day) = (at.0.div_euclid(DAY_MS), at.0.rem_euclid(DAY_MS));
    let (year, month, day) = civil(days);
    let (hour, minute) = (in_day / 3_600_000, in_day / 60_000 % 60);
    let (second, ms) = (in_day / 1000 % 60, in_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Reads epoch milliseconds, `2024-02-29`, `2024-02-29T12:00:00` (with or without `Z`), or how long
/// before `now`: `90s`, `15m`, `2h`, `1d`.
pub fn parse(text: &str, now: WallMillis) -> Option<WallMillis> {
    if let Ok(ms) = text.parse() {
        return Some(WallMillis(ms));
    }
    if let Some(ago) = parse_duration(text) {
        return Some(WallMillis(now.0.saturating_sub(i64::try_from(ago.as_millis()).ok()?)));
    }
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (date, time) = text.split_once('T').unwrap_or((text, "00:00:00"));
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time, ':')?;
    let is_real = (1..=12).contains(&month) && hour < 24 && minute < 60 && second < 60;
    let days = days_from_civil(year, month, day);
    if !is_real || year > 9999 || civil(days) != (year, month, day) {
        return None;
    }
    Some(WallMillis(days * DAY_MS + (hour * 3600 + minute * 60 + second) * 1000))
}

fn parse_duration(text: &str) -> Option<Duration> {
    let (unit_at, unit) = text.char_indices().next_back()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return None,
    };
    let count: u32 = text[..unit_at].parse().ok()?;
    Some(Duration::from_secs(u64::from(count) * seconds))
}

fn numbers(text: &str, separator: char) -> Option<[i64; 3]> {
    let mut parts = text.split(separator).map(|part| part.parse::<u32>().ok().map(i64::from));
    let all = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(all)
}

/// Year, month and day of a day counted from 1970-01-01 (after Hinnant's civil_from_days).
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, in_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (in_era - in_era / 1460 + in_era / 36_524 - in_era / 146_096) / 365;
    let day_of_year = in_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let shifted_month = (month + 9) % 12;
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_they_are_written() {
        let now = WallMillis(1_709_208_000_000);
        assert_eq!(text(now), "2024-02-29T12:00:00.000Z");
        for same in ["1709208000000", "2024-02-29T12:00:00", "2024-02-29T12:00:00Z", "0s"] {
            assert_eq!(parse(same, now), Some(now), "{same}");
        }
        assert_eq!(parse("12h", now), parse("2024-02-29", now));
        for bad in ["", "x", "2024-02-30", "2024-13-01", "2024-02-29T25:00:00", "m", "1w", "é"] {
            assert_eq!(parse(bad, now), None, "{bad}");
        }
    }
}
