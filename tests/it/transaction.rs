//! Transactions on a real broker: commit, rollback, check-back, discard, across restarts.

use super::broker::{Caller, TIMEOUT, World, send_request};
use hotfire::broker::{Broker, Parts};
use hotfire::disk::faulty::{Call, Fault, FaultyDisk};
use hotfire::disk::real::RealDisk;
use hotfire::format::message_unit;
use hotfire::format::properties::Properties;
use hotfire::protocol::Command;
use hotfire::protocol::code::{request_code as request, response_code as code};
use hotfire::remoting::{Client, ClientOptions, ClientRequests, Peer};
use hotfire::rt::block_on;
use hotfire::rt::sync::{Mutex, Notify};
use hotfire::rt::time::Duration;
use hotfire::store::FlushMode;
use std::sync::Arc;

const HALF: &str = "RMQ_SYS_TRANS_HALF_TOPIC";
const OP: &str = "RMQ_SYS_TRANS_OP_HALF_TOPIC";
const DISCARDED: &str = "TRANS_CHECK_MAX_TIME_TOPIC";
const GROUP: &str = "txg";
const UNIQUE: &str = "7F000001000000000000000000000001";

pub(super) const COMMIT: i32 = 8;
const ROLLBACK: i32 = 12;
const UNKNOWN: i32 = 0;

/// No check within a test, unless it wants one.
fn parts(world: &World) -> Parts {
    let mut parts = world.parts();
    parts.broker.offsets_save_interval = Duration::from_millis(20);
    parts.store.flush = FlushMode::Sync;
    parts.broker.transactions.check_interval = Duration::from_secs(600);
    parts
}

fn checking(world: &World, timeout_ms: u64, check_max: i32) -> Parts {
    let mut parts = parts(world);
    let options = &mut parts.broker.transactions;
    options.check_interval = Duration::from_millis(150);
    options.timeout = Duration::from_millis(timeout_ms);
    options.check_max = check_max;
    options.retry_pause = Duration::from_millis(50);
    parts
}

/// Where a half message lies, as its producer was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Half {
    queue_offset: i64,
    physical: i64,
}

fn half_of(answer: &Command) -> Half {
    assert_eq!(answer.code, code::SUCCESS, "{answer:?}");
    let id = answer.get("msgId").unwrap();
    Half {
        queue_offset: answer.get("queueOffset").unwrap().parse().unwrap(),
        physical: i64::from_str_radix(&id[16..], 16).unwrap(),
    }
}

fn properties(more: &str) -> String {
    format!(
        "TRAN_MSG\u{1}true\u{2}PGROUP\u{1}{GROUP}\u{2}UNIQ_KEY\u{1}{UNIQUE}\u{2}TAGS\u{1}a{more}"
    )
}

pub(super) async fn prepare(caller: &Caller, body: &str, more: &str) -> Half {
    half_of(&caller.send("T", 2, &properties(more), body).await)
}

fn end_request(half: Half, state: i32) -> Command {
    Command::request(request::END_TRANSACTION)
        .with_ext("producerGroup", GROUP)
        .with_ext("tranStateTableOffset", half.queue_offset)
        .with_ext("commitLogOffset", half.physical)
        .with_ext("commitOrRollback", state)
        .with_ext("fromTransactionCheck", false)
        .with_ext("msgId", UNIQUE)
}

pub(super) async fn end(caller: &Caller, half: Half, state: i32) -> i32 {
    caller.call(end_request(half, state)).await.code
}

#[derive(Debug)]
struct Got {
    body: String,
    properties: Properties,
    raw: Vec<u8>,
    sys_flag: i32,
    flag: i32,
    reconsume_times: i32,
    prepared: i64,
}

async fn read(caller: &Caller, topic: &str, queue: i32) -> Vec<Got> {
    let mut all = Vec::new();
    loop {
        let answer = caller.pull(topic, queue, all.len() as i64, 0).await;
        let more = messages(&answer.body);
        if more.is_empty() {
            return all;
        }
        all.extend(more);
    }
}

fn messages(body: &[u8]) -> Vec<Got> {
    let got = |view: message_unit::View| Got {
        body: String::from_utf8_lossy(view.body()).into_owned(),
        properties: Properties::parse(view.properties()),
        raw: view.properties().to_vec(),
        sys_flag: view.sys_flag(),
        flag: view.flag(),
        reconsume_times: view.reconsume_times(),
        prepared: view.prepared_transaction_offset(),
    };
    message_unit::delivered(body).map(|unit| got(unit.unwrap())).collect()
}

