//! The store on real files: what an outcome promises, and what a restart finds.

mod index;
mod records;
mod recovery;
mod retention;

mod damage;

use bytes::Bytes;
use hotfire::disk::faulty::{Call, Fault, FaultyDisk};
use hotfire::disk::real::RealDisk;
use hotfire::disk::{BoxFuture, Disk, Entry, File, Fill, LockGuard};
use hotfire::format::message_unit::{self, View};
use hotfire::model::{PhysicalOffset, QueueId, QueueKey, QueueOffset, TopicName, WallMillis};
use hotfire::rt::sync::{Mutex, watch};
use hotfire::rt::task::TaskGroup;
use hotfire::rt::time::{Clock, Duration};
use hotfire::store::retention::Rules;
use hotfire::store::{
    Append, AppendError, Appended, Arrival, BatchMember, Deleted, Error, FlushMode, LogPaths,
    Options, Outcome, RawLog, Read, ReadLimits, ReadResult, ReadStatus, RecoveryReport, Rejection,
    Store, StoreEvents, Ticket,
};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

#[derive(Default)]
struct Heard {
    outcomes: Vec<(Ticket, Outcome)>,
    arrivals: Vec<Arrival>,
    deleted: Vec<Deleted>,
    poison: Option<String>,
}

#[derive(Default)]
struct Listener(Mutex<Heard>);

impl StoreEvents for Listener {
    fn on_outcomes(&self, outcomes: &mut Vec<(Ticket, Outcome)>) {
        self.0.lock().outcomes.append(outcomes);
    }
    fn on_arrivals(&self, arrivals: &[Arrival]) {
        self.0.lock().arrivals.extend_from_slice(arrivals);
    }
    fn on_deleted(&self, deleted: &Deleted) {
        self.0.lock().deleted.push(deleted.clone());
    }
    fn on_poison(&self, reason: &str) {
        self.0.lock().poison = Some(reason.to_owned());
    }
}

/// A store on a directory, and what it told.
struct House {
    store: Store,
    heard: Arc<Listener>,
    report: RecoveryReport,
    clock: Clock,
    group: TaskGroup,
    next: u64,
}

fn options(dir: &tempfile::TempDir) -> Options {
    let root = dir.path().join("store").to_string_lossy().into_owned();
    Options {
        segment_size_bytes: 16 << 10,
        queue_file_entries: 10,
        queue_run_interval: Duration::from_millis(5),
        floor_interval: Duration::from_millis(5),
        owner: "this test".into(),
        retention: Rules::never(),
        ..Options::new(&root)
    }
}

fn topic(name: &str) -> TopicName {
    TopicName::new(name)
}
fn key(name: &str, queue: u32) -> QueueKey {
    QueueKey { topic: topic(name), queue: QueueId(queue) }
}
fn host() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 10911))
}
fn append<'a>(topic: &'a TopicName, queue: u32, body: &'a [u8], ticket: u64) -> Append<'a> {
    Append {
        topic,
        queue: QueueId(queue),
        flag: 0,
        sys_flag: 0,
        born_timestamp: WallMillis(1),
        born_host: host(),
        store_host: host(),
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body,
        properties: b"TAGS\x01TagA",
        tags_code: None,
        wait: true,
        ticket: Ticket(ticket),
    }
}

async fn try_open(disk: Arc<dyn Disk>, options: &Options) -> Result<House, Error> {
    let (clock, group, heard) = (Clock::new(), TaskGroup::new(), Arc::new(Listener::default()));
    let opened = Store::open(disk, clock.clone(), &group, options.clone(), heard.clone()).await;
    let (store, report) = opened?;
    Ok(House { store, heard, report, clock, group, next: 0 })
}
async fn open(options: &Options) -> House {
    try_open(Arc::new(RealDisk::new()), options).await.unwrap()
}

