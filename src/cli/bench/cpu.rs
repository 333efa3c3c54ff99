//! The CPU time of another process.

use crate::cli::Failure;

/// The same of several processes together; `None` for none.
pub fn seconds_of_all(pids: &[u32]) -> Result<Option<f64>, Failure> {
    let all: Result<Vec<f64>, Failure> = pids.iter().map(|pid| seconds_of(*pid)).collect();
    Ok(Some(all?.iter().sum()).filter(|_| !pids.is_empty()))
}

/// Units: seconds, user and system, of all threads that are or were in the process.
///
/// Errors: there is no such process, or no /proc.
#[expect(clippy::disallowed_methods, reason = "/proc is no file of the product")]
pub fn seconds_of(pid: u32) -> Result<f64, Failure> {
    let path = format!("/proc/{pid}/stat");
    let refused = |why: String| Failure::new(Failure::REFUSED, format!("--pid: {path}: {why}"));
    let text = std::fs::read_to_string(&path).map_err(|e| refused(e.to_string()))?;
    ticks(&text)
        .map(|ticks| ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
        .ok_or_else(|| refused("it has no user and system time".into()))
}

/// Fields 14 and 15; the name in field 2 may hold blanks and brackets.
fn ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_times_stand_after_the_name_whatever_it_is() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 123 45 0 0 20 0 1 0 5";
        assert_eq!(super::ticks(stat), Some(168));
        assert_eq!(super::ticks("7 (x) S 1"), None);
    }
}
