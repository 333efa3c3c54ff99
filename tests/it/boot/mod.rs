//! The binary as a person meets it: boots, refuses, warns, stops.

mod process;

use process::{Process, run};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// The configuration that a well-known guide to 4.9.3 gives its readers.
const CHAPTER: &str = include_str!("chapter-broker.conf");

fn conf(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn name_server(dir: &Path) -> (Process, String) {
    let text =
        format!("bindAddress=127.0.0.1\nlistenPort=0\nkvConfigPath={}/kv.json\n", dir.display());
    let server = Process::start(&["namesrv", "-c", &conf(dir, "namesrv.conf", &text)]);
    let line = server.line_with("boot success");
    assert_eq!(line, "The Name Server boot success. serializeType=JSON");
    let addr = format!("127.0.0.1:{}", server.port());
    (server, addr)
}

fn broker_conf(dir: &Path) -> String {
    format!(
        "brokerName=broker-a\nbrokerIP1=127.0.0.1\nbrokerIP2=127.0.0.1\nbindAddress=127.0.0.1\n\
         listenPort=0\nmappedFileSizeCommitLog=1048576\nstorePathRootDir={0}/store\n\
         storePathCommitLog={0}/store/commitlog\n",
        dir.display()
    )
}

#[test]
fn the_chapters_configuration_boots_warns_about_its_four_unknown_keys_and_stops_clean() {
    let dir = tempfile::tempdir().unwrap();
    let (names, addr) = name_server(dir.path());
    let text = CHAPTER
        .replace("E:/RocketMQ/data/rocketmq/dataDir", &format!("{}/store", dir.path().display()))
        .replace("127.0.0.1:9876", &addr);
    let text = format!("{text}\nlistenPort=0\nbrokerIP1=127.0.0.1\nbindAddress=127.0.0.1\n");
    let broker = Process::start(&["broker", "-c", &conf(dir.path(), "broker.conf", &text)]);
    let line = broker.line_with("boot success");
    let rest = line.strip_prefix("The broker[broker-a, 127.0.0.1:");
    let (port, rest) = rest.and_then(|rest| rest.split_once(']')).expect("it names its address");
    assert!(broker.ports().contains(&port.parse().unwrap()), "it listens at {port}");
    assert_eq!(rest, format!(" boot success. serializeType=JSON and name server is {addr}"));
    let abort = dir.path().join("store/abort");
    assert!(abort.exists());
    let started = Instant::now();
    assert_eq!(broker.stop(), 0);
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(!abort.exists(), "abort stands after a clean stop");
    let warnings = broker.lines_with(" WARN ");
    assert_eq!(warnings.len(), 4, "{warnings:#?}");
    for (line, what) in warnings.iter().zip([
        "storePathConsumeQueue",
        "storePathIndex",
        "storeCheckpoint",
        "abortFile",
    ]) {
        assert!(line.contains(what) && line.contains("/store/"), "{line}");
    }
    assert_eq!(names.stop(), 0);
}

#[test]
fn a_windows_path_a_wrong_value_and_a_missing_file_end_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let (code, text) = run(&["broker", "-c", &conf(dir.path(), "broker.conf", CHAPTER)]);
    assert_eq!(code, 253, "{text}");
    assert!(text.contains("storePathRootDir") && text.contains("Windows path"), "{text}");
    let wrong = conf(dir.path(), "wrong.conf", "listenPort=109x1\nflushDiskType=SYNC\n");
    let (code, text) = run(&["broker", "-c", &wrong]);
    assert_eq!(code, 253);
    assert!(text.contains("listenPort = \"109x1\": expected a whole number"), "{text}");
    assert!(text.contains("expected one of ASYNC_FLUSH, SYNC_FLUSH"), "{text}");
    let (code, text) = run(&["namesrv", "-c", "/nowhere/at/all.conf"]);
    assert_eq!(code, 255);
    assert!(text.contains("/nowhere/at/all.conf"), "{text}");
}

#[test]
fn strict_config_ends_the_start_where_else_there_is_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("{}strictConfig=true\nbrokerNmae=b\n", broker_conf(dir.path()));
    let (code, text) = run(&["broker", "-c", &conf(dir.path(), "broker.conf", &text)]);
    assert_eq!(code, 253, "{text}");
    assert!(text.contains("brokerNmae") && text.contains("brokerName"), "{text}");
    assert!(!dir.path().join("store").exists());
}