impl House {
    fn send(&mut self, name: &str, queue: u32, body: &[u8]) -> Result<Appended, AppendError> {
        self.next += 1;
        self.store.append(&append(&topic(name), queue, body, self.next))
    }
    /// Sends and waits for the outcome.
    async fn sent(&mut self, name: &str, queue: u32, body: &[u8]) -> (Appended, Outcome) {
        let appended = self.send(name, queue, body).unwrap();
        (appended, self.outcome(self.next).await)
    }
    async fn outcome(&self, ticket: u64) -> Outcome {
        let found = || {
            let heard = self.heard.0.lock();
            heard.outcomes.iter().find(|(t, _)| t.0 == ticket).map(|(_, o)| *o)
        };
        self.until(|| found().is_some(), "an outcome").await;
        found().unwrap()
    }
    async fn until(&self, mut holds: impl FnMut() -> bool, what: &str) {
        let deadline = self.clock.mono() + Duration::from_secs(10);
        while !holds() {
            assert!(self.clock.mono() < deadline, "{what} did not come");
            let soon = self.clock.mono() + Duration::from_millis(1);
            self.clock.sleep_until(soon).await;
        }
    }
    async fn read(&self, name: &str, queue: u32, from: u64) -> ReadResult {
        let limits = ReadLimits { count: 32 };
        match self.store.read(&key(name, queue), QueueOffset(from), &limits, &|_| true) {
            Read::Ready(result) => result,
            Read::Cold(cold) => cold.run(&|_| true).await.unwrap(),
        }
    }
    /// All bodies of a queue, checking that queue offsets are dense.
    async fn bodies(&self, name: &str, queue: u32) -> Vec<Vec<u8>> {
        let mut bodies = Vec::new();
        let mut from = self.store.min_offset(&key(name, queue)).0;
        let end = self.store.max_offset(&key(name, queue)).0;
        while from < end {
            let result = self.read(name, queue, from).await;
            assert_eq!(result.status, ReadStatus::Found);
            for (n, record) in records(&result.messages).iter().enumerate() {
                let view = view(record);
                assert_eq!(view.queue_offset().0, from + n as u64);
                assert_eq!((view.topic(), view.queue_id().0), (name, queue));
                bodies.push(view.body().to_vec());
            }
            assert!(result.next.0 > from);
            from = result.next.0;
        }
        bodies
    }
    async fn stop(self) {
        self.store.shutdown().await.unwrap();
    }
    /// As a kill -9 ends it: files stay as they are, the lock goes with the process.
    async fn kill(self) {
        self.group.shutdown(&self.clock, self.clock.mono()).await;
        drop(self);
        // Blocking calls under way hold the store until they end.
        for _ in 0..50 {
            hotfire::rt::task::yield_now().await;
        }
    }
}

fn records(messages: &[Bytes]) -> Vec<Bytes> {
    let mut all = Vec::new();
    for part in messages {
        let mut at = 0;
        for record in message_unit::delivered(part) {
            let size = record.unwrap().size();
            all.push(part.slice(at..at + size));
            at += size;
        }
    }
    all
}
fn view(record: &Bytes) -> View<'_> {
    message_unit::delivered(record).next().unwrap().unwrap()
}
fn temp() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}
fn run(test: impl Future<Output = ()>) {
    hotfire::rt::block_on(test);
}

#[test]
fn messages_are_found_again_after_an_orderly_stop_and_after_a_kill() {
    for (flush, killed) in [
        (FlushMode::Async, false),
        (FlushMode::Async, true),
        (FlushMode::Sync, false),
        (FlushMode::Sync, true),
    ] {
        run(async {
            let dir = temp();
            let options = Options { flush, ..options(&dir) };
            let mut expected = Vec::new();
            for round in 0..4 {
                let mut house = open(&options).await;
                assert_eq!(house.report.unclean, killed && round > 0, "{flush:?}");
                assert_eq!(house.bodies("T", 1).await, expected);
                for n in 0..37 {
                    let body = format!("{round}-{n}-").repeat(1 + n * 7 % 90).into_bytes();
                    let (appended, outcome) = house.sent("T", 1, &body).await;
                    assert_eq!(outcome, Outcome::Durable);
                    assert_eq!(appended.queue_offset.0, expected.len() as u64);
                    expected.push(body);
                }
                assert_eq!(house.bodies("T", 1).await, expected);
                if killed {
                    house.kill().await
                } else {
                    house.stop().await
                }
                let abort = dir.path().join("store/abort");
                assert_eq!(abort.exists(), killed);
            }
        });
    }
}