async fn view(caller: &Caller, physical: i64) -> Got {
    let request = Command::request(request::VIEW_MESSAGE_BY_ID).with_ext("offset", physical);
    messages(&caller.call(request).await.body).remove(0)
}

async fn bodies(caller: &Caller, topic: &str, queue: i32) -> Vec<String> {
    read(caller, topic, queue).await.into_iter().map(|got| got.body).collect()
}

async fn pause(world: &World, ms: u64) {
    world.clock.sleep_until(world.clock.mono() + Duration::from_millis(ms)).await;
}

async fn max(caller: &Caller, topic: &str, queue: i32) -> String {
    caller.number(request::GET_MAX_OFFSET, topic, queue).await
}

async fn until_max(world: &World, caller: &Caller, topic: &str, want: &str) {
    for _ in 0..300 {
        if max(caller, topic, 0).await == want {
            return;
        }
        pause(world, 20).await;
    }
    panic!("{topic} has {} messages", max(caller, topic, 0).await);
}

/// The saved progress: half topic, op topic.
pub(super) async fn progress(caller: &Caller) -> (i64, i64) {
    let one = |topic| {
        Command::request(request::QUERY_CONSUMER_OFFSET)
            .with_ext("consumerGroup", "CID_RMQ_SYS_TRANS")
            .with_ext("topic", topic)
            .with_ext("queueId", 0)
    };
    let (half, op) = (caller.call(one(HALF)).await, caller.call(one(OP)).await);
    let number = |answer: Command| answer.get("offset").unwrap().parse().unwrap();
    (number(half), number(op))
}

/// A producer that lives, and what it was asked.
struct Producer {
    client: Client,
    addr: String,
    asked: Arc<Asked>,
}

#[derive(Default)]
struct Asked {
    all: Mutex<Vec<Command>>,
    came: Notify,
}

impl ClientRequests for Asked {
    fn on_request(&self, _peer: &Peer, request: Command) {
        self.all.lock().push(request);
        self.came.notify_one();
    }
}

impl Producer {
    async fn new(world: &World, broker: &Broker, id: &str) -> Producer {
        let asked = Arc::new(Asked::default());
        let requests = Some(asked.clone() as Arc<dyn ClientRequests>);
        let options = ClientOptions::default();
        let client = Client::new(&world.net, &world.clock, &world.group, options, requests);
        let addr = broker.local_addr().to_string();
        let body = format!(
            "{{\"clientID\":\"{id}\",\"consumerDataSet\":[],\"producerDataSet\":\
             [{{\"groupName\":\"{GROUP}\"}}]}}"
        );
        let beat = Command::request(request::HEART_BEAT).with_body(body);
        assert_eq!(client.invoke(&addr, beat, TIMEOUT).await.unwrap().code, code::SUCCESS);
        Producer { client, addr, asked }
    }

    /// The next question.
    async fn next(&self, world: &World) -> Command {
        for _ in 0..300 {
            if let Some(first) = { self.asked.all.lock().pop() } {
                assert_eq!(first.code, request::CHECK_TRANSACTION_STATE);
                return first;
            }
            pause(world, 10).await;
        }
        panic!("nobody asked");
    }

    async fn end(&self, question: &Command, state: i32) -> i32 {
        let number = |name| question.get(name).unwrap().parse().unwrap();
        let half = Half {
            queue_offset: number("tranStateTableOffset"),
            physical: number("commitLogOffset"),
        };
        let request = end_request(half, state);
        self.client.invoke(&self.addr, request, TIMEOUT).await.unwrap().code
    }
}

