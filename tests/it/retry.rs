//! Messages that consumers send back: growing levels, limits, dead letters.

use super::broker::{Caller, World, send_request};
use hotfire::format::message_unit;
use hotfire::format::properties::Properties;
use hotfire::protocol::Command;
use hotfire::protocol::code::{request_code as request, response_code as code};
use hotfire::rt::block_on;
use hotfire::rt::time::Duration;

/// One stored message.
#[derive(Debug)]
struct Got {
    physical: u64,
    body: String,
    reconsume_times: i32,
    queue: u32,
    properties: Properties,
    offset_id: String,
}

async fn pull(caller: &Caller, topic: &str, queue: i32) -> Vec<Got> {
    let answer = caller.pull(topic, queue, 0, 0).await;
    let got = |view: message_unit::View| Got {
        physical: view.physical_offset().0,
        body: String::from_utf8_lossy(view.body()).into_owned(),
        reconsume_times: view.reconsume_times(),
        queue: view.queue_id().0,
        properties: Properties::parse(view.properties()),
        offset_id: view.offset_id(),
    };
    message_unit::delivered(&answer.body).map(|unit| got(unit.unwrap())).collect()
}

async fn pull_count(world: &World, caller: &Caller, topic: &str, count: usize) -> Vec<Got> {
    for _ in 0..200 {
        let got = pull(caller, topic, 0).await;
        if got.len() >= count {
            return got;
        }
        world.clock.sleep_until(world.clock.mono() + Duration::from_millis(20)).await;
    }
    panic!("{topic} has not {count} messages");
}

fn send_back(group: &str, offset: u64, level: i32) -> Command {
    Command::request(request::CONSUMER_SEND_MSG_BACK)
        .with_ext("group", group)
        .with_ext("offset", offset)
        .with_ext("delayLevel", level)
        .with_ext("originTopic", "T")
        .with_ext("unitMode", false)
}

fn parts(world: &World, levels_ms: &[i64]) -> hotfire::broker::Parts {
    let mut parts = world.parts();
    parts.store.delay_levels_ms = levels_ms.to_vec();
    parts
}

#[test]
fn a_message_is_retried_as_often_as_it_may_be_and_then_dead() {
    block_on(async {
        let world = World::new();
        let broker = world.start(parts(&world, &[9_000_000, 9_000_000, 50, 60, 70])).await;
        let caller = world.caller(&broker);
        caller.heartbeat("g", "T", 1).await;
        let properties = "TAGS\u{1}TagA\u{2}UNIQ_KEY\u{1}0123456789ABCDEF0123456789ABCDEF";
        caller.send("T", 0, properties, "hard").await;
        let first = pull(&caller, "T", 0).await.remove(0);
        let mut at = first.physical;
        for times in 1..=3 {
            let back = send_back("g", at, 0)
                .with_ext("originMsgId", "0123456789ABCDEF0123456789ABCDEF")
                .with_ext("maxReconsumeTimes", 3);
            let answer = caller.call(back).await;
            assert_eq!((answer.code, answer.remark.as_deref()), (code::SUCCESS, None));
            let got = pull_count(&world, &caller, "%RETRY%g", times).await.remove(times - 1);
            let of = |name| got.properties.get(name);
            assert_eq!((&*got.body, got.reconsume_times), ("hard", times as i32), "{got:?}");
            assert_eq!((of("RETRY_TOPIC"), of("REAL_TOPIC")), (Some("T"), Some("%RETRY%g")));
            assert_eq!(of("ORIGIN_MESSAGE_ID"), Some(&*first.offset_id));
            let level = (2 + times).to_string();
            assert_eq!((of("DELAY"), of("WAIT")), (Some(&*level), Some("false")));
            at = got.physical;
        }
        let back = send_back("g", at, 0).with_ext("maxReconsumeTimes", 3);
        assert_eq!(caller.call(back).await.code, code::SUCCESS);
        let dead = pull_count(&world, &caller, "%DLQ%g", 1).await.remove(0);
        assert_eq!((&*dead.body, dead.reconsume_times, dead.queue), ("hard", 4, 0));
        assert_eq!(dead.properties.get("DELAY"), Some("0"));
        assert_eq!(caller.number(request::GET_MAX_OFFSET, "%RETRY%g", 0).await, "3");
        broker.shutdown().await;
    });
}