/// Java's search by time picks the first queue file that was not changed before the time.
#[test]
fn a_full_queue_file_has_the_time_of_its_last_message_also_after_recovery_made_it_anew() {
    run(async {
        let dir = temp();
        let options = options(&dir);
        let stored = async |house: &House, offset| {
            let time = house.store.store_time_of(&key("T", 0), QueueOffset(offset)).await;
            time.unwrap().unwrap().0
        };
        let changed = |base: u64| {
            let path = format!("{}/consumequeue/T/0/{base:020}", options.root);
            RealDisk::new().open(&path).unwrap().modified_ms().unwrap()
        };
        let mut house = open(&options).await;
        for n in 0..25 {
            house.sent("T", 0, format!("{n}").as_bytes()).await;
            let soon = house.clock.mono() + Duration::from_millis(2);
            house.clock.sleep_until(soon).await;
        }
        let ends = (stored(&house, 9).await, stored(&house, 19).await);
        house.stop().await;
        assert_eq!((changed(0), changed(200)), ends, "written while it ran");
        let own = dir.path().join("store/hotfire/queues");
        RealDisk::new().remove(own.to_str().unwrap()).unwrap();
        let house = open(&options).await;
        assert_eq!((changed(0), changed(200)), ends, "made anew");
        house.stop().await;
    });
}

#[test]
fn a_batch_is_contiguous_in_one_segment_and_has_one_outcome() {
    run(async {
        let dir = temp();
        let mut house = open(&options(&dir)).await;
        for n in 0..30 {
            house.sent("T", 0, &vec![b'a'; 100 + n * 13]).await;
            let body = vec![b'b'; 900];
            let member = |flag| BatchMember {
                flag,
                body: &body,
                properties: b"KEYS\x01k",
                tags_code: Some(0),
            };
            let members: Vec<_> = (0..5).map(member).collect();
            let (name, mut places) = (topic("T"), Vec::new());
            house.next += 1;
            let shared = append(&name, 0, b"", house.next);
            let appended = house.store.append_batch(&shared, &members, &mut places).unwrap();
            assert_eq!(house.outcome(house.next).await, Outcome::Durable);
            assert_eq!(places[0], appended.physical);
            let size = appended.size as u64 / 5;
            assert!(places.windows(2).all(|w| w[0].0 + size == w[1].0));
            let segment = |at: u64| at / (16 << 10);
            assert_eq!(segment(places[0].0), segment(places[4].0 + size - 1));
            let first = house.read("T", 0, appended.queue_offset.0).await;
            assert_eq!(first.count, 5);
            assert_eq!(view(&records(&first.messages)[4]).flag(), 4);
        }
        let outcomes = house.heard.0.lock().outcomes.len() as u64;
        assert_eq!(outcomes, house.next);
        house.stop().await;
        let house = open(&options(&dir)).await;
        assert_eq!(house.store.max_offset(&key("T", 0)).0, 30 * 6);
        house.bodies("T", 0).await;
    });
}

#[test]
fn a_record_as_large_as_a_segment_is_taken_and_a_larger_one_is_refused() {
    run(async {
        let dir = temp();
        let options = options(&dir);
        let mut house = open(&options).await;
        house.sent("T", 0, b"first").await;
        let overhead = 91 + 1 + 9;
        let largest = options.segment_size_bytes as usize - 8 - overhead;
        let (at, outcome) = house.sent("T", 0, &vec![1; largest]).await;
        assert_eq!((at.physical.0, outcome), (16 << 10, Outcome::Durable));
        let refused = house.send("T", 0, &vec![1; largest + 1]).unwrap_err();
        assert!(matches!(refused, AppendError::Size { .. }), "{refused}");
        house.sent("T", 0, b"last").await;
        let read = house.read("T", 0, 1).await;
        assert_eq!(view(&records(&read.messages)[0]).size(), 16 * 1024 - 8);
        house.kill().await;
        let house = open(&options).await;
        assert_eq!(house.bodies("T", 0).await.len(), 3);
    });
}

#[test]
fn sync_flush_timeout_is_told_and_the_message_is_kept() {
    run(async {
        let dir = temp();
        let slow = Arc::new(SlowSync::new());
        let options = Options {
            flush: FlushMode::Sync,
            sync_flush_timeout: Duration::from_millis(30),
            ..options(&dir)
        };
        let mut house = try_open(slow.clone(), &options).await.unwrap();
        house.sent("T", 0, b"quick").await;
        slow.hold.send(true);
        let (at, outcome) = house.sent("T", 0, b"slow").await;
        assert_eq!(outcome, Outcome::FlushTimeout);
        // Not ackable, so not visible: not in its queue, not in a pull.
        assert_eq!(house.store.max_offset(&key("T", 0)).0, 1);
        assert_eq!(house.read("T", 0, 1).await.status, ReadStatus::OffsetOverflowOne);
        slow.hold.send(false);
        let store = house.store.clone();
        house.until(|| store.max_offset(&key("T", 0)).0 == 2, "visibility").await;
        assert_eq!(house.heard.0.lock().outcomes.len(), 2);
        assert_eq!(at.queue_offset.0, 1);
        house.stop().await;
    });
}