#[test]
fn a_half_message_is_seen_only_once_it_is_committed_and_looks_as_java_has_it() {
    block_on(async {
        let world = World::new();
        let broker = world.start(parts(&world)).await;
        let caller = world.caller(&broker);
        let more = "\u{2}WAIT\u{1}true\u{2}DELAY\u{1}3\u{2}TRAN_PREPARED_QUEUE_OFFSET\u{1}0";
        let half = prepare(&caller, "money", more).await;
        assert_eq!(half.queue_offset, 0);
        assert_eq!(max(&caller, "T", 2).await, "0");
        let stored = view(&caller, half.physical).await;
        let want = "TRAN_MSG\u{1}true\u{2}PGROUP\u{1}txg\u{2}UNIQ_KEY\u{1}\
                    7F000001000000000000000000000001\u{2}TAGS\u{1}a\u{2}\
                    WAIT\u{1}true\u{2}CLUSTER\u{1}DefaultCluster\u{2}REAL_TOPIC\u{1}T\u{2}\
                    REAL_QID\u{1}2";
        assert_eq!(String::from_utf8_lossy(&stored.raw), want, "no delay: it would be lost (W-62)");
        assert_eq!(stored.sys_flag & 0xC, 0);
        assert_eq!(end(&caller, half, COMMIT).await, code::SUCCESS);
        let got = read(&caller, "T", 2).await.remove(0);
        assert_eq!((&*got.body, &got.raw), ("money", &stored.raw));
        assert_eq!((got.sys_flag & 0xC, got.prepared), (8, half.physical));
        let op = read(&caller, OP, 0).await;
        assert!(op.is_empty(), "4.9.3 has no such topic either");
        assert_eq!(max(&caller, OP, 0).await, "1");
        let tagged = super::broker::pull_request("T", 2, 0, 0).with_ext("subscription", "a");
        assert!(!caller.call(tagged).await.body.is_empty(), "its tag is in the queue");
        broker.shutdown().await;
    });
}

#[test]
fn a_transaction_ends_once() {
    block_on(async {
        let world = World::new();
        let broker = world.start(parts(&world)).await;
        let caller = world.caller(&broker);
        let half = prepare(&caller, "a", "").await;
        assert_eq!(end(&caller, half, ROLLBACK).await, code::SUCCESS);
        assert_eq!(end(&caller, half, COMMIT).await, code::SYSTEM_ERROR, "W-64");
        let half = prepare(&caller, "b", "").await;
        assert_eq!(end(&caller, half, COMMIT).await, code::SUCCESS);
        assert_eq!(end(&caller, half, COMMIT).await, code::SYSTEM_ERROR);
        assert_eq!(end(&caller, half, ROLLBACK).await, code::SYSTEM_ERROR);
        assert_eq!(bodies(&caller, "T", 2).await, ["b"]);
        assert_eq!(max(&caller, OP, 0).await, "2");
        let open = prepare(&caller, "c", "").await;
        pause(&world, 100).await;
        assert_eq!(progress(&caller).await, (2, 2));
        broker.shutdown().await;

        let broker = world.start(parts(&world)).await;
        let caller = world.caller(&broker);
        assert_eq!(end(&caller, half, COMMIT).await, code::SYSTEM_ERROR, "also after a restart");
        assert_eq!(end(&caller, open, COMMIT).await, code::SUCCESS);
        assert_eq!(bodies(&caller, "T", 2).await, ["b", "c"]);
        broker.shutdown().await;
    });
}

#[test]
fn an_end_must_name_a_half_message_of_its_group() {
    block_on(async {
        let world = World::new();
        let broker = world.start(parts(&world)).await;
        let caller = world.caller(&broker);
        let half = prepare(&caller, "a", "").await;
        let plain = half_of(&caller.send("T", 2, &format!("PGROUP\u{1}{GROUP}"), "plain").await);
        let remark = async |request: Command| {
            let answer = caller.call(request).await;
            assert_eq!(answer.code, code::SYSTEM_ERROR);
            answer.remark.unwrap_or_default()
        };
        let other = end_request(half, COMMIT).with_ext("producerGroup", "other");
        assert_eq!(remark(other).await, "The producer group wrong");
        let other = Half { queue_offset: 1, ..half };
        let wrong = "The transaction state table offset wrong";
        assert_eq!(remark(end_request(other, COMMIT)).await, wrong);
        let nowhere = Half { physical: half.physical + 1, ..half };
        let text = remark(end_request(nowhere, COMMIT)).await;
        assert!(text.starts_with("Find prepared transaction message failed"), "{text}");
        let text = remark(end_request(plain, COMMIT)).await;
        assert!(text.ends_with("no half message lies there"), "{text}");
        let other = end_request(half, COMMIT).with_ext("msgId", "7F0000010000000000000000000000FF");
        let text = remark(other).await;
        assert!(text.ends_with("another message lies there"), "{text}");
        let text = remark(end_request(half, 4)).await;
        assert_eq!(text, "commitOrRollback field wrong");
        let unanswered = end_request(half, UNKNOWN);
        let timeout = Duration::from_millis(200);
        assert!(caller.client.invoke(&caller.addr, unanswered, timeout).await.is_err());
        for topic in [HALF, OP, DISCARDED] {
            let refused = caller.send(topic, 0, "", "x").await;
            assert_eq!(refused.code, code::NO_PERMISSION, "{topic}");
        }
        assert_eq!(end(&caller, half, COMMIT).await, code::SUCCESS);
        assert_eq!(bodies(&caller, "T", 2).await, ["plain", "a"]);
        broker.shutdown().await;
    });
}

