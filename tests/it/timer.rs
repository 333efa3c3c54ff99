//! Messages with a time of their own on a real broker: put, waited for, delivered, across restarts.

use super::broker::{Caller, World, pull_request, send_request};
use hotfire::broker::{Broker, Parts};
use hotfire::format::message_unit::{self, Unit, View};
use hotfire::format::properties::Properties;
use hotfire::model::{QueueId, QueueKey, QueueOffset, TopicName};
use hotfire::protocol::Command;
use hotfire::protocol::code::{request_code as request, response_code as code};
use hotfire::rt::block_on;
use hotfire::rt::time::Duration;

const TIMER: &str = "rmq_sys_wheel_timer";

fn parts(world: &World) -> Parts {
    let mut parts = world.parts();
    parts.broker.timers.retry_pause = Duration::from_millis(10);
    parts.store.delay_levels_ms = vec![300, 3_600_000];
    parts
}

#[derive(Debug)]
struct Got {
    body: String,
    properties: Properties,
    store_ms: i64,
}

fn got(view: &View) -> Got {
    Got {
        body: String::from_utf8_lossy(view.body()).into_owned(),
        properties: Properties::parse(view.properties()),
        store_ms: view.store_timestamp().0,
    }
}

fn messages(answer: &Command) -> Vec<Got> {
    message_unit::delivered(&answer.body).map(|unit| got(&unit.unwrap())).collect()
}

/// What lies in a queue of the timer topic, which no client can pull.
async fn kept(broker: &Broker, queue: u32) -> Vec<Got> {
    let (store, mut all) = (broker.store(), Vec::new());
    let key = QueueKey { topic: TopicName::new(TIMER), queue: QueueId(queue) };
    for unit in store.slice(&key, QueueOffset(0), 100).await.unwrap().units {
        let record = store.record_at(unit.physical_offset).await.unwrap().unwrap();
        match message_unit::decode(&record, unit.physical_offset, true) {
            Ok(Unit::Record(view)) => all.push(got(&view)),
            other => panic!("{other:?}"),
        }
    }
    all
}

async fn kept_bodies(broker: &Broker, queue: u32) -> Vec<String> {
    kept(broker, queue).await.into_iter().map(|got| got.body).collect()
}

async fn bodies(caller: &Caller, topic: &str, queue: i32) -> Vec<String> {
    let all = messages(&caller.pull(topic, queue, 0, 0).await);
    all.into_iter().map(|got| got.body).collect()
}

async fn pause(world: &World, ms: u64) {
    world.clock.sleep_until(world.clock.mono() + Duration::from_millis(ms)).await;
}

async fn until_count(world: &World, caller: &Caller, queue: i32, count: usize) -> Vec<Got> {
    for _ in 0..200 {
        let got = messages(&caller.pull("T", queue, 0, 0).await);
        if got.len() >= count {
            return got;
        }
        pause(world, 20).await;
    }
    panic!("T/{queue} has not {count} messages: {:?}", bodies(caller, "T", queue).await);
}

#[test]
fn a_timed_message_comes_to_its_topic_not_early_and_as_it_was_sent() {
    block_on(async {
        let world = World::new();
        let broker = world.start(parts(&world)).await;
        let caller = world.caller(&broker);
        let sent = "TAGS\u{1}TagA\u{2}WAIT\u{1}true\u{2}UNIQ_KEY\u{1}u1\u{2}TIMER_DELAY_MS\u{1}300";
        let answer = caller.send("T", 2, sent, "late").await;
        assert_eq!((answer.code, answer.get("queueId")), (code::SUCCESS, Some("2")), "{answer:?}");
        let before = kept(&broker, 0).await.remove(0);
        let due: i64 = before.properties.get("TIMER_OUT_MS").unwrap().parse().unwrap();
        assert!((due - 300..=due - 200).contains(&before.store_ms), "{due} {before:?}");
        assert_eq!(caller.number(request::GET_MAX_OFFSET, "T", 2).await, "0", "it waits");
        let got = until_count(&world, &caller, 2, 1).await.remove(0);
        assert_eq!(got.body, "late");
        assert!(got.store_ms >= due, "{got:?} {due}");
        assert_eq!(got.properties, before.properties, "the string is kept");
        let of = |name| got.properties.get(name);
        assert_eq!((of("REAL_TOPIC"), of("REAL_QID")), (Some("T"), Some("2")));
        assert_eq!((of("TIMER_DELAY_MS"), of("TAGS")), (Some("300"), Some("TagA")));
        let tagged = pull_request("T", 2, 0, 0).with_ext("subscription", "TagA");
        assert_eq!(messages(&caller.call(tagged).await).len(), 1, "its tag is in the queue");
        assert_eq!(kept_bodies(&broker, 1).await, ["0 0"], "its done message");
        broker.shutdown().await;
    });
}

