//! One run of the binary, its output as it comes.

use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// How long a start or a stop may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hotfire"));
    command.args(args).env_remove("NAMESRV_ADDR").env_remove("HOTFIRE_LOG");
    command.env_remove("ROCKETMQ_SERIALIZE_TYPE");
    command
}

/// Runs to the end. Returns the exit code, and standard output and error together.
pub fn run(args: &[&str]) -> (i32, String) {
    let ended = command(args).output().unwrap();
    let text = [ended.stdout, ended.stderr].concat();
    (ended.status.code().unwrap(), String::from_utf8(text).unwrap())
}

/// A running server. Dropping it kills it.
pub struct Process {
    child: Mutex<Child>,
    lines: Arc<(Mutex<Vec<String>>, Condvar)>,
}

impl Process {
    pub fn start(args: &[&str]) -> Process {
        let mut child =
            command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines: Arc<(Mutex<Vec<String>>, Condvar)> = Arc::default();
        collect(child.stdout.take().unwrap(), lines.clone());
        collect(child.stderr.take().unwrap(), lines.clone());
        Process { child: Mutex::new(child), lines }
    }

    pub fn id(&self) -> u32 {
        self.child.lock().unwrap().id()
    }

    /// The first line with this text, waited for.
    pub fn line_with(&self, part: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.lines.0.lock().unwrap();
        loop {
            if let Some(line) = lines.iter().find(|line| line.contains(part)) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no line with {part:?} in {lines:#?}");
            lines = self.lines.1.wait_timeout(lines, left).unwrap().0;
        }
    }

    pub fn lines_with(&self, part: &str) -> Vec<String> {
        let lines = self.lines.0.lock().unwrap();
        lines.iter().filter(|line| line.contains(part)).cloned().collect()
    }

    /// The one TCP port that it listens on.
    pub fn port(&self) -> u16 {
        self.ports().pop().expect("it listens on a port")
    }

    /// The TCP ports that it listens on: a broker's own, and the one for slaves.
    pub fn ports(&self) -> Vec<u16> {
        listening(self.id())
    }

    /// Asks it to stop. Returns its exit code.
    pub fn stop(&self) -> i32 {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Holds it still, and lets it go on.
    pub fn freeze(&self, is_frozen: bool) {
        self.signal(if is_frozen { Signal::STOP } else { Signal::CONT });
        // A thread stops when it leaves the call it is in, which may write a file.
        let deadline = Instant::now() + PATIENCE;
        while is_frozen && !self.is_frozen() {
            assert!(Instant::now() < deadline, "it does not stop");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn is_frozen(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.id())).unwrap();
        threads.flatten().all(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
        })
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.id() as i32).unwrap(), signal).unwrap();
    }

    /// Waits for its end. Returns its exit code.
    pub fn wait(&self) -> i32 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.lock().unwrap().try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(Instant::now() < deadline, "it does not end: {:#?}", self.lines.0.lock());
            std::thread::yield_now();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap();
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn collect(from: impl Read + Send + 'static, lines: Arc<(Mutex<Vec<String>>, Condvar)>) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            lines.0.lock().unwrap().push(line);
            lines.1.notify_all();
        }
    });
}

/// Finds the listening socket of a process in the kernel's tables.
fn listening(pid: u32) -> Vec<u16> {
    let mut inodes = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
        let link = std::fs::read_link(entry.path()).unwrap_or_default().display().to_string();
        if let Some(inode) = link.strip_prefix("socket:[") {
            inodes.push(inode.trim_end_matches(']').to_owned());
        }
    }
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let ports = table.lines().skip(1).filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_ours = words.get(3) == Some(&"0A") && inodes.iter().any(|i| i == words[9]);
        is_ours.then(|| u16::from_str_radix(words[1].rsplit(':').next()?, 16).ok())?
    });
    ports.collect()
}