#[test]
fn a_negative_level_is_dead_at_once_and_the_groups_own_limit_counts() {
    block_on(async {
        let world = World::new();
        let broker = world.start(parts(&world, &[50])).await;
        let caller = world.caller(&broker);
        caller.send("T", 0, "", "x").await;
        let at = pull(&caller, "T", 0).await.remove(0).physical;
        assert_eq!(caller.call(send_back("g", at, -1)).await.code, code::SUCCESS);
        assert_eq!(pull(&caller, "%DLQ%g", 0).await.len(), 1);
        let config = "{\"groupName\":\"g2\",\"retryMaxTimes\":0,\"retryQueueNums\":3}";
        let update = Command::request(request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP);
        assert_eq!(caller.call(update.with_body(config)).await.code, code::SUCCESS);
        assert_eq!(caller.call(send_back("g2", at, 0)).await.code, code::SUCCESS);
        assert_eq!(pull(&caller, "%DLQ%g2", 0).await.len(), 1);
        let config = "{\"groupName\":\"g3\",\"retryQueueNums\":0}";
        let update = Command::request(request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP);
        assert_eq!(caller.call(update.with_body(config)).await.code, code::SUCCESS);
        assert_eq!(caller.call(send_back("g3", at, 0)).await.code, code::SUCCESS, "dropped");
        assert_eq!(caller.number(request::GET_MAX_OFFSET, "%RETRY%g3", 0).await, "0");
        broker.shutdown().await;
    });
}

#[test]
fn what_cannot_be_taken_back_is_refused_with_a_reason() {
    block_on(async {
        let world = World::new();
        let mut parts = parts(&world, &[50]);
        parts.broker.groups.auto_create = false;
        let broker = world.start(parts).await;
        let caller = world.caller(&broker);
        let update = Command::request(request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP);
        caller.call(update.with_body("{\"groupName\":\"g\"}")).await;
        let unique = "UNIQ_KEY\u{1}0123456789ABCDEF0123456789ABCDEF";
        caller.send("T", 0, unique, "x").await;
        let at = pull(&caller, "T", 0).await.remove(0).physical;
        let answer = caller.call(send_back("unknown", at, 0)).await;
        assert_eq!(answer.code, code::SUBSCRIPTION_GROUP_NOT_EXIST);
        let answer = caller.call(send_back("g", at + 1, 0)).await;
        let remark = answer.remark.unwrap_or_default();
        assert_eq!(answer.code, code::SYSTEM_ERROR);
        assert_eq!(remark, format!("look message by offset failed, {}", at + 1));
        let other = "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF";
        let answer = caller.call(send_back("g", at, 0).with_ext("originMsgId", other)).await;
        assert_eq!(answer.code, code::SYSTEM_ERROR);
        assert!(answer.remark.unwrap_or_default().contains("another message"));
        broker.shutdown().await;
    });
}

#[test]
fn the_fallback_by_a_normal_send_counts_and_ends_in_the_dead_letters() {
    block_on(async {
        let world = World::new();
        let broker = world.start(parts(&world, &[50, 50, 50])).await;
        let caller = world.caller(&broker);
        caller.heartbeat("g", "T", 1).await;
        let fallback = |times: i32| {
            send_request("%RETRY%g", 0, "DELAY\u{1}3\u{2}RETRY_TOPIC\u{1}T", "again")
                .with_ext("j", times)
                .with_ext("l", 2)
        };
        assert_eq!(caller.call(fallback(1)).await.code, code::SUCCESS);
        let got = pull_count(&world, &caller, "%RETRY%g", 1).await.remove(0);
        assert_eq!((&*got.body, got.reconsume_times), ("again", 1));
        assert_eq!(caller.call(fallback(2)).await.code, code::SUCCESS);
        let dead = pull(&caller, "%DLQ%g", 0).await.remove(0);
        assert_eq!((&*dead.body, dead.properties.get("DELAY")), ("again", Some("0")));
        broker.shutdown().await;
    });
}