#[test]
fn p_prints_every_key_and_the_warnings_and_starts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("{}abortFile=/x\n", broker_conf(dir.path()));
    let path = conf(dir.path(), "broker.conf", &text);
    let (code, text) = run(&["broker", "-c", &path, "-n", "10.0.0.1:9876", "-p"]);
    assert_eq!(code, 0);
    assert!(text.contains("\nnamesrvAddr=10.0.0.1:9876\n"), "{text}");
    assert!(text.contains("\nfileReservedTime=72\n"), "{text}");
    assert!(text.contains("# WARN") && text.contains("abortFile"), "{text}");
    assert!(!dir.path().join("store").exists());
    assert_eq!(run(&["broker", "--nonsense"]).0, 1);
    assert_eq!(run(&["standalone", "--nonsense"]).0, 2);
}

/// Every file with its length and the time of its last change.
fn tree(dir: &Path) -> BTreeMap<String, (u64, SystemTime)> {
    let mut found = BTreeMap::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap().flatten() {
            let meta = entry.metadata().unwrap();
            let path = entry.path();
            if meta.is_dir() {
                open.push(path);
            } else {
                found.insert(path.display().to_string(), (meta.len(), meta.modified().unwrap()));
            }
        }
    }
    found
}

#[test]
fn a_second_broker_on_a_live_directory_says_who_holds_it_and_touches_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = conf(dir.path(), "broker.conf", &broker_conf(dir.path()));
    let first = Process::start(&["broker", "-c", &path]);
    first.line_with("boot success");
    // It holds the lock all the same, and writes nothing of its own meanwhile.
    first.freeze(true);
    let before = tree(&dir.path().join("store"));
    let (code, text) = run(&["broker", "-c", &path]);
    assert_eq!(code, 255, "{text}");
    assert!(text.contains(&format!("process {}", first.id())), "{text}");
    assert_eq!(before, tree(&dir.path().join("store")));
    first.freeze(false);
    assert_eq!(first.stop(), 0);
    let again = Process::start(&["broker", "-c", &path]);
    again.line_with("boot success");
    assert_eq!(again.stop(), 0);
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("store"), "a file").unwrap();
    let (code, text) =
        run(&["broker", "-c", &conf(dir.path(), "broker.conf", &broker_conf(dir.path()))]);
    assert_eq!(code, 253, "{text}");
    assert!(text.contains(dir.path().join("store").to_str().unwrap()), "{text}");
}

#[test]
fn a_port_in_use_is_named_and_leaves_a_clean_store() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let text = broker_conf(dir.path()).replace("listenPort=0", &format!("listenPort={port}"));
    let (code, text) = run(&["broker", "-c", &conf(dir.path(), "broker.conf", &text)]);
    assert_eq!(code, 255, "{text}");
    assert!(text.contains(&port.to_string()), "{text}");
    assert!(!dir.path().join("store/abort").exists());
}

#[test]
fn mqshutdown_stops_a_broker_and_says_when_there_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = conf(dir.path(), "broker.conf", &broker_conf(dir.path()));
    let broker = Process::start(&["broker", "-c", &path]);
    broker.line_with("boot success");
    let pid = broker.id().to_string();
    let (code, text) = run(&["shutdown", "broker", &pid]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains(&format!("The mqbroker({pid}) is running...")), "{text}");
    assert!(text.contains(&format!("Send shutdown request to mqbroker({pid}) OK")), "{text}");
    assert_eq!(broker.wait(), 0);
    assert!(!dir.path().join("store/abort").exists());
    let (code, text) = run(&["shutdown", "broker", &pid]);
    assert_eq!((code, text.trim()), (255, "No mqbroker running."));
}

#[test]
fn standalone_needs_nothing_and_a_second_start_says_who_holds_the_data() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data").display().to_string();
    let args = ["standalone", "--data", &data, "--port", "0", "--namesrv-port", "0"];
    let first = Process::start(&args);
    let hint = first.line_with("Try: hotfire produce");
    assert!(hint.contains(&data), "{hint}");
    let lines = first.lines_with("boot success");
    assert_eq!(lines[0], "The Name Server boot success. serializeType=JSON");
    assert!(lines[1].starts_with("The broker[broker-a, 127.0.0.1:"), "{}", lines[1]);
    let (code, text) = run(&args);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains(&format!("process {}", first.id())), "{text}");
    assert_eq!(first.stop(), 0);
}
