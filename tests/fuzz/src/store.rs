//! A small store directory, and what is done to it.

use crate::disk::{files, memory, with_files};
use hotfire::disk::Disk;
use hotfire::model::{QueueId, QueueKey, QueueOffset, TopicName, WallMillis};
use hotfire::rt::task::{TaskGroup, yield_now};
use hotfire::rt::time::{Clock, Duration};
use hotfire::store::{
    Append, Arrival, Error, FlushMode, Options, Outcome, Read, ReadLimits, Store, StoreEvents,
    Ticket,
};
use std::sync::{Arc, OnceLock};

struct Deaf;

impl StoreEvents for Deaf {
    fn on_outcomes(&self, outcomes: &mut Vec<(Ticket, Outcome)>) {
        outcomes.clear();
    }
    fn on_arrivals(&self, _: &[Arrival]) {}
    fn on_poison(&self, _: &str) {}
}

pub fn options() -> Options {
    Options {
        segment_size_bytes: 2048,
        queue_file_entries: 8,
        record_size_max_bytes: 1024,
        flush: FlushMode::Sync,
        scrub_look_interval: Duration::from_millis(1),
        scrub_rate_bytes: 1 << 40,
        floor_interval: Duration::from_millis(1),
        recovery_read_size_bytes: 512,
        index_slots: 16,
        index_entries: 32,
        index_run_interval: Duration::from_millis(1),
        ..Options::new("/store")
    }
}

type Files = Vec<(String, Vec<u8>)>;

/// What a store of three segments left behind: after an orderly stop, and as a killed one would.
fn left_behind() -> &'static [Files; 2] {
    static MADE: OnceLock<[Files; 2]> = OnceLock::new();
    MADE.get_or_init(|| {
        run(async {
            let disk = memory();
            let group = TaskGroup::new();
            let opened =
                Store::open(disk.clone(), Clock::new(), &group, options(), Arc::new(Deaf)).await;
            let (store, _) = opened.expect("an empty directory opens");
            for n in 0..40 {
                append(&store, n);
            }
            let clock = Clock::new();
            while store.stats().synced < store.stats().end || store.stats().entries_unwritten > 0 {
                clock.sleep_until(clock.mono() + Duration::from_millis(1)).await;
            }
            clock.sleep_until(clock.mono() + Duration::from_millis(30)).await;
            let (mut killed, mut stopped) = (Vec::new(), Vec::new());
            files(&*disk, "/store", &mut killed);
            store.shutdown().await.expect("an orderly stop");
            files(&*disk, "/store", &mut stopped);
            assert!(killed.len() > 10 && stopped.len() > 10, "a store has files");
            [killed, stopped]
        })
    })
}

fn append(store: &Store, n: u64) {
    let host = ([10, 0, 0, 1], 10911).into();
    let topic = TopicName::new(if n % 3 == 0 { "A" } else { "Bb" });
    let append = Append {
        topic: &topic,
        queue: QueueId(n as u32 % 2),
        flag: 0,
        sys_flag: 0,
        born_timestamp: WallMillis(1),
        born_host: host,
        store_host: host,
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body: &vec![n as u8; n as usize],
        properties: b"TAGS\x01TagA\x02KEYS\x01k1",
        tags_code: None,
        wait: true,
        ticket: Ticket(n),
    };
    let _ = store.append(&append);
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(work)
}

