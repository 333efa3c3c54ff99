//! The scrub on real files: checksums appear, rot is found and kept, and nothing else changes.

use hotfire::disk::real::RealDisk;
use hotfire::model::{QueueId, TopicName, WallMillis};
use hotfire::rt::task::TaskGroup;
use hotfire::rt::time::{Clock, Duration};
use hotfire::store::{Append, Arrival, FlushMode, Options, Outcome, Store, StoreEvents, Ticket};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Nobody listens: the tests look at files.
pub struct Deaf;

impl StoreEvents for Deaf {
    fn on_outcomes(&self, outcomes: &mut Vec<(Ticket, Outcome)>) {
        outcomes.clear();
    }
    fn on_arrivals(&self, _: &[Arrival]) {}
    fn on_poison(&self, reason: &str) {
        panic!("poisoned: {reason}");
    }
}

/// Units: bytes of a segment: four blocks, the last one short.
pub const SEGMENT: u64 = 3 * 65536 + 1000;

pub fn options(dir: &Path) -> Options {
    Options {
        segment_size_bytes: SEGMENT,
        queue_file_entries: 100,
        flush: FlushMode::Sync,
        scrub_rate_bytes: 1 << 30,
        scrub_interval: Duration::from_millis(1),
        scrub_look_interval: Duration::from_millis(5),
        ..Options::new(&dir.join("store").to_string_lossy())
    }
}

pub async fn open(group: &TaskGroup, options: &Options) -> Store {
    let disk = Arc::new(RealDisk::new());
    let opened = Store::open(disk, Clock::new(), group, options.clone(), Arc::new(Deaf)).await;
    opened.unwrap().0
}

/// Sends `count` messages of 1000 bytes over three queues and waits until they are synced.
pub async fn fill(store: &Store, count: u64) {
    let host = ([127, 0, 0, 1], 10911).into();
    let topic = TopicName::new("TopicTest");
    for n in 0..count {
        let append = Append {
            topic: &topic,
            queue: QueueId(n as u32 % 3),
            flag: 0,
            sys_flag: 0,
            born_timestamp: WallMillis(1),
            born_host: host,
            store_host: host,
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body: &[n as u8; 1000],
            properties: b"TAGS\x01TagA",
            tags_code: None,
            wait: true,
            ticket: Ticket(n),
        };
        store.append(&append).unwrap();
    }
    until(|| store.stats().synced == store.stats().end).await;
}

pub async fn until(holds: impl Fn() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it did not come within 10 s");
}

/// A bit flips at rest: the file's time of change stays.
pub fn flip(path: &Path, at: u64) {
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    file.set_modified(modified).unwrap();
}

pub fn segment(options: &Options, n: u64) -> PathBuf {
    Path::new(&options.commit_log.all()[0]).join(format!("{:020}", n * SEGMENT))
}
fn checksums(options: &Options, n: u64) -> PathBuf {
    Path::new(&options.root).join("hotfire/checksum").join(format!("{:020}", n * SEGMENT))
}

#[tokio::test]
async fn rot_anywhere_in_a_sealed_segment_is_found_kept_and_touches_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (options, group) = (options(dir.path()), TaskGroup::new());
    let store = open(&group, &options).await;
    fill(&store, 600).await;
    until(|| (0..3).all(|n| checksums(&options, n).exists())).await;
    assert!(!checksums(&options, 3).exists(), "the last segment is not sealed");
    assert!(store.rot().is_empty());

    // The store time of a record, which no check of the format sees.
    flip(&segment(&options, 1), 70_000 - 70_000 % 1109 + 60);
    let before = std::fs::read(segment(&options, 1)).unwrap();
    until(|| !store.rot().is_empty()).await;
    let rot = store.rot();
    assert_eq!((rot.len(), rot[0].base, rot[0].from, rot[0].to), (1, SEGMENT, 65536, 131_072));
    assert_eq!(rot[0].path, segment(&options, 1).to_string_lossy());
    assert!(rot[0].records.len() > 20, "{:?}", rot[0].records);
    assert_eq!((store.stats().rot, rot[0].records[0].topic.as_str()), (1, "TopicTest"));
    assert_eq!(std::fs::read(segment(&options, 1)).unwrap(), before);

    // A body, in the short last block of another segment.
    flip(&segment(&options, 0), SEGMENT - 1400);
    until(|| store.rot().len() == 2).await;
    store.shutdown().await.unwrap();
    let again = open(&group, &options).await;
    until(|| again.stats().rot == 2).await;
    again.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_is_bad_before_its_checksum_is_made_does_not_become_good() {
    let dir = tempfile::tempdir().unwrap();
    let (mut options, group) = (options(dir.path()), TaskGroup::new());
    options.scrub_rate_bytes = 0;
    let store = open(&group, &options).await;
    fill(&store, 600).await;
    store.shutdown().await.unwrap();
    assert!(!checksums(&options, 0).exists());
    flip(&segment(&options, 0), 500);
    options.scrub_rate_bytes = 1 << 30;
    let store = open(&group, &options).await;
    until(|| checksums(&options, 2).exists()).await;
    let rot = store.rot();
    assert_eq!((rot.len(), rot[0].from, rot[0].records.len()), (1, 0, 1), "{rot:?}");
    assert!(rot[0].what.contains("crc"), "{}", rot[0].what);
    // Another bit of the same block: it has no checksum, but its records are still looked at.
    flip(&segment(&options, 0), 30_100);
    until(|| store.rot().len() == 2).await;
    assert_eq!(store.rot()[1].records.len(), 1);
    store.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_segment_that_somebody_wrote_gets_new_checksums_and_is_no_rot() {
    let dir = tempfile::tempdir().unwrap();
    let (options, group) = (options(dir.path()), TaskGroup::new());
    let store = open(&group, &options).await;
    fill(&store, 600).await;
    until(|| (0..3).all(|n| checksums(&options, n).exists())).await;
    let old = std::fs::read(checksums(&options, 1)).unwrap();
    let file = std::fs::File::options().write(true).open(segment(&options, 1)).unwrap();
    file.write_all_at(&[7; 4], 60).unwrap();
    until(|| std::fs::read(checksums(&options, 1)).unwrap() != old).await;
    assert!(store.rot().is_empty(), "{:?}", store.rot());
    store.shutdown().await.unwrap();
}