#[test]
fn a_failed_sync_poisons_and_the_next_start_rewrites() {
    for flush in [FlushMode::Sync, FlushMode::Async] {
        run(async {
            let dir = temp();
            let disk = FaultyDisk::new(Arc::new(RealDisk::new()));
            let options = Options {
                flush,
                flush_thorough_interval: Duration::from_millis(20),
                floor_interval: Duration::from_secs(100),
                ..options(&dir)
            };
            let mut house = try_open(Arc::new(disk.clone()), &options).await.unwrap();
            house.sent("T", 0, b"before").await;
            let store = house.store.clone();
            house.until(|| store.stats().synced == store.stats().end, "a sync").await;
            disk.fail_always(Call::Sync, "commitlog", Fault::Broken);
            let appended = house.send("T", 0, b"lost?");
            if flush == FlushMode::Sync {
                let outcome = house.outcome(house.next).await;
                assert_eq!(outcome, Outcome::Rejected(Rejection::Poisoned));
                assert_eq!(house.store.max_offset(&key("T", 0)).0, 1);
            }
            assert!(appended.is_ok());
            let heard = house.heard.clone();
            house.until(|| heard.0.lock().poison.is_some(), "poison").await;
            let refused = house.send("T", 0, b"refused").unwrap_err();
            assert!(matches!(refused, AppendError::Poisoned(_)), "{refused}");
            disk.heal();
            let syncs = disk.count(Call::Sync, "commitlog");
            assert!(matches!(house.store.shutdown().await, Err(Error::Poisoned(_))));
            assert_eq!(disk.count(Call::Sync, "commitlog"), syncs, "a sync was tried again");
            house.kill().await;
            let house = try_open(Arc::new(disk.clone()), &options).await.unwrap();
            assert!(house.report.unclean);
            assert!(house.report.rewritten_bytes > 0, "{:?}", house.report);
            assert!(disk.count(Call::Sync, "commitlog") > syncs);
            assert_eq!(house.bodies("T", 0).await, [b"before".to_vec(), b"lost?".to_vec()]);
        });
    }
}

#[test]
fn a_failed_write_poisons() {
    run(async {
        let dir = temp();
        let disk = FaultyDisk::new(Arc::new(RealDisk::new()));
        let mut house = try_open(Arc::new(disk.clone()), &options(&dir)).await.unwrap();
        house.sent("T", 0, b"before").await;
        disk.fail_always(Call::Write, "commitlog", Fault::Broken);
        let (_, outcome) = house.sent("T", 0, b"lost").await;
        assert_eq!(outcome, Outcome::Rejected(Rejection::Poisoned));
        // What is not known to be on disk is not served, and who has seen it is not sent back.
        assert_eq!(house.store.max_offset(&key("T", 0)).0, 0);
        assert_eq!(house.read("T", 0, 1).await.status, ReadStatus::OffsetOverflowOne);
        assert!(house.heard.0.lock().poison.is_some());
    });
}

#[test]
fn a_full_disk_rejects_what_needs_a_new_file_and_sending_resumes_by_itself() {
    run(async {
        let dir = temp();
        let disk = FaultyDisk::new(Arc::new(RealDisk::new()));
        let options =
            Options { allocate_retry_interval: Duration::from_millis(20), ..options(&dir) };
        let mut house = try_open(Arc::new(disk.clone()), &options).await.unwrap();
        house.sent("T", 0, b"first").await;
        disk.fail_always(Call::Create, "commitlog", Fault::NoSpace);
        let body = vec![b'x'; 3000];
        let (mut kept, mut rejected, mut refused) = (1, 0, None);
        for _ in 0..12 {
            match house.send("T", 0, &body) {
                Ok(_) => match house.outcome(house.next).await {
                    Outcome::Durable => kept += 1,
                    Outcome::Rejected(Rejection::NoSpace) => rejected += 1,
                    other => panic!("{other:?}"),
                },
                Err(error) => refused = Some(error),
            }
        }
        assert_eq!(kept, 6, "what fits into the file is taken; {rejected} were rejected");
        let refused = refused.unwrap();
        assert!(matches!(refused, AppendError::NoSpace { .. }), "{refused}");
        assert!(refused.to_string().contains("no space left"));
        assert!(house.store.stats().no_space);
        assert!(house.heard.0.lock().poison.is_none());
        // A small message still fits, and readers go on.
        assert_eq!(house.sent("T", 0, b"small").await.1, Outcome::Durable);
        assert_eq!(house.bodies("T", 0).await.len(), 7);
        disk.heal();
        let store = house.store.clone();
        house.until(|| !store.stats().no_space, "space").await;
        let (at, outcome) = house.sent("T", 0, &body).await;
        assert_eq!((outcome, at.queue_offset.0), (Outcome::Durable, 7));
        house.stop().await;
        let house = open(&options).await;
        assert_eq!(house.bodies("T", 0).await.len(), 8);
    });
}