#[test]
fn a_broker_that_rejects_transactions_says_so_and_a_full_window_too() {
    block_on(async {
        let world = World::new();
        let mut rejecting = parts(&world);
        rejecting.broker.reject_transactions = true;
        let broker = world.start(rejecting).await;
        let caller = world.caller(&broker);
        assert_eq!(caller.send("T", 2, &properties(""), "a").await.code, code::NO_PERMISSION);
        broker.shutdown().await;
        let mut narrow = parts(&world);
        narrow.broker.transactions.window_max = 2;
        let broker = world.start(narrow).await;
        let caller = world.caller(&broker);
        let first = prepare(&caller, "a", "").await;
        let second = prepare(&caller, "b", "").await;
        assert_eq!(end(&caller, second, COMMIT).await, code::SUCCESS);
        assert_eq!(caller.send("T", 2, &properties(""), "c").await.code, code::SYSTEM_BUSY);
        assert_eq!(end(&caller, first, COMMIT).await, code::SUCCESS);
        assert_eq!(prepare(&caller, "c", "").await.queue_offset, 2);
        broker.shutdown().await;
    });
}

#[test]
fn an_open_transaction_is_asked_for_and_the_answer_ends_it() {
    block_on(async {
        let world = World::new();
        let broker = world.start(checking(&world, 50, 15)).await;
        let caller = world.caller(&broker);
        let producer = Producer::new(&world, &broker, "p1").await;
        let send = send_request("T", 2, &properties(""), "money").with_ext("f", 0).with_ext("h", 7);
        let half = half_of(&caller.call(send.with_ext("j", 2)).await);
        let question = producer.next(&world).await;
        assert_eq!(question.get("msgId"), Some(UNIQUE));
        assert_eq!(question.get("transactionId"), Some(UNIQUE));
        assert_eq!(question.get("tranStateTableOffset"), Some("1"), "the copy's");
        assert_eq!(question.get("offsetMsgId").map(str::len), Some(32));
        let view = message_unit::delivered(&question.body).next().unwrap().unwrap();
        assert_eq!((view.topic(), view.queue_id().0, view.body()), ("T", 2, &b"money"[..]));
        assert_eq!(view.property("TRANSACTION_CHECK_TIMES"), Some(&b"1"[..]));
        assert_eq!((view.flag(), view.reconsume_times()), (7, 2), "W-66");
        let again = producer.next(&world).await;
        assert_ne!(again.get("commitLogOffset"), question.get("commitLogOffset"));
        assert_eq!(producer.end(&again, COMMIT).await, code::SUCCESS);
        assert_eq!(end(&caller, half, COMMIT).await, code::SYSTEM_ERROR, "it has ended");
        assert_eq!(producer.end(&question, ROLLBACK).await, code::SYSTEM_ERROR);
        let got = read(&caller, "T", 2).await;
        assert_eq!((got.len(), got[0].flag, got[0].reconsume_times), (1, 7, 2));
        pause(&world, 400).await;
        let (halves, ops) = progress(&caller).await;
        assert_eq!((halves, ops), (halves.max(3), halves), "each has its op message");
        assert_eq!(max(&caller, "T", 2).await, "1");
        broker.shutdown().await;
    });
}

