//! open_images SEGMENT_BYTES QUEUE_FILE_ENTRIES: opens store directories and lists what they hold.
//!
//! Each line of standard input is `stop DIR` or `drop DIR`: the store in DIR is opened with the
//! real disk, every message of every queue is read, and the store is stopped, or left as a killed
//! process leaves it. The answer, in one line of JSON: `{"end": .., "floor": .., "unclean": ..,
//! "queues": [[topic, queue, min, max, [[offset, physical, crc of the body], ..]], ..]}` or
//! `{"error": ..}`.

use hotfire::disk::real::RealDisk;
use hotfire::format::message_unit;
use hotfire::model::QueueOffset;
use hotfire::rt;
use hotfire::rt::task::TaskGroup;
use hotfire::rt::time::{Clock, Duration};
use hotfire::store::{
    Arrival, FlushMode, Options, Outcome, Read, ReadLimits, RecoveryReport, Store, StoreEvents,
    Ticket,
};
use serde_json::{Value, json};
use std::io::{BufRead, Write};
use std::sync::Arc;

struct Deaf;

impl StoreEvents for Deaf {
    fn on_outcomes(&self, outcomes: &mut Vec<(Ticket, Outcome)>) {
        outcomes.clear();
    }
    fn on_arrivals(&self, _: &[Arrival]) {}
    fn on_poison(&self, _: &str) {}
}

fn main() {
    let mut args = std::env::args().skip(1);
    let mut number = || args.next().and_then(|arg| arg.parse().ok()).expect("two numbers");
    let (segment, entries): (u64, u64) = (number(), number());
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("standard input is text");
        let (how, root) = line.split_once(' ').expect("stop or drop, and a directory");
        let options = Options {
            flush: FlushMode::Sync,
            segment_size_bytes: segment,
            queue_file_entries: entries,
            record_size_max_bytes: (segment as usize - 8).min(4 << 20),
            ..Options::new(root)
        };
        let answer = rt::block_on(open(options, how == "stop"));
        let answer = answer.unwrap_or_else(|error| json!({ "error": error }));
        writeln!(out, "{answer}").and_then(|()| out.flush()).expect("standard output is open");
    }
}

async fn open(options: Options, stop: bool) -> Result<Value, String> {
    let (clock, group) = (Clock::new(), TaskGroup::new());
    let disk = Arc::new(RealDisk::new());
    let opened = Store::open(disk, clock.clone(), &group, options, Arc::new(Deaf)).await;
    let (store, report) = opened.map_err(|error| error.to_string())?;
    let listed = list(&store, &report).await;
    if stop {
        store.shutdown().await.map_err(|error| error.to_string())?;
    }
    group.shutdown(&clock, clock.mono() + Duration::from_secs(5)).await;
    drop(store);
    // Blocking calls under way hold the store until they end.
    for _ in 0..50 {
        rt::task::yield_now().await;
    }
    listed
}

async fn list(store: &Store, report: &RecoveryReport) -> Result<Value, String> {
    let mut queues = Vec::new();
    for (key, min, max) in store.queues() {
        let mut messages = Vec::new();
        let mut from = min;
        while from < max {
            let limits = ReadLimits { count: 32 };
            let read = match store.read(&key, from, &limits, &|_| true) {
                Read::Ready(result) => result,
                Read::Cold(cold) => cold.run(&|_| true).await.map_err(|e| e.to_string())?,
            };
            for part in &read.messages {
                for unit in message_unit::delivered(part) {
                    let unit = unit.map_err(|error| format!("{key:?} at {}: {error}", from.0))?;
                    let place = (unit.topic() == &*key.topic, unit.queue_id() == key.queue);
                    if place != (true, true) {
                        return Err(format!("{key:?} at {}: a record of another queue", from.0));
                    }
                    messages.push(json!([
                        unit.queue_offset().0,
                        unit.physical_offset().0,
                        crc32fast::hash(unit.body())
                    ]));
                }
            }
            if read.next <= from {
                return Err(format!("{key:?}: {} at offset {}", read.status.name(), from.0));
            }
            from = QueueOffset(read.next.0);
        }
        queues.push(json!([&*key.topic, key.queue.0, min.0, max.0, messages]));
    }
    Ok(json!({
        "end": report.end.0,
        "floor": report.floor.0,
        "unclean": report.unclean,
        "queues": queues,
    }))
}