#[test]
fn whoever_waits_for_the_log_hears_that_it_was_rejected_or_poisoned() {
    run(async {
        let (from, to) = (temp(), temp());
        let mut master = open(&options(&from)).await;
        for _ in 0..8 {
            master.sent("T", 0, &[7; 1000]).await;
        }
        let log = master.store.raw_log(PhysicalOffset(0), 8 << 10).await.unwrap();
        let RawLog::Bytes(log) = log else { panic!("{log:?}") };
        let disk = Arc::new(FaultyDisk::new(Arc::new(RealDisk::new())));
        let options = Options { stall_max: Duration::from_millis(100), ..options(&to) };
        let slave = try_open(disk.clone(), &options).await.unwrap();
        disk.hold(Call::Create);
        for is_rejected in [true, false] {
            let mut intake = slave.store.intake();
            intake.feed(&log);
            slave.store.take_in(&mut intake).await.unwrap();
            let taken = PhysicalOffset(intake.at());
            let settled = slave.store.until(|at| at.written >= taken || at.end < taken).await;
            match settled {
                Ok(at) => assert!(is_rejected && at.end.0 == 0, "{at:?}"),
                Err(error) => assert!(!is_rejected && matches!(error, Error::Poisoned(_))),
            }
            disk.release();
            slave.until(|| slave.store.stats().stall.is_none(), "a file").await;
            disk.fail_always(Call::Write, "commitlog", Fault::Broken);
        }
        master.stop().await;
    });
}

#[test]
fn names_of_log_files_are_synced_before_they_are_used_again() {
    run(async {
        let dir = temp();
        let options = options(&dir);
        let mut house = open(&options).await;
        house.sent("T", 0, b"first").await;
        house.kill().await;
        // The process may have died between the rename and the directory's sync.
        let disk = FaultyDisk::new(Arc::new(RealDisk::new()));
        let house = try_open(Arc::new(disk.clone()), &options).await.unwrap();
        assert!(disk.count(Call::SyncDir, "commitlog") > 0, "the name may be lost again");
        house.stop().await;
    });
}