#[test]
fn a_late_end_of_the_first_copy_ends_the_transaction() {
    block_on(async {
        let world = World::new();
        let broker = world.start(checking(&world, 50, 1000)).await;
        let caller = world.caller(&broker);
        let half = prepare(&caller, "late", "").await;
        let producer = Producer::new(&world, &broker, "p1").await;
        producer.next(&world).await;
        assert_eq!(end(&caller, half, COMMIT).await, code::SUCCESS, "W-63");
        producer.asked.all.lock().clear();
        pause(&world, 600).await;
        assert!(producer.asked.all.lock().is_empty(), "nobody is asked any more");
        assert_eq!(bodies(&caller, "T", 2).await, ["late"]);
        broker.shutdown().await;
    });
}

#[test]
fn another_member_of_the_group_is_asked_when_the_sender_is_gone() {
    block_on(async {
        let world = World::new();
        let broker = world.start(checking(&world, 50, 1000)).await;
        let half = {
            let gone = world.caller(&broker);
            prepare(&gone, "orphan", "").await
        };
        let other = Producer::new(&world, &broker, "p2").await;
        let question = other.next(&world).await;
        assert_ne!(question.get("commitLogOffset"), Some(half.physical.to_string().as_str()));
        assert_eq!(other.end(&question, ROLLBACK).await, code::SUCCESS);
        pause(&world, 400).await;
        let caller = world.caller(&broker);
        assert_eq!(max(&caller, "T", 2).await, "0");
        broker.shutdown().await;
    });
}

#[test]
fn what_nobody_answers_for_is_discarded_after_the_last_check_and_may_begin_anew() {
    block_on(async {
        let world = World::new();
        let broker = world.start(checking(&world, 50, 2)).await;
        let caller = world.caller(&broker);
        prepare(&caller, "orphan", "").await;
        until_max(&world, &caller, DISCARDED, "1").await;
        let discarded = read(&caller, DISCARDED, 0).await.remove(0);
        assert_eq!(discarded.properties.get("TRANSACTION_CHECK_TIMES"), Some("2"));
        assert_eq!(discarded.properties.get("REAL_TOPIC"), Some("T"));
        assert_eq!(discarded.body, "orphan");
        pause(&world, 400).await;
        assert_eq!(
            (max(&caller, HALF, 0).await, max(&caller, OP, 0).await),
            ("3".into(), "3".into())
        );
        let answer = caller.pull(DISCARDED, 0, 0, 0).await;
        let id = message_unit::delivered(&answer.body).next().unwrap().unwrap().offset_id();
        let resume =
            |id: &str| Command::request(request::RESUME_CHECK_HALF_MESSAGE).with_ext("msgId", id);
        assert_eq!(caller.call(resume("zz")).await.code, code::SYSTEM_ERROR);
        let plain = caller.send("U", 0, "", "x").await;
        let refused = caller.call(resume(plain.get("msgId").unwrap())).await;
        assert_eq!(refused.code, code::SYSTEM_ERROR, "only a discarded one");
        let producer = Producer::new(&world, &broker, "p1").await;
        assert_eq!(caller.call(resume(&id)).await.code, code::SUCCESS);
        let question = producer.next(&world).await;
        let view = message_unit::delivered(&question.body).next().unwrap().unwrap();
        assert_eq!(view.property("TRANSACTION_CHECK_TIMES"), Some(&b"1"[..]));
        assert_eq!(producer.end(&question, COMMIT).await, code::SUCCESS);
        assert_eq!(bodies(&caller, "T", 2).await, ["orphan"]);
        broker.shutdown().await;
    });
}

#[test]
fn an_immune_message_is_put_back_unasked_and_uncounted_until_its_time() {
    block_on(async {
        let world = World::new();
        let broker = world.start(checking(&world, 50, 2)).await;
        let caller = world.caller(&broker);
        let producer = Producer::new(&world, &broker, "p1").await;
        let began = world.clock.mono();
        let half = prepare(&caller, "slow", "\u{2}CHECK_IMMUNITY_TIME_IN_SECONDS\u{1}1").await;
        let question = producer.next(&world).await;
        let waited = world.clock.mono().since(began).as_millis();
        assert!(waited >= 990, "{waited}");
        let view = message_unit::delivered(&question.body).next().unwrap().unwrap();
        assert_eq!(view.property("TRANSACTION_CHECK_TIMES"), Some(&b"1"[..]));
        assert_eq!(view.property("TRAN_PREPARED_QUEUE_OFFSET"), Some(&b"0"[..]));
        assert!(view.queue_offset().0 >= 4, "it was put back several times");
        assert_eq!(end(&caller, half, COMMIT).await, code::SUCCESS);
        assert_eq!(bodies(&caller, "T", 2).await, ["slow"]);
        broker.shutdown().await;
    });
}

