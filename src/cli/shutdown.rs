//! `mqshutdown broker|namesrv`: asks servers of this machine to stop.
//!
//! Source: bin/mqshutdown (4.9.3): every such process gets SIGTERM; the lines are the script's.

use super::args::Shutdown;
use super::failure::Failure;
use super::say;
use rustix::process::{Pid, Signal, kill_process};

/// Errors: -1 when none runs, 3 when the kernel refuses.
pub fn run(args: &Shutdown) -> Result<(), Failure> {
    let name = format!("mq{}", args.what);
    let mut pids: Vec<i32> = running(&args.what);
    if !args.pids.is_empty() {
        pids.retain(|pid| args.pids.contains(pid));
    }
    if pids.is_empty() {
        return Err(Failure::new(Failure::NOT_STARTED, format!("No {name} running.")));
    }
    let list = pids.iter().map(i32::to_string).collect::<Vec<_>>().join(" ");
    say::line(format_args!("The {name}({list}) is running..."));
    for pid in pids {
        let Some(id) = Pid::from_raw(pid) else { continue };
        kill_process(id, Signal::TERM).map_err(|error| {
            Failure::new(Failure::REFUSED, format!("stop process {pid}: {error}"))
        })?;
    }
    say::line(format_args!("Send shutdown request to {name}({list}) OK"));
    Ok(())
}

/// Ids of our processes that run this command, in order. Processes that end meanwhile are left
/// out.
fn running(command: &str) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name());
    let mut pids: Vec<i32> = names.filter_map(|name| name.to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    pids.retain(|pid| runs(&arguments(*pid), command));
    pids
}

#[expect(clippy::disallowed_methods, reason = "a file of the kernel")]
fn arguments(pid: i32) -> Vec<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    bytes.split(|&b| b == 0).map(|arg| String::from_utf8_lossy(arg).into_owned()).collect()
}

/// `mqbroker …` or `hotfire broker …`, however the path is spelt.
fn runs(arguments: &[String], command: &str) -> bool {
    let Some(path) = arguments.first() else { return false };
    let name = path.rsplit('/').next().unwrap_or(path);
    name == format!("mq{command}")
        || (name == "hotfire" && arguments.get(1).is_some_and(|arg| arg == command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_servers_are_found() {
        let line = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert!(runs(&line("/opt/hotfire broker -c x"), "broker"));
        assert!(runs(&line("bin/mqbroker -n a:1"), "broker"));
        assert!(!runs(&line("hotfire namesrv"), "broker"));
        assert!(!runs(&line("vi hotfire broker"), "broker"));
        assert!(!runs(&line("hotfire standalone"), "broker"));
        assert!(!runs(&[], "broker"));
    }
}