#[test]
fn times_are_kept_whatever_the_order_and_a_clean_restart_delivers_nothing_again() {
    block_on(async {
        let world = World::new();
        let broker = world.start(parts(&world)).await;
        let caller = world.caller(&broker);
        let at = |ms: i64| format!("TIMER_DELIVER_MS\u{1}{}", world.clock.wall().0 + ms);
        for (after_ms, body) in [(1_500, "c"), (200, "a"), (-5, "now"), (400, "b")] {
            assert_eq!(caller.send("T", 0, &at(after_ms), body).await.code, code::SUCCESS);
        }
        until_count(&world, &caller, 0, 3).await;
        broker.shutdown().await;
        let broker = world.start(parts(&world)).await;
        let caller = world.caller(&broker);
        until_count(&world, &caller, 0, 4).await;
        pause(&world, 100).await;
        assert_eq!(bodies(&caller, "T", 0).await, ["now", "a", "b", "c"]);
        assert_eq!(kept_bodies(&broker, 1).await, ["1 0", "2 0", "0 0"]);
        broker.shutdown().await;
    });
}

#[test]
fn losing_what_is_ours_alone_delivers_nothing_again() {
    block_on(async {
        let world = World::new();
        let broker = world.start(parts(&world)).await;
        let caller = world.caller(&broker);
        for (ms, body) in [(50, "a"), (1_200, "b")] {
            let property = format!("TIMER_DELAY_MS\u{1}{ms}");
            assert_eq!(caller.send("T", 0, &property, body).await.code, code::SUCCESS);
        }
        until_count(&world, &caller, 0, 1).await;
        broker.shutdown().await;
        for gone in ["hotfire", "config", "consumequeue"] {
            std::fs::remove_dir_all(world.dir.path().join(gone)).unwrap();
        }
        let broker = world.start(parts(&world)).await;
        let caller = world.caller(&broker);
        assert_eq!(caller.send("T", 1, "", "makes the topic anew").await.code, code::SUCCESS);
        until_count(&world, &caller, 0, 2).await;
        pause(&world, 100).await;
        assert_eq!(bodies(&caller, "T", 0).await, ["a", "b"]);
        broker.shutdown().await;
    });
}

#[test]
fn what_cannot_have_its_time_is_refused_and_a_level_counts_more() {
    block_on(async {
        let world = World::new();
        let mut parts = parts(&world);
        parts.broker.timers.waiting_count_max = 1;
        let broker = world.start(parts).await;
        let caller = world.caller(&broker);
        for refused in ["259201000", "soon", "9223372036854775807"] {
            let property = format!("TIMER_DELAY_MS\u{1}{refused}");
            let answer = caller.send("T", 0, &property, "x").await;
            assert_eq!(answer.code, code::MESSAGE_ILLEGAL, "{answer:?}");
            assert!(answer.remark.unwrap().starts_with("timer message illegal, "));
        }
        let cancel = "TIMER_DELAY_SEC\u{1}9\u{2}TIMER_DEL_UNIQKEY\u{1}k";
        assert_eq!(caller.send("T", 0, cancel, "x").await.code, code::MESSAGE_ILLEGAL);
        let both = "TIMER_DELAY_SEC\u{1}60\u{2}DELAY\u{1}1";
        assert_eq!(caller.send("T", 0, both, "level").await.code, code::SUCCESS);
        let got = until_count(&world, &caller, 0, 1).await.remove(0);
        assert_eq!((&*got.body, got.properties.get("TIMER_DELAY_SEC")), ("level", None));
        let far = "TIMER_DELAY_SEC\u{1}3600";
        assert_eq!(caller.send("T", 0, far, "far").await.code, code::SUCCESS);
        let answer = caller.send("T", 0, far, "one more").await;
        assert_eq!(answer.code, code::SYSTEM_BUSY);
        assert!(answer.remark.unwrap().contains("timerWaitingMax"));
        let to_itself = caller.send(TIMER, 1, "", "0 99").await;
        assert_eq!(to_itself.code, code::NO_PERMISSION, "nobody else says what is done");
        broker.shutdown().await;
    });
}

