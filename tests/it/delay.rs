//! Delayed messages on a real broker: put, waited for, delivered, across restarts and bad disks.

use super::broker::{Caller, World};
use hotfire::broker::{Broker, Parts};
use hotfire::disk::faulty::{Call, Fault, FaultyDisk};
use hotfire::disk::real::RealDisk;
use hotfire::format::message_unit;
use hotfire::format::properties::Properties;
use hotfire::protocol::Command;
use hotfire::protocol::code::{request_code as request, response_code as code};
use hotfire::rt::block_on;
use hotfire::rt::time::Duration;
use hotfire::store::FlushMode;
use std::sync::Arc;

const SCHEDULE: &str = "SCHEDULE_TOPIC_XXXX";

fn parts(world: &World) -> Parts {
    let mut parts = world.parts();
    parts.store.delay_levels_ms = vec![300, 1_000, 3_600_000];
    parts.broker.schedule.save_interval = Duration::from_millis(50);
    parts.broker.schedule.retry_pause = Duration::from_millis(10);
    parts
}

/// One message as a consumer sees it.
#[derive(Debug)]
struct Got {
    body: String,
    properties: Properties,
    born_ms: i64,
    store_ms: i64,
}

fn messages(answer: &Command) -> Vec<Got> {
    let view = |view: message_unit::View| Got {
        body: String::from_utf8_lossy(view.body()).into_owned(),
        properties: Properties::parse(view.properties()),
        born_ms: view.born_timestamp().0,
        store_ms: view.store_timestamp().0,
    };
    message_unit::delivered(&answer.body).map(|unit| view(unit.unwrap())).collect()
}

fn bodies(answer: &Command) -> Vec<String> {
    messages(answer).into_iter().map(|got| got.body).collect()
}

async fn pause(world: &World, ms: u64) {
    world.clock.sleep_until(world.clock.mono() + Duration::from_millis(ms)).await;
}

/// Pulls until so many messages are there.
async fn pull_count(
    world: &World,
    caller: &Caller,
    topic: &str,
    queue: i32,
    count: usize,
) -> Command {
    for _ in 0..200 {
        let answer = caller.pull(topic, queue, 0, 0).await;
        if bodies(&answer).len() >= count {
            return answer;
        }
        pause(world, 20).await;
    }
    panic!("{topic}/{queue} has not {count} messages: {:?}", caller.pull(topic, queue, 0, 0).await);
}

async fn delay_offsets(caller: &Caller) -> String {
    let answer = caller.call(Command::request(request::GET_ALL_DELAY_OFFSET)).await;
    assert_eq!(answer.code, code::SUCCESS);
    String::from_utf8(answer.body.to_vec()).unwrap().split_whitespace().collect()
}

#[test]
fn a_delayed_message_comes_to_its_topic_not_early_and_as_it_was_sent() {
    block_on(async {
        let world = World::new();
        let broker = world.start(parts(&world)).await;
        let caller = world.caller(&broker);
        let sent = "TAGS\u{1}TagA\u{2}WAIT\u{1}true\u{2}UNIQ_KEY\u{1}u1\u{2}DELAY\u{1}1";
        let answer = caller.send("T", 2, sent, "late").await;
        assert_eq!((answer.code, answer.get("queueId")), (code::SUCCESS, Some("2")), "{answer:?}");
        assert_eq!(answer.get("queueOffset"), Some("0"));
        let before = messages(&caller.pull(SCHEDULE, 0, 0, 0).await).remove(0);
        assert_eq!(caller.number(request::GET_MAX_OFFSET, "T", 2).await, "0", "it waits");
        let got = messages(&pull_count(&world, &caller, "T", 2, 1).await).remove(0);
        assert_eq!((&*got.body, got.born_ms), ("late", 1_700_000_000_000));
        assert!(got.store_ms >= before.store_ms + 300, "{got:?} {before:?}");
        assert_eq!(got.properties, before.properties, "the string is kept");
        let of = |name| got.properties.get(name);
        assert_eq!(
            (of("REAL_TOPIC"), of("REAL_QID"), of("DELAY")),
            (Some("T"), Some("2"), Some("1"))
        );
        assert_eq!((of("WAIT"), of("CLUSTER")), (Some("true"), Some("DefaultCluster")));
        let tagged = Command { ..super::broker::pull_request("T", 2, 0, 0) }
            .with_ext("subscription", "TagA");
        assert_eq!(bodies(&caller.call(tagged).await), ["late"], "its tag is in the queue");
        assert_eq!(delay_offsets(&caller).await, "{\"offsetTable\":{1:1}}");
        broker.shutdown().await;
    });
}