#[test]
fn a_restart_asks_for_what_is_open_and_not_for_what_has_ended() {
    block_on(async {
        let world = World::new();
        let broker = world.start(parts(&world)).await;
        let caller = world.caller(&broker);
        let mut halves = Vec::new();
        for n in 0..6 {
            halves.push(prepare(&caller, &format!("m{n}"), "").await);
        }
        for n in [1, 2, 4] {
            let state = if n == 2 { ROLLBACK } else { COMMIT };
            assert_eq!(end(&caller, halves[n], state).await, code::SUCCESS);
        }
        broker.shutdown().await;
        // Java's progress may be older; the op messages say the same.
        let path = world.dir.path().join("config/consumerOffset.json");
        std::fs::remove_file(&path).ok();
        std::fs::remove_file(path.with_extension("json.bak")).ok();

        let broker = world.start(checking(&world, 50, 1000)).await;
        let caller = world.caller(&broker);
        let producer = Producer::new(&world, &broker, "p1").await;
        while max(&caller, "T", 2).await != "5" {
            let question = producer.next(&world).await;
            producer.end(&question, COMMIT).await;
        }
        pause(&world, 500).await;
        let mut all = bodies(&caller, "T", 2).await;
        all.sort();
        assert_eq!(all, ["m0", "m1", "m3", "m4", "m5"]);
        broker.shutdown().await;
    });
}

/// Cuts the log's first file behind the record that begins with `mark` in its body.
fn cut_behind(world: &World, find: impl Fn(&message_unit::View) -> bool) {
    let path = world.dir.path().join("commitlog").join("0".repeat(20));
    let mut bytes = std::fs::read(&path).unwrap();
    let mut at = 0;
    let mut end = None;
    while let Ok(message_unit::Unit::Record(view)) =
        message_unit::decode(&bytes[at..], hotfire::model::PhysicalOffset(at as u64), true)
    {
        at += view.size();
        if find(&view) {
            end = Some(at);
        }
    }
    bytes[end.unwrap()..].fill(0);
    std::fs::write(&path, bytes).unwrap();
    for gone in ["consumequeue", "hotfire", "index", "checkpoint"] {
        let path = world.dir.path().join(gone);
        std::fs::remove_dir_all(&path).or_else(|_| std::fs::remove_file(&path)).unwrap();
    }
    std::fs::write(world.dir.path().join("abort"), "").unwrap();
}

#[test]
fn a_crash_between_the_final_message_and_its_op_message_commits_nothing_twice() {
    block_on(async {
        let world = World::new();
        let broker = world.start(parts(&world)).await;
        let caller = world.caller(&broker);
        let half = prepare(&caller, "once", "").await;
        assert_eq!(end(&caller, half, COMMIT).await, code::SUCCESS);
        broker.shutdown().await;
        cut_behind(&world, |view| view.topic() == "T");
        std::fs::remove_file(world.dir.path().join("config/consumerOffset.json")).ok();
        std::fs::remove_file(world.dir.path().join("config/consumerOffset.json.bak")).ok();

        let broker = world.start(checking(&world, 50, 1000)).await;
        let caller = world.caller(&broker);
        let producer = Producer::new(&world, &broker, "p1").await;
        assert_eq!(end(&caller, half, COMMIT).await, code::SYSTEM_ERROR);
        pause(&world, 500).await;
        assert!(producer.asked.all.lock().is_empty());
        assert_eq!(bodies(&caller, "T", 2).await, ["once"]);
        until_max(&world, &caller, OP, "1").await;
        broker.shutdown().await;
    });
}