#[test]
fn without_the_wheel_such_a_message_comes_at_once_as_with_4_9() {
    block_on(async {
        let world = World::new();
        let mut parts = parts(&world);
        parts.broker.timers.is_on = false;
        let broker = world.start(parts).await;
        let caller = world.caller(&broker);
        let answer = caller.send("T", 0, "TIMER_DELAY_SEC\u{1}60", "now").await;
        assert_eq!(answer.code, code::SUCCESS);
        assert_eq!(bodies(&caller, "T", 0).await, ["now"]);
        broker.shutdown().await;
    });
}

#[test]
fn a_message_far_behind_the_others_is_written_anew_and_delivered_once() {
    block_on(async {
        let world = World::new();
        let mut parts = parts(&world);
        parts.broker.timers.span_max = 12;
        let broker = world.start(parts).await;
        let caller = world.caller(&broker);
        let property = |ms: u64| format!("TIMER_DELAY_MS\u{1}{ms}");
        assert_eq!(caller.send("T", 1, &property(3_000), "far").await.code, code::SUCCESS);
        for n in 0..14 {
            assert_eq!(caller.send("T", 0, &property(1), "near").await.code, code::SUCCESS);
            until_count(&world, &caller, 0, n + 1).await;
        }
        let waited = kept_bodies(&broker, 0).await;
        assert_eq!(waited.iter().filter(|body| *body == "far").count(), 2, "{waited:?}");
        until_count(&world, &caller, 1, 1).await;
        pause(&world, 100).await;
        assert_eq!(bodies(&caller, "T", 1).await, ["far"]);
        broker.shutdown().await;
    });
}

/// Sends a half message with a delay. Returns the request that ends it, without how.
async fn prepare(caller: &Caller, delay_ms: u64, body: &str) -> Command {
    let half = format!("TRAN_MSG\u{1}true\u{2}PGROUP\u{1}g\u{2}TIMER_DELAY_MS\u{1}{delay_ms}");
    let answer = caller.call(send_request("T", 2, &half, body).with_ext("f", 4)).await;
    assert_eq!(answer.code, code::SUCCESS, "{answer:?}");
    let id = answer.get("msgId").unwrap();
    let physical = i64::from_str_radix(&id[id.len() - 16..], 16).unwrap();
    Command::request(request::END_TRANSACTION)
        .with_ext("producerGroup", "g")
        .with_ext("tranStateTableOffset", answer.get("queueOffset").unwrap())
        .with_ext("commitLogOffset", physical)
}

async fn end(caller: &Caller, request: &Command, how: i32) -> i32 {
    caller.call(request.clone().with_ext("commitOrRollback", how)).await.code
}

const COMMIT: i32 = 8;
const ROLLBACK: i32 = 12;

/// A row of the broker's status.
async fn row(caller: &Caller, name: &str) -> Option<i64> {
    let said = caller.call(Command::request(request::GET_BROKER_RUNTIME_INFO)).await;
    let said: serde_json::Value = serde_json::from_slice(&said.body).unwrap();
    said["table"][name].as_str().map(|text| text.parse().unwrap())
}

#[test]
fn transactions_with_a_time_end_once_over_a_restart() {
    block_on(async {
        let world = World::new();
        let broker = world.start(parts(&world)).await;
        let caller = world.caller(&broker);
        let before = prepare(&caller, 1_000, "committed before").await;
        let never = prepare(&caller, 100, "rolled back").await;
        let after = prepare(&caller, 200, "committed after").await;
        assert_eq!(end(&caller, &before, COMMIT).await, code::SUCCESS);
        assert_eq!(end(&caller, &never, ROLLBACK).await, code::SUCCESS);
        broker.shutdown().await;
        let broker = world.start(parts(&world)).await;
        let caller = world.caller(&broker);
        assert_eq!(end(&caller, &before, COMMIT).await, code::SYSTEM_ERROR, "it has ended");
        assert_eq!(end(&caller, &never, COMMIT).await, code::SYSTEM_ERROR, "it has ended");
        let from = world.clock.wall().0;
        assert_eq!(end(&caller, &after, COMMIT).await, code::SUCCESS);
        until_count(&world, &caller, 2, 2).await;
        pause(&world, 200).await;
        let got = messages(&caller.pull("T", 2, 0, 0).await);
        let late = got.iter().find(|one| one.body == "committed after").unwrap();
        assert!(late.store_ms >= from + 200, "{late:?} {from}");
        let mut all: Vec<&str> = got.iter().map(|one| &*one.body).collect();
        all.sort_unstable();
        assert_eq!(all, ["committed after", "committed before"]);
        assert_eq!(row(&caller, "timerCongestNum").await, Some(0));
        broker.shutdown().await;
    });
}