#[test]
fn a_leftover_name_does_not_block_the_next_log_file() {
    run(async {
        let dir = temp();
        let options =
            Options { allocate_retry_interval: Duration::from_millis(20), ..options(&dir) };
        let mut house = open(&options).await;
        house.sent("T", 0, b"first").await;
        // Made whole and renamed, and then its directory could not be synced.
        let next = format!("{}/{:020}", options.commit_log.all()[0], options.segment_size_bytes);
        std::fs::write(&next, vec![0; options.segment_size_bytes as usize]).unwrap();
        let mut stored = 0;
        for _ in 0..200 {
            let body = vec![b'x'; 3000];
            if house.send("T", 0, &body).is_ok()
                && house.outcome(house.next).await == Outcome::Durable
            {
                stored += 1;
            }
            if stored == 12 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(stored, 12, "sending goes on in the next file");
        house.stop().await;
    });
}

#[test]
fn a_read_error_while_recovering_refuses_the_start_and_costs_nothing() {
    run(async {
        let dir = temp();
        let options = options(&dir);
        let mut house = open(&options).await;
        for n in 0..20_u8 {
            house.sent("T", 0, &[n]).await;
        }
        house.kill().await;
        let disk = FaultyDisk::new(Arc::new(RealDisk::new()));
        disk.fail_always(Call::Read, "commitlog", Fault::Broken);
        let refused = try_open(Arc::new(disk.clone()), &options).await.err().unwrap();
        assert!(refused.to_string().contains("commitlog"), "{refused}");
        disk.heal();
        let house = try_open(Arc::new(disk), &options).await.unwrap();
        assert_eq!(house.bodies("T", 0).await.len(), 20);
        house.stop().await;
    });
}

#[test]
fn a_second_start_touches_nothing_and_says_who_holds_the_store() {
    run(async {
        let dir = temp();
        let mut house = open(&options(&dir)).await;
        house.sent("T", 0, b"x").await;
        let store = house.store.clone();
        house.until(|| store.stats().entries_unwritten == 0, "entries in files").await;
        let before = tree(dir.path());
        let second = try_open(Arc::new(RealDisk::new()), &options(&dir)).await.err().unwrap();
        let text = second.to_string();
        assert!(matches!(second, Error::Locked { .. }), "{text}");
        assert!(text.contains("this test"), "{text}");
        let same = |t: &Vec<(String, u64)>| {
            t.iter().filter(|(p, _)| !p.contains("floor")).cloned().collect::<Vec<_>>()
        };
        assert_eq!(same(&tree(dir.path())), same(&before));
        assert_eq!(house.sent("T", 0, b"y").await.1, Outcome::Durable);
        house.stop().await;
    });
}

#[test]
fn a_torn_tail_is_cut_and_made_zero() {
    run(async {
        let dir = temp();
        let options = Options { floor_interval: Duration::from_secs(100), ..options(&dir) };
        let mut house = open(&options).await;
        let mut places = Vec::new();
        for n in 0..10 {
            places.push(house.sent("T", 0, format!("message {n}").as_bytes()).await.0);
        }
        house.kill().await;
        let file = dir.path().join("store/commitlog/00000000000000000000");
        let mut bytes = std::fs::read(&file).unwrap();
        let torn = places[6].physical.0 as usize;
        bytes[torn + 90] ^= 0x40; // in the body
        std::fs::write(&file, &bytes).unwrap();
        let mut house = open(&options).await;
        assert_eq!(house.report.end.0, torn as u64);
        let reason = house.report.cut_reason.clone().unwrap();
        assert!(
            reason.contains("00000000000000000000: offset") && reason.contains("crc"),
            "{reason}"
        );
        assert_eq!(house.bodies("T", 0).await.len(), 6);
        let after = std::fs::read(&file).unwrap();
        assert!(after[torn..].iter().all(|byte| *byte == 0));
        assert_eq!(after[..torn], bytes[..torn]);
        // The offset of the lost message is given again; nothing old comes back behind it.
        let (at, _) = house.sent("T", 0, b"message 6").await;
        assert_eq!((at.queue_offset.0, at.physical.0), (6, torn as u64));
        house.kill().await;
        let house = open(&options).await;
        assert_eq!(house.bodies("T", 0).await.len(), 7);
    });
}

#[test]
fn rot_below_the_floor_is_kept_skipped_and_named() {
    run(async {
        let dir = temp();
        let mut house = open(&options(&dir)).await;
        let mut places = Vec::new();
        for n in 0..10 {
            places.push(house.sent("T", 0, format!("message {n}").as_bytes()).await.0);
        }
        house.stop().await;
        let file = dir.path().join("store/commitlog/00000000000000000000");
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[places[3].physical.0 as usize + 90] ^= 0x40;
        std::fs::write(&file, &bytes).unwrap();
        // Without the snapshot the whole log is read, and the bad record is met.
        std::fs::remove_file(dir.path().join("store/hotfire/queues")).unwrap();
        let mut house = open(&options(&dir)).await;
        let rot = &house.report.rot;
        assert_eq!(rot.len(), 1, "{:?}", house.report);
        assert_eq!((rot[0].at, rot[0].next), (places[3].physical, places[4].physical));
        assert!(rot[0].path.ends_with("commitlog/00000000000000000000"));
        assert_eq!(std::fs::read(&file).unwrap(), bytes, "nothing is overwritten");
        assert_eq!(house.store.max_offset(&key("T", 0)).0, 10);
        assert_eq!(house.sent("T", 0, b"more").await.0.queue_offset.0, 10);
        let later = house.read("T", 0, 4).await;
        assert_eq!(later.count, 6); // one queue file's entries
    });
}

#[test]
fn files_of_a_wrong_length_or_name_are_named_and_left_alone() {
    for (path, content, expected) in [
        ("commitlog/00000000000000016384", &b"short"[..], "5 bytes"),
        ("commitlog/lost+found", b"", "20 digits"),
        ("commitlog/00000000000000049152", b"gap", "3 bytes"),
        ("consumequeue/T/0/00000000000000000200", b"queue", "5 bytes"),
    ] {
        run(async {
            let dir = temp();
            let mut house = open(&options(&dir)).await;
            house.sent("T", 0, b"x").await;
            house.stop().await;
            let file = dir.path().join("store").join(path);
            std::fs::write(&file, content).unwrap();
            let before = tree(&dir.path().join("store/commitlog"));
            let error = try_open(Arc::new(RealDisk::new()), &options(&dir)).await.err().unwrap();
            let text = error.to_string();
            assert!(text.contains(path) && text.contains(expected), "{text}");
            assert_eq!(std::fs::read(&file).unwrap(), content);
            assert_eq!(tree(&dir.path().join("store/commitlog")), before);
            std::fs::remove_file(&file).unwrap();
            let house = open(&options(&dir)).await;
            assert_eq!(house.bodies("T", 0).await.len(), 1);
        });
    }
}

#[test]
fn queues_are_made_again_when_they_or_everything_of_ours_is_gone() {
    for gone in
        [&["consumequeue"][..], &["hotfire"], &["consumequeue", "hotfire"], &["consumequeue/T/1"]]
    {
        for killed in [false, true] {
            run(async {
                let dir = temp();
                let mut house = open(&options(&dir)).await;
                let mut expected = Vec::new();
                for n in 0..45 {
                    let body = format!("m{n}").repeat(40).into_bytes();
                    house.sent("T", 1, &body).await;
                    house.sent("U", n % 3, &body).await;
                    expected.push(body);
                }
                if killed {
                    house.kill().await
                } else {
                    house.stop().await
                }
                for path in gone {
                    std::fs::remove_dir_all(dir.path().join("store").join(path)).unwrap();
                }
                let mut house = open(&options(&dir)).await;
                assert_eq!(house.bodies("T", 1).await, expected, "{gone:?} {killed}");
                for queue in 0..3 {
                    assert_eq!(house.bodies("U", queue).await.len(), 15);
                }
                assert_eq!(house.sent("T", 1, b"x").await.0.queue_offset.0, 45);
                house.stop().await;
            });
        }
    }
}

#[test]
fn a_deleted_topic_stays_deleted() {
    run(async {
        let dir = temp();
        let mut house = open(&options(&dir)).await;
        for n in 0..25 {
            house.sent("T", 0, format!("old {n}").as_bytes()).await;
            house.sent("U", 0, b"u").await;
        }
        house.store.delete_topic("T").await.unwrap();
        assert_eq!(house.store.max_offset(&key("T", 0)).0, 0);
        assert!(!dir.path().join("store/consumequeue/T").exists());
        assert_eq!(house.sent("T", 0, b"new").await.0.queue_offset.0, 0);
        house.kill().await;
        std::fs::remove_dir_all(dir.path().join("store/consumequeue")).unwrap();
        let house = open(&options(&dir)).await;
        assert_eq!(house.bodies("T", 0).await, [b"new".to_vec()]);
        assert_eq!(house.bodies("U", 0).await.len(), 25);
    });
}

#[test]
fn messages_are_found_by_store_time() {
    run(async {
        let dir = temp();
        let mut house = open(&options(&dir)).await;
        let mut times = Vec::new();
        for n in 0..25 {
            times.push(house.sent("T", 0, format!("{n}").as_bytes()).await.0.store_timestamp.0);
            let later = house.clock.mono() + Duration::from_millis(3);
            house.clock.sleep_until(later).await;
        }
        for restarted in [false, true] {
            let find = async |at| house.store.search_by_time(&key("T", 0), WallMillis(at)).await;
            assert_eq!(find(0).await.unwrap().0, 0);
            assert_eq!(find(i64::MAX).await.unwrap().0, 24);
            for (n, at) in times.iter().enumerate() {
                let found = find(*at).await.unwrap().0 as usize;
                assert_eq!(times[found], *at, "{n} {restarted}");
            }
            let stored = house.store.store_time_of(&key("T", 0), QueueOffset(7)).await.unwrap();
            assert_eq!(stored, Some(WallMillis(times[7])));
            let missing = house.store.search_by_time(&key("T", 9), WallMillis(1)).await;
            assert_eq!(missing.unwrap().0, 0);
            house.stop().await;
            house = open(&options(&dir)).await;
        }
        assert_eq!(house.store.record_at(PhysicalOffset(1)).await.unwrap(), None);
        let record = house.store.record_at(PhysicalOffset(0)).await.unwrap().unwrap();
        assert_eq!(view(&record).body(), b"0");
    });
}

#[test]
fn an_unreadable_sector_fails_one_read_alone() {
    run(async {
        let dir = temp();
        let disk = FaultyDisk::new(Arc::new(RealDisk::new()));
        let options = Options { tail_cache_size_bytes: 0, ..options(&dir) };
        let mut house = try_open(Arc::new(disk.clone()), &options).await.unwrap();
        let mut places = Vec::new();
        for n in 0..4 {
            places.push(house.sent("T", 0, &vec![n; 5000]).await.0);
        }
        let bad = places[1].physical.0 + 100;
        disk.set_unreadable("commitlog", bad..bad + 1);
        let limits = ReadLimits { count: 1 };
        for n in 0..4 {
            let read = house.store.read(&key("T", 0), QueueOffset(n), &limits, &|_| true);
            let Read::Cold(cold) = read else { panic!("nothing is cached") };
            assert_eq!(cold.run(&|_| true).await.is_err(), n == 1);
        }
        assert!(house.heard.0.lock().poison.is_none());
    });
}

/// Every file with its size and a checksum of its content.
fn tree(dir: &std::path::Path) -> Vec<(String, u64)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(tree(&path));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            let sum =
                bytes.iter().fold(0u64, |h, b| h.wrapping_mul(31).wrapping_add(u64::from(*b)));
            all.push((path.to_string_lossy().into_owned(), sum));
        }
    }
    all.sort();
    all
}

