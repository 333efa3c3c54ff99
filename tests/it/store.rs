//! The store on real files: what an outcome promises, and what a restart finds.

use bytes::Bytes;
use hotfire::disk::Disk;
use hotfire::disk::faulty::{Call, Fault, FaultyDisk};
use hotfire::disk::real::RealDisk;
use hotfire::format::message_unit::{self, View};
use hotfire::model::{PhysicalOffset, QueueId, QueueKey, QueueOffset, TopicName, WallMillis};
use hotfire::rt::sync::Mutex;
use hotfire::rt::task::TaskGroup;
use hotfire::rt::time::{Clock, Duration};
use hotfire::store::{
    Append, AppendError, Appended, Arrival, BatchMember, Error, FlushMode, Options, Outcome, Read,
    ReadLimits, ReadResult, ReadStatus, RecoveryReport, Rejection, Store, StoreEvents, Ticket,
};
use std::net::SocketAddr;
use std::sync::Arc;

#[derive(Default)]
struct Heard {
    outcomes: Vec<(Ticket, Outcome)>,
    arrivals: Vec<Arrival>,
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