#[test]
fn a_transaction_whose_message_has_no_room_to_wait_stays_open() {
    block_on(async {
        let world = World::new();
        let mut parts = parts(&world);
        parts.broker.timers.waiting_count_max = 1;
        let broker = world.start(parts).await;
        let caller = world.caller(&broker);
        let half = prepare(&caller, 50, "paid").await;
        let waiting = caller.send("T", 0, "TIMER_DELAY_MS\u{1}400", "first").await;
        assert_eq!(waiting.code, code::SUCCESS);
        assert_eq!(end(&caller, &half, COMMIT).await, code::SYSTEM_BUSY);
        until_count(&world, &caller, 0, 1).await;
        while end(&caller, &half, COMMIT).await == code::SYSTEM_BUSY {
            pause(&world, 20).await;
        }
        assert_eq!(until_count(&world, &caller, 2, 1).await[0].body, "paid");
        assert_eq!(end(&caller, &half, COMMIT).await, code::SYSTEM_ERROR, "it has ended");
        broker.shutdown().await;
    });
}

#[test]
fn what_waits_is_in_the_brokers_status_also_after_a_restart() {
    block_on(async {
        let world = World::new();
        let broker = world.start(parts(&world)).await;
        let caller = world.caller(&broker);
        while row(&caller, "timerCongestNum").await != Some(0) {
            pause(&world, 10).await;
        }
        assert_eq!(row(&caller, "timerEarliestDue").await, None);
        let due = world.clock.wall().0 + 60_000;
        for (ms, body) in [(due + 9_000, "b"), (due, "a")] {
            let property = format!("TIMER_DELIVER_MS\u{1}{ms}");
            assert_eq!(caller.send("T", 0, &property, body).await.code, code::SUCCESS);
        }
        while row(&caller, "timerEarliestDue").await != Some(due) {
            pause(&world, 10).await;
        }
        let figures = async |caller: &Caller| {
            let names = ["timerCongestNum", "timerOffsetBehind", "timerReadBehind"];
            let mut all = Vec::new();
            for name in names {
                all.push(row(caller, name).await);
            }
            all
        };
        assert_eq!(figures(&caller).await, [Some(2), Some(0), Some(0)]);
        broker.shutdown().await;
        let broker = world.start(parts(&world)).await;
        let caller = world.caller(&broker);
        while row(&caller, "timerEarliestDue").await != Some(due) {
            pause(&world, 10).await;
        }
        assert_eq!(figures(&caller).await, [Some(2), Some(0), Some(0)]);
        broker.shutdown().await;
        let mut parts = parts(&world);
        parts.broker.timers.is_on = false;
        let broker = world.start(parts).await;
        let caller = world.caller(&broker);
        assert_eq!(figures(&caller).await, [None; 3], "nothing is delivered");
        broker.shutdown().await;
    });
}

#[test]
fn a_transaction_has_its_time_from_its_commit_on() {
    block_on(async {
        let world = World::new();
        let broker = world.start(parts(&world)).await;
        let caller = world.caller(&broker);
        let half = prepare(&caller, 400, "paid").await;
        pause(&world, 500).await;
        let from = world.clock.wall().0;
        assert_eq!(end(&caller, &half, COMMIT).await, code::SUCCESS);
        assert!(bodies(&caller, "T", 2).await.is_empty());
        let got = until_count(&world, &caller, 2, 1).await.remove(0);
        assert!(got.store_ms >= from + 400, "{got:?} {from}");
        broker.shutdown().await;
    });
}