#[test]
fn a_level_above_the_table_is_its_last_and_none_is_none() {
    block_on(async {
        let world = World::new();
        let broker = world.start(parts(&world)).await;
        let caller = world.caller(&broker);
        assert_eq!(caller.send("T", 0, "DELAY\u{1}99", "far").await.code, code::SUCCESS);
        assert_eq!(caller.send("T", 0, "DELAY\u{1}0", "now").await.code, code::SUCCESS);
        assert_eq!(caller.send("T", 0, "DELAY\u{1}-4", "now").await.code, code::SUCCESS);
        assert_eq!(caller.send("T", 0, "DELAY\u{1}x", "bad").await.code, code::SYSTEM_ERROR);
        assert_eq!(bodies(&caller.pull("T", 0, 0, 0).await), ["now", "now"]);
        let far = messages(&caller.pull(SCHEDULE, 2, 0, 0).await).remove(0);
        assert_eq!(far.properties.get("DELAY"), Some("3"));
        broker.shutdown().await;
    });
}

#[test]
fn the_order_within_a_level_is_kept_and_a_clean_restart_delivers_nothing_again() {
    block_on(async {
        let world = World::new();
        let broker = world.start(parts(&world)).await;
        let caller = world.caller(&broker);
        let bodies_sent: Vec<String> = (0..30).map(|n| format!("m{n}")).collect();
        for body in &bodies_sent {
            assert_eq!(caller.send("T", 0, "DELAY\u{1}1", body).await.code, code::SUCCESS);
        }
        assert_eq!(caller.send("T", 1, "DELAY\u{1}2", "later").await.code, code::SUCCESS);
        let answer = pull_count(&world, &caller, "T", 0, 30).await;
        assert_eq!(bodies(&answer), bodies_sent);
        broker.shutdown().await;

        let broker = world.start(parts(&world)).await;
        let caller = world.caller(&broker);
        assert_eq!(bodies(&pull_count(&world, &caller, "T", 1, 1).await), ["later"]);
        pause(&world, 400).await;
        assert_eq!(caller.number(request::GET_MAX_OFFSET, "T", 0).await, "30");
        assert_eq!(caller.number(request::GET_MAX_OFFSET, "T", 1).await, "1");
        assert_eq!(delay_offsets(&caller).await, "{\"offsetTable\":{1:30,2:1}}");
        broker.shutdown().await;
    });
}

#[test]
fn the_file_of_a_java_broker_is_read_and_a_level_that_left_the_table_is_delivered() {
    block_on(async {
        let world = World::new();
        let mut first = parts(&world);
        first.store.delay_levels_ms = vec![300, 400, 500, 600];
        let broker = world.start(first).await;
        let caller = world.caller(&broker);
        for n in 0..3 {
            let body = format!("a{n}");
            assert_eq!(caller.send("T", 0, "DELAY\u{1}1", &body).await.code, code::SUCCESS);
        }
        pull_count(&world, &caller, "T", 0, 3).await;
        assert_eq!(caller.send("T", 1, "DELAY\u{1}4", "gone level").await.code, code::SUCCESS);
        broker.shutdown().await;
        let path = world.dir.path().join("config/delayOffset.json");
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\n\t\"offsetTable\":{1:3\n\t}\n}");
        std::fs::write(&path, "{\n\t\"offsetTable\":{1:1\n\t}\n}").unwrap();

        let broker = world.start(parts(&world)).await;
        let caller = world.caller(&broker);
        let answer = pull_count(&world, &caller, "T", 0, 5).await;
        assert_eq!(bodies(&answer), ["a0", "a1", "a2", "a1", "a2"], "4.9.3 counts passes");
        assert_eq!(bodies(&pull_count(&world, &caller, "T", 1, 1).await), ["gone level"]);
        broker.shutdown().await;
    });
}

fn faulty() -> (Arc<FaultyDisk>, World) {
    let disk = Arc::new(FaultyDisk::new(Arc::new(RealDisk::new())));
    let world = World::on(disk.clone());
    (disk, world)
}

