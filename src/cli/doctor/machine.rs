//! What the machine allows a broker.

use crate::disk::Disk;
use crate::doctor::report::Limit;
use crate::doctor::{Options, Report};
use rustix::process::{Resource, getrlimit};

/// Files that a broker with many connections may hold open. Units: files.
const OPEN_FILES_GOOD: u64 = 65_536;
/// With fewer even a small broker runs out. Units: files.
const OPEN_FILES_MIN: u64 = 4_096;
/// MADV_POPULATE_READ is there from this kernel on.
const POPULATE_SINCE: (u32, u32) = (5, 14);
/// Source: docs of RocketMQ 4.9 (os.sh). Units: mappings.
const MAP_COUNT_MIN: u64 = 65_530;
const FREE_MIN_PERCENT: u64 = 10;

pub fn look(disk: &dyn Disk, options: &Options, report: &mut Report) {
    let limit = getrlimit(Resource::Nofile);
    let open = |value: Option<u64>| value.map_or("unlimited".to_owned(), |n| n.to_string());
    add(report, "open files", format!("{} of {}", open(limit.current), open(limit.maximum)));
    let now = limit.current.unwrap_or(u64::MAX);
    let what = format!("a process may open {} files", open(limit.current));
    if now < OPEN_FILES_MIN {
        let advice = format!("ulimit -n {OPEN_FILES_GOOD}, or LimitNOFILE of the unit");
        report.warn("machine", "ulimit -n", what, &advice);
    } else if now < OPEN_FILES_GOOD {
        report.note("ulimit -n", format!("{what}: each connection takes one"));
    }
    let release = small_file("/proc/sys/kernel/osrelease").unwrap_or_default();
    let populate = kernel(&release).is_some_and(|found| found >= POPULATE_SINCE);
    let how = if populate { "there" } else { "missing: readMode=map falls back to pread" };
    add(report, "MADV_POPULATE_READ", format!("{how} (kernel {release})"));
    if let Some(maps) = small_file("/proc/sys/vm/max_map_count").and_then(|n| n.parse::<u64>().ok())
    {
        add(report, "vm.max_map_count", maps.to_string());
        if maps < MAP_COUNT_MIN {
            let what = format!("{maps} mappings per process");
            report.warn("machine", "vm.max_map_count", what, "sysctl -w vm.max_map_count=655360");
        }
    }
    for dir in std::iter::once(&options.root).chain(options.commit_log.all()) {
        space(disk, dir, report);
    }
}

fn add(report: &mut Report, name: &str, value: String) {
    report.machine.push(Limit { name: name.to_owned(), value });
}

fn space(disk: &dyn Disk, dir: &str, report: &mut Report) {
    let Ok((free, all)) = disk.free_space(dir) else { return };
    let value = format!("{} of {} MiB", free >> 20, all >> 20);
    if report.machine.iter().any(|limit| limit.value == value) {
        return; // both directories lie on one file system
    }
    add(report, "free space", value);
    let need = report.log.segment_size.max(1) * 2;
    if free < need || free < all / 100 * FREE_MIN_PERCENT {
        let what = format!("{} MiB are free", free >> 20);
        let advice = "sends are refused when the next commit log file cannot be made; retention \
                      deletes early on a full disk";
        report.warn("machine", dir, what, advice);
    }
}

/// Major and minor number.
fn kernel(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[expect(clippy::disallowed_methods, reason = "a file of the kernel")]
fn small_file(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_kernel_release_has_two_numbers() {
        assert_eq!(super::kernel("5.14.0-1-amd64"), Some((5, 14)));
        assert_eq!(super::kernel("6.1"), Some((6, 1)));
        assert_eq!(super::kernel("x"), None);
    }
}