#[test]
fn a_crash_between_a_copy_and_its_op_message_leaves_one_open() {
    block_on(async {
        let world = World::new();
        let broker = world.start(checking(&world, 50, 1000)).await;
        let caller = world.caller(&broker);
        let half = prepare(&caller, "copied", "").await;
        let producer = Producer::new(&world, &broker, "p1").await;
        producer.next(&world).await;
        broker.shutdown().await;
        cut_behind(&world, |view| view.topic() == HALF && view.queue_offset().0 == 1);
        std::fs::remove_file(world.dir.path().join("config/consumerOffset.json")).ok();
        std::fs::remove_file(world.dir.path().join("config/consumerOffset.json.bak")).ok();

        let broker = world.start(parts(&world)).await;
        let caller = world.caller(&broker);
        assert_eq!(max(&caller, HALF, 0).await, "2");
        until_max(&world, &caller, OP, "1").await;
        assert_eq!(end(&caller, half, COMMIT).await, code::SYSTEM_ERROR, "its copy is open");
        let copy = caller.pull(HALF, 0, 1, 0).await;
        let view = message_unit::delivered(&copy.body).next().unwrap().unwrap();
        let physical = view.physical_offset().0 as i64;
        let copy = Half { queue_offset: 1, physical };
        assert_eq!(end(&caller, copy, COMMIT).await, code::SUCCESS);
        assert_eq!(bodies(&caller, "T", 2).await, ["copied"]);
        broker.shutdown().await;
    });
}

#[test]
fn what_a_cut_took_of_ends_is_asked_for_again() {
    block_on(async {
        let world = World::new();
        let broker = world.start(parts(&world)).await;
        let caller = world.caller(&broker);
        let kept = prepare(&caller, "kept", "").await;
        let cut = prepare(&caller, "cut", "").await;
        assert_eq!(end(&caller, kept, COMMIT).await, code::SUCCESS);
        let to = broker.store().stats().written;
        assert_eq!(end(&caller, cut, COMMIT).await, code::SUCCESS);
        while progress(&caller).await != (2, 2) {
            pause(&world, 10).await;
        }
        broker.store().cut_back_at_next_start(to).await.unwrap();
        broker.shutdown().await;
        // It says so at the first start, and only then; who looks at transactions comes later.
        let broker = world.start(parts(&world)).await;
        broker.shutdown().await;

        let broker = world.start(checking(&world, 50, 1000)).await;
        let caller = world.caller(&broker);
        let producer = Producer::new(&world, &broker, "p1").await;
        let question = producer.next(&world).await;
        assert_eq!(producer.end(&question, COMMIT).await, code::SUCCESS);
        pause(&world, 500).await;
        assert_eq!(bodies(&caller, "T", 2).await, ["kept", "cut"]);
        broker.shutdown().await;
    });
}

fn faulty() -> (Arc<FaultyDisk>, World) {
    let disk = Arc::new(FaultyDisk::new(Arc::new(RealDisk::new())));
    let world = World::on(disk.clone());
    (disk, world)
}

#[test]
fn an_end_that_no_sync_covers_is_no_success_and_no_progress() {
    block_on(async {
        let (disk, world) = faulty();
        let mut first = parts(&world);
        first.store.flush = FlushMode::Sync;
        let broker = world.start(first).await;
        let caller = world.caller(&broker);
        let half = prepare(&caller, "a", "").await;
        disk.fail_always(Call::Sync, "commitlog", Fault::Broken);
        assert_ne!(end(&caller, half, COMMIT).await, code::SUCCESS);
        pause(&world, 200).await;
        broker.shutdown().await;
        disk.heal();
        let path = world.dir.path().join("config/consumerOffset.json");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        assert!(!text.contains("TRANS"), "{text}");
    });
}

#[test]
fn a_full_disk_discards_nothing_and_checks_go_on_when_there_is_room() {
    block_on(async {
        let (disk, world) = faulty();
        let mut parts = checking(&world, 300, 0);
        parts.broker.transactions.check_max = 1;
        parts.store.segment_size_bytes = 64 << 10;
        parts.store.allocate_retry_interval = Duration::from_millis(20);
        let broker = world.start(parts).await;
        let caller = world.caller(&broker);
        prepare(&caller, "kept", "").await;
        disk.fail_always(Call::Create, "commitlog", Fault::NoSpace);
        let body = "x".repeat(8 << 10);
        while caller.send("F", 0, "", &body).await.code == code::SUCCESS {}
        for n in 0..400 {
            // What is left of the file.
            if caller.send("F", 0, "", &"x".repeat(400 - n)).await.code != code::SUCCESS && n > 390
            {
                break;
            }
        }
        pause(&world, 800).await;
        assert_eq!(max(&caller, DISCARDED, 0).await, "0", "W-67");
        disk.heal();
        until_max(&world, &caller, DISCARDED, "1").await;
        assert_eq!(bodies(&caller, DISCARDED, 0).await, ["kept"]);
        broker.shutdown().await;
    });
}