#[test]
fn a_full_disk_holds_deliveries_back_and_they_come_when_there_is_room() {
    block_on(async {
        let (disk, world) = faulty();
        let mut parts = parts(&world);
        parts.store.segment_size_bytes = 64 << 10;
        parts.store.allocate_retry_interval = Duration::from_millis(20);
        let broker = world.start(parts).await;
        let caller = world.caller(&broker);
        let body = "x".repeat(8 << 10);
        for n in 0..4 {
            let text = format!("{n}{body}");
            assert_eq!(caller.send("T", 0, "DELAY\u{1}2", &text).await.code, code::SUCCESS);
        }
        disk.fail_always(Call::Create, "commitlog", Fault::NoSpace);
        while caller.send("F", 0, "", &body).await.code == code::SUCCESS {}
        pause(&world, 1_300).await;
        let early = caller.number(request::GET_MAX_OFFSET, "T", 0).await;
        assert_ne!(early, "4", "no room for them");
        disk.heal();
        let answer = pull_count(&world, &caller, "T", 0, 4).await;
        let order: Vec<_> = bodies(&answer).iter().map(|b| b.chars().next()).collect();
        assert_eq!(order, [Some('0'), Some('1'), Some('2'), Some('3')]);
        broker.shutdown().await;
    });
}

#[test]
fn a_delivery_that_no_sync_covered_does_not_count_as_progress() {
    block_on(async {
        let (disk, world) = faulty();
        let mut first = parts(&world);
        first.store.flush = FlushMode::Sync;
        let broker = world.start(first).await;
        let caller = world.caller(&broker);
        assert_eq!(caller.send("T", 0, "DELAY\u{1}2", "once").await.code, code::SUCCESS);
        assert_eq!(caller.send("U", 0, "", "x").await.code, code::SUCCESS);
        disk.fail_always(Call::Sync, "commitlog", Fault::Broken);
        pause(&world, 1_300).await;
        broker.shutdown().await;
        disk.heal();
        assert!(!world.dir.path().join("config/delayOffset.json").exists());
        let broker = world.start(parts(&world)).await;
        let caller = world.caller(&broker);
        assert!(!bodies(&pull_count(&world, &caller, "T", 0, 1).await).is_empty());
        broker.shutdown().await;
    });
}

/// Flips a byte of a record's body in the log's first file.
fn damage(world: &World, body: &str, with: &str) {
    let path = world.dir.path().join("commitlog").join("0".repeat(20));
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(body.len()).position(|w| w == body.as_bytes()).unwrap();
    bytes[at..at + with.len()].copy_from_slice(with.as_bytes());
    std::fs::write(&path, bytes).unwrap();
}

async fn restart_over(world: &World, broker: Broker, work: impl FnOnce(&World)) -> Broker {
    broker.shutdown().await;
    work(world);
    world.start(parts(world)).await
}

#[test]
fn a_record_that_can_never_be_delivered_is_stepped_over() {
    block_on(async {
        let world = World::new();
        let broker = world.start(parts(&world)).await;
        let caller = world.caller(&broker);
        for body in ["first", "rotten", "noqueue", "last"] {
            assert_eq!(caller.send("T", 7 % 4, "DELAY\u{1}2", body).await.code, code::SUCCESS);
        }
        // The third one's queue is no number: a record of another broker.
        let broker = restart_over(&world, broker, |world| {
            damage(world, "rotten", "rottes");
            let path = world.dir.path().join("commitlog").join("0".repeat(20));
            let mut bytes = std::fs::read(&path).unwrap();
            let from = bytes.windows(7).position(|w| w == b"noqueue").unwrap();
            let queue = bytes[from..].windows(10).position(|w| w == b"REAL_QID\x013").unwrap();
            bytes[from + queue + 9] = b'x';
            std::fs::write(&path, bytes).unwrap();
        })
        .await;
        let caller = world.caller(&broker);
        assert_eq!(bodies(&pull_count(&world, &caller, "T", 3, 2).await), ["first", "last"]);
        assert_eq!(delay_offsets(&caller).await, "{\"offsetTable\":{2:4}}");
        broker.shutdown().await;
    });
}