/// A disk whose syncs of the commit log wait while it is held.
struct SlowSync {
    inner: RealDisk,
    hold: Arc<watch::Sender<bool>>,
}
impl SlowSync {
    fn new() -> Self {
        SlowSync { inner: RealDisk::new(), hold: Arc::new(watch::channel(false).0) }
    }
    fn wrap(&self, path: &str, file: Arc<dyn File>) -> Arc<dyn File> {
        if !path.contains("commitlog") {
            return file;
        }
        Arc::new(SlowFile { inner: file, hold: self.hold.clone() })
    }
}
impl Disk for SlowSync {
    fn open(&self, path: &str) -> io::Result<Arc<dyn File>> {
        Ok(self.wrap(path, self.inner.open(path)?))
    }
    fn open_or_create(&self, path: &str) -> io::Result<Arc<dyn File>> {
        self.inner.open_or_create(path)
    }
    fn create_whole(
        &self,
        path: &str,
        staging: &str,
        size: u64,
        fill: Fill,
    ) -> BoxFuture<'static, io::Result<Arc<dyn File>>> {
        let made = self.inner.create_whole(path, staging, size, fill);
        let this = SlowSync { inner: RealDisk::new(), hold: self.hold.clone() };
        let path = path.to_owned();
        Box::pin(async move { Ok(this.wrap(&path, made.await?)) })
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }
    fn remove(&self, path: &str) -> io::Result<()> {
        self.inner.remove(path)
    }
    fn remove_dir(&self, path: &str) -> io::Result<()> {
        self.inner.remove_dir(path)
    }
    fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        self.inner.list(dir)
    }
    fn make_dir(&self, dir: &str) -> io::Result<()> {
        self.inner.make_dir(dir)
    }
    fn sync_dir(&self, dir: &str) -> BoxFuture<'static, io::Result<()>> {
        self.inner.sync_dir(dir)
    }
    fn lock(&self, path: &str) -> io::Result<Box<dyn LockGuard>> {
        self.inner.lock(path)
    }
    fn free_space(&self, dir: &str) -> io::Result<(u64, u64)> {
        self.inner.free_space(dir)
    }
}

struct SlowFile {
    inner: Arc<dyn File>,
    hold: Arc<watch::Sender<bool>>,
}
impl File for SlowFile {
    fn size(&self) -> io::Result<u64> {
        self.inner.size()
    }
    fn modified_ms(&self) -> io::Result<i64> {
        self.inner.modified_ms()
    }
    fn set_modified_ms(&self, at: i64) -> io::Result<()> {
        self.inner.set_modified_ms(at)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.inner.write_at(offset, data)
    }
    fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        self.inner.read_at(offset, len)
    }
    fn read(&self, offset: u64, len: usize) -> BoxFuture<'static, io::Result<Bytes>> {
        self.inner.read(offset, len)
    }
    fn set_size(&self, size: u64) -> io::Result<()> {
        self.inner.set_size(size)
    }
    fn sync_data(&self) -> BoxFuture<'static, io::Result<()>> {
        let (sync, mut held) = (self.inner.sync_data(), self.hold.subscribe());
        Box::pin(async move {
            held.until(|held| !held).await;
            sync.await
        })
    }
    fn start_writeback(&self, offset: u64, len: u64) {
        self.inner.start_writeback(offset, len)
    }
}