/// An edited copy of one of the directories. The input is a list of edits: which file, where, how,
/// and for some what.
fn edited(input: &[u8]) -> Files {
    let Some((first, mut rest)) = input.split_first() else { return Vec::new() };
    let mut all = left_behind()[usize::from(first % 2)].clone();
    while let Some((edit, more)) = rest.split_at_checked(5) {
        rest = more;
        if all.is_empty() {
            break;
        }
        let nth = usize::from(edit[0]) % all.len();
        let at = usize::from(u16::from_be_bytes([edit[1], edit[2]]));
        let (kind, value) = (edit[3] % 9, edit[4]);
        if shows() {
            eprintln!("edit {kind} of {} at {at} with {value}", all[nth].0);
        }
        let count = all.len();
        let bytes = &mut all[nth].1;
        let place = if bytes.is_empty() { 0 } else { at % bytes.len() };
        match kind {
            0 if !bytes.is_empty() => bytes[place] ^= 1 << (value % 8),
            1 if !bytes.is_empty() => bytes[place] = value,
            2 => {
                let end = (place + usize::from(value) * 4).min(bytes.len());
                bytes[place..end].fill(0);
            }
            3 => bytes.truncate(place),
            4 => bytes.resize(bytes.len() + usize::from(value), value),
            // Whatever the input says next.
            5 => {
                let (data, more) = rest.split_at(usize::from(value).min(rest.len()));
                rest = more;
                let end = (place + data.len()).min(bytes.len());
                let len = end - place;
                bytes[place..end].copy_from_slice(&data[..len]);
            }
            // A part of another file, or of another place.
            6 => {
                let from = all[usize::from(value) % count].1.clone();
                let bytes = &mut all[nth].1;
                let end = (place + from.len().min(512)).min(bytes.len());
                let len = end - place;
                bytes[place..end].copy_from_slice(&from[..len]);
            }
            7 => {
                all.remove(nth);
            }
            8 => {
                let (mut path, bytes) = all[nth].clone();
                path.pop();
                path.push(char::from(b'0' + value % 75));
                all.push((path, bytes));
            }
            _ => {}
        }
    }
    all
}

/// HOTFIRE_FUZZ_SHOW=1 tells what an input does.
fn shows() -> bool {
    std::env::var_os("HOTFIRE_FUZZ_SHOW").is_some()
}

/// A store that was dropped is free by then. Units: tries of 5 ms.
const LOCK_TRIES: u32 = 400;

/// Opens it twice: the second start must agree with the first.
pub fn open_edited(input: &[u8]) {
    let files = edited(input);
    crate::bounded(|| run(open_twice(&with_files(&files))));
}

/// The log's end, and every queue with its ends and what can be read of it.
type Seen = (u64, Vec<(QueueKey, u64, u64, usize)>);

async fn open_twice(disk: &Arc<dyn Disk>) {
    let Ok(first) = open(disk, false).await else { return };
    let second = open(disk, true).await.expect("what opened once opens again");
    // Damage that a start after an orderly stop does not look at, queue entries in the middle or
    // records that nobody read, is met by the unclean second start: queues may differ then.
    assert_eq!(first.0, second.0, "the second start finds another end of the log");
    let third = open(disk, false).await.expect("what was stopped in order opens");
    assert_eq!(second, third, "a start after an orderly stop disagrees");
}

async fn open(disk: &Arc<dyn Disk>, in_order: bool) -> Result<Seen, Error> {
    let group = TaskGroup::new();
    let clock = Clock::new();
    let (store, report) = {
        let mut tries = 0;
        loop {
            let deaf = Arc::new(Deaf);
            match Store::open(disk.clone(), clock.clone(), &group, options(), deaf).await {
                // Reads in the blocking pool hold the store, and its lock, until they end.
                Err(Error::Locked { .. }) if tries < LOCK_TRIES => tries += 1,
                opened => break opened?,
            }
            clock.sleep_until(clock.mono() + Duration::from_millis(5)).await;
        }
    };
    let mut queues = Vec::new();
    for (key, min, end) in store.queues() {
        let count = read(&store, &key, min, end).await;
        queues.push((key, min.0, end.0, count));
    }
    if in_order {
        store.shutdown().await.expect("a healthy disk lets it stop in order");
    }
    if shows() {
        eprintln!("{report:?}\n{queues:?}");
    }
    drop(store);
    group.shutdown(&clock, clock.mono()).await;
    drop(group);
    // Aborted tasks hold the store, and its lock, until they get a turn.
    for _ in 0..50 {
        yield_now().await;
    }
    Ok((report.end.0, queues))
}

async fn read(store: &Store, key: &QueueKey, min: QueueOffset, end: QueueOffset) -> usize {
    let (mut at, mut count) = (min, 0);
    for _ in 0..200 {
        if at >= end {
            break;
        }
        let limits = ReadLimits { count: 32 };
        let result = match store.read(key, at, &limits, &|_| true) {
            Read::Ready(result) => result,
            Read::Cold(cold) => match cold.run(&|_| true).await {
                Ok(result) => result,
                Err(_) => break,
            },
        };
        count += result.count;
        if result.next <= at {
            break;
        }
        at = result.next;
    }
    count
}