#[test]
fn a_record_on_a_bad_sector_is_waited_for_until_what_lies_behind_it_can_be_read() {
    block_on(async {
        let (disk, world) = faulty();
        let mut parts = parts(&world);
        parts.store.tail_cache_size_bytes = 0;
        let broker = world.start(parts).await;
        let caller = world.caller(&broker);
        let body = "y".repeat(3_000);
        let answer = caller.send("T", 0, "DELAY\u{1}2", &body).await;
        let id = answer.get("msgId").unwrap().to_owned();
        let at = u64::from_str_radix(&id[16..], 16).unwrap();
        disk.set_unreadable("commitlog", at + 512..at + 1_024);
        pause(&world, 1_500).await;
        assert_eq!(caller.number(request::GET_MAX_OFFSET, "T", 0).await, "0");
        assert_eq!(delay_offsets(&caller).await, "{\"offsetTable\":{}}", "nothing behind it yet");
        assert_eq!(caller.send("T", 0, "DELAY\u{1}2", "behind").await.code, code::SUCCESS);
        assert_eq!(bodies(&pull_count(&world, &caller, "T", 0, 1).await), ["behind"]);
        assert_eq!(delay_offsets(&caller).await, "{\"offsetTable\":{2:2}}");
        broker.shutdown().await;
    });
}

#[test]
fn a_disk_that_fails_for_a_while_loses_no_delayed_message() {
    block_on(async {
        let (disk, world) = faulty();
        let mut parts = parts(&world);
        parts.store.tail_cache_size_bytes = 0;
        let broker = world.start(parts).await;
        let caller = world.caller(&broker);
        for n in 0..3 {
            let body = format!("m{n}");
            assert_eq!(caller.send("T", 0, "DELAY\u{1}2", &body).await.code, code::SUCCESS);
        }
        disk.set_unreadable("commitlog", 0..1 << 20);
        pause(&world, 1_500).await;
        assert_eq!(caller.number(request::GET_MAX_OFFSET, "T", 0).await, "0");
        disk.heal();
        assert_eq!(bodies(&pull_count(&world, &caller, "T", 0, 3).await), ["m0", "m1", "m2"]);
        broker.shutdown().await;
    });
}

/// As a slave that took over before its master's table came.
#[test]
fn a_topic_that_nobody_knows_is_made_for_a_message_that_waited() {
    block_on(async {
        let world = World::new();
        let broker = world.start(parts(&world)).await;
        let caller = world.caller(&broker);
        for topic in ["T", "Gone"] {
            let sent = caller.send(topic, 1, "DELAY\u{1}2", "late").await;
            assert_eq!(sent.code, code::SUCCESS);
        }
        let delete = Command::request(request::DELETE_TOPIC_IN_BROKER).with_ext("topic", "Gone");
        assert_eq!(caller.call(delete).await.code, code::SUCCESS);
        broker.shutdown().await;
        let config = world.dir.path().join("config");
        for name in ["topics.json", "topics.json.bak"] {
            std::fs::write(config.join(name), "{}").unwrap();
        }
        let broker = world.start(parts(&world)).await;
        let caller = world.caller(&broker);
        let answer = pull_count(&world, &caller, "T", 1, 1).await;
        assert_eq!(bodies(&answer), ["late"]);
        assert!(std::fs::read_to_string(config.join("topics.json")).unwrap().contains("\"T\""));
        // What its producer deleted afterwards does not come back.
        pause(&world, 300).await;
        let gone = caller.pull("Gone", 1, 0, 0).await;
        assert_eq!(gone.code, code::TOPIC_NOT_EXIST);
        broker.shutdown().await;
    });
}

/// As an old master that delivered alone, follows another one, and is made the master again.
#[test]
fn what_a_cut_took_of_deliveries_comes_again() {
    block_on(async {
        let world = World::new();
        let broker = world.start(parts(&world)).await;
        let caller = world.caller(&broker);
        assert_eq!(caller.send("T", 0, "DELAY\u{1}1", "late").await.code, code::SUCCESS);
        let end = broker.store().stats().written;
        pull_count(&world, &caller, "T", 0, 1).await;
        while delay_offsets(&caller).await != "{\"offsetTable\":{1:1}}" {
            pause(&world, 10).await;
        }
        pause(&world, 200).await;
        broker.store().cut_back_at_next_start(end).await.unwrap();
        broker.shutdown().await;
        for _ in 0..2 {
            let broker = world.start(parts(&world)).await;
            let caller = world.caller(&broker);
            let answer = pull_count(&world, &caller, "T", 0, 1).await;
            assert_eq!(bodies(&answer), ["late"]);
            broker.shutdown().await;
        }
    });
}