#[test]
fn an_op_message_that_cannot_be_read_for_a_while_is_waited_for() {
    block_on(async {
        let (disk, world) = faulty();
        let broker = world.start(parts(&world)).await;
        let caller = world.caller(&broker);
        let half = prepare(&caller, "once", "").await;
        let open = prepare(&caller, "open", "").await;
        assert_eq!(end(&caller, half, COMMIT).await, code::SUCCESS);
        broker.shutdown().await;
        std::fs::remove_file(world.dir.path().join("config/consumerOffset.json")).unwrap();
        std::fs::remove_file(world.dir.path().join("config/consumerOffset.json.bak")).ok();
        disk.set_unreadable("commitlog", 0..1 << 20);
        let healer = async {
            pause(&world, 300).await;
            disk.heal();
        };
        let (broker, ()) = tokio::join!(world.start(parts(&world)), healer);
        let caller = world.caller(&broker);
        assert_eq!(end(&caller, half, COMMIT).await, code::SYSTEM_ERROR);
        assert_eq!(end(&caller, open, COMMIT).await, code::SUCCESS);
        assert_eq!(bodies(&caller, "T", 2).await, ["once", "open"]);
        broker.shutdown().await;
    });
}

#[test]
fn a_message_stored_while_a_round_waits_is_not_asked_for_early() {
    block_on(async {
        let (disk, world) = faulty();
        let broker = world.start(checking(&world, 800, 1000)).await;
        let caller = world.caller(&broker);
        let producer = Producer::new(&world, &broker, "p1").await;
        assert_eq!(caller.send("T", 2, "", "plain").await.code, code::SUCCESS);
        pause(&world, 20).await;
        // The round waits for the half topic to be saved.
        disk.hold(Call::Sync);
        pause(&world, 400).await;
        let sent = properties("");
        let half = caller.send("T", 2, &sent, "young");
        let release = async {
            pause(&world, 100).await;
            disk.release();
        };
        let (answer, ()) = tokio::join!(half, release);
        assert_eq!(answer.code, code::SUCCESS);
        pause(&world, 500).await;
        assert!(producer.asked.all.lock().is_empty());
        producer.next(&world).await;
        broker.shutdown().await;
    });
}

#[test]
fn an_immune_message_whose_first_copy_cannot_be_read_waits() {
    block_on(async {
        let (disk, world) = faulty();
        let mut parts = checking(&world, 50, 1000);
        parts.store.tail_cache_size_bytes = 0;
        let broker = world.start(parts).await;
        let caller = world.caller(&broker);
        let producer = Producer::new(&world, &broker, "p1").await;
        // The sender's clock is far behind.
        let more = "\u{2}CHECK_IMMUNITY_TIME_IN_SECONDS\u{1}60";
        let half = prepare(&caller, "slow", more).await;
        until_max(&world, &caller, HALF, "2").await;
        let at = half.physical as u64;
        disk.set_unreadable("commitlog", at..at + 64);
        pause(&world, 600).await;
        assert!(producer.asked.all.lock().is_empty());
        broker.shutdown().await;
    });
}

#[test]
fn a_half_message_that_no_round_could_read_is_asked_for_when_the_disk_gives_it_back() {
    block_on(async {
        let (disk, world) = faulty();
        let mut parts = checking(&world, 50, 1000);
        parts.store.tail_cache_size_bytes = 0;
        let rounds = parts.broker.transactions.read_tries_max + 4;
        let broker = world.start(parts).await;
        let caller = world.caller(&broker);
        let producer = Producer::new(&world, &broker, "p1").await;
        disk.set_unreadable("commitlog", 0..1 << 20);
        let half = prepare(&caller, "kept", "").await;
        pause(&world, u64::from(rounds) * 150).await;
        assert!(producer.asked.all.lock().is_empty());
        assert_eq!(progress(&caller).await.0, half.queue_offset, "it is open");
        disk.heal();
        let question = producer.next(&world).await;
        assert_eq!(producer.end(&question, COMMIT).await, code::SUCCESS);
        assert_eq!(bodies(&caller, "T", 2).await, ["kept"]);
        broker.shutdown().await;
    });
}
