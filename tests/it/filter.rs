//! SQL92 filters on a real broker: who may use them, what they let through, what is kept of them.

use crate::broker::{Caller, World, pull_request};
use hotfire::broker::{Broker, Parts};
use hotfire::format::message_unit;
use hotfire::protocol::Command;
use hotfire::protocol::code::{request_code as request, response_code as code};
use hotfire::rt::block_on;
use hotfire::rt::time::Duration;

fn parts(world: &World) -> Parts {
    let mut parts = world.parts();
    parts.broker.filters.by_property = true;
    parts
}

async fn start(world: &World) -> (Broker, Caller) {
    let broker = world.start(parts(world)).await;
    let caller = world.caller(&broker);
    (broker, caller)
}

/// Sends messages with the property `a` of these values.
async fn send(caller: &Caller, topic: &str, values: impl IntoIterator<Item = u32>) {
    for value in values {
        let answer = caller.send(topic, 0, &format!("a\u{1}{value}"), "x").await;
        assert_eq!(answer.code, code::SUCCESS);
    }
}

/// A pull that carries its expression.
fn by_request(topic: &str, expression: &str, offset: i64, suspend_ms: i64) -> Command {
    let mut pull = pull_request(topic, 0, offset, suspend_ms).with_ext("expressionType", "SQL92");
    pull.ext.retain(|(name, _)| name != "subscription");
    pull.with_ext("subscription", expression)
}

/// A pull that goes by the heartbeat.
fn by_group(topic: &str, version: i64, offset: i64) -> Command {
    let mut pull = pull_request(topic, 0, offset, 0);
    pull.ext
        .retain(|(name, _)| !["subscription", "sysFlag", "subVersion"].contains(&name.as_str()));
    pull.with_ext("sysFlag", 0).with_ext("subVersion", version)
}

fn subscription(topic: &str, expression: &str, expression_type: &str, version: i64) -> String {
    serde_json::json!({
        "topic": topic,
        "subString": expression,
        "subVersion": version,
        "expressionType": expression_type,
    })
    .to_string()
}

async fn heartbeat(caller: &Caller, subscriptions: &[String]) {
    let body = format!(
        "{{\"clientID\":\"c\",\"consumerDataSet\":[{{\"groupName\":\"g\",\"consumeType\":\
         \"CONSUME_PASSIVELY\",\"messageModel\":\"CLUSTERING\",\"consumeFromWhere\":\
         \"CONSUME_FROM_FIRST_OFFSET\",\"subscriptionDataSet\":[{}]}}]}}",
        subscriptions.join(",")
    );
    let answer = caller.call(Command::request(request::HEART_BEAT).with_body(body)).await;
    assert_eq!(answer.code, code::SUCCESS);
}

/// The values of `a` in an answer.
fn values(answer: &Command) -> Vec<u32> {
    let views = message_unit::delivered(&answer.body).map(|view| view.unwrap());
    let value = |view: message_unit::View| {
        std::str::from_utf8(view.property("a").unwrap()).unwrap().parse().unwrap()
    };
    views.map(value).collect()
}

fn next(answer: &Command) -> i64 {
    answer.get("nextBeginOffset").unwrap().parse().unwrap()
}

#[test]
fn a_broker_without_property_filters_refuses_each_use_of_them() {
    block_on(async {
        let world = World::new();
        let broker = world.start(world.parts()).await;
        let caller = world.caller(&broker);
        send(&caller, "T", [1]).await;
        let remark = "The broker does not support consumer to filter message by SQL92";
        let answer = caller.call(by_request("T", "a = 1", 0, 0)).await;
        assert_eq!((answer.code, answer.remark.as_deref()), (code::SYSTEM_ERROR, Some(remark)));
        heartbeat(&caller, &[subscription("T", "a = 1", "SQL92", 5)]).await;
        let answer = caller.call(by_group("T", 5, 0)).await;
        assert_eq!((answer.code, answer.remark.as_deref()), (code::SYSTEM_ERROR, Some(remark)));
        let answer = check(&caller, "a = 1", "SQL92").await;
        assert_eq!((answer.code, answer.remark.as_deref()), (code::SYSTEM_ERROR, Some(remark)));
        assert_eq!(check(&caller, "x", "TAG").await.code, code::SUCCESS);
        broker.shutdown().await;
    });
}

async fn check(caller: &Caller, expression: &str, expression_type: &str) -> Command {
    let body = format!(
        "{{\"clientId\":\"c\",\"group\":\"g\",\"subscriptionData\":{}}}",
        subscription("T", expression, expression_type, 1)
    );
    caller.call(Command::request(request::CHECK_CLIENT_CONFIG).with_body(body)).await
}

#[test]
fn a_client_is_told_where_its_expression_is_wrong() {
    block_on(async {
        let world = World::new();
        let (broker, caller) = start(&world).await;
        send(&caller, "T", [1]).await;
        assert_eq!(check(&caller, "a BETWEEN 1 AND 3", "SQL92").await.code, code::SUCCESS);
        let answer = check(&caller, "a BETWEEN 1 OR 3", "SQL92").await;
        assert_eq!(answer.code, code::SUBSCRIPTION_PARSE_FAILED);
        let remark = "Invalid MessageSelector. Line 1, column 13: encountered OR, expected AND";
        assert_eq!(answer.remark.as_deref(), Some(remark));
        assert_eq!(check(&caller, "a", "XPATH").await.code, code::SUBSCRIPTION_PARSE_FAILED);
        for pull in [by_request("T", "a >", 0, 0), by_request("T", "", 0, 0)] {
            let answer = caller.call(pull).await;
            assert_eq!(answer.code, code::SUBSCRIPTION_PARSE_FAILED);
            let remark = answer.remark.unwrap();
            assert!(remark.starts_with("parse the consumer's subscription failed"), "{remark}");
        }
        broker.shutdown().await;
    });
}

#[test]
fn a_pull_gets_what_its_expression_selects_and_where_to_go_on() {
    block_on(async {
        let world = World::new();
        let (broker, caller) = start(&world).await;
        send(&caller, "T", 0..10).await;
        let answer = caller.call(by_request("T", "a BETWEEN 3 AND 5 OR a = 8", 0, 0)).await;
        assert_eq!((answer.code, values(&answer)), (code::SUCCESS, vec![3, 4, 5, 8]));
        assert_eq!(next(&answer), 10);
        let answer = caller.call(by_request("T", "a > 100", 0, 0)).await;
        assert_eq!((answer.code, next(&answer)), (code::PULL_RETRY_IMMEDIATELY, 10));
        assert_eq!(answer.remark.as_deref(), Some("NO_MATCHED_MESSAGE"));
        let answer = caller.call(by_request("T", "a > 100", 10, 0)).await;
        assert_eq!((answer.code, next(&answer)), (code::PULL_NOT_FOUND, 10));
        broker.shutdown().await;
    });
}

#[test]
fn a_sparse_filter_looks_at_a_bounded_number_of_messages() {
    block_on(async {
        let world = World::new();
        let (broker, caller) = start(&world).await;
        send(&caller, "T", 0..150).await;
        let (mut at, mut turns, mut found) = (0, 0, Vec::new());
        while at < 150 {
            let answer = caller.call(by_request("T", "a IN ('70','149')", at, 0)).await;
            assert!(next(&answer) > at && next(&answer) - at <= 96, "{at} to {}", next(&answer));
            (at, turns) = (next(&answer), turns + 1);
            found.extend(values(&answer));
        }
        assert_eq!(found, [70, 149]);
        assert!((2..=5).contains(&turns), "{turns}");
        broker.shutdown().await;
    });
}

#[test]
fn a_parked_pull_wakes_for_what_it_wants_alone() {
    block_on(async {
        let world = World::new();
        let (broker, caller) = start(&world).await;
        send(&caller, "T", [1]).await;
        let parked = caller.call(by_request("T", "a >= 5", 1, 8_000));
        let mut parked = std::pin::pin!(parked);
        let soon = world.clock.mono() + Duration::from_millis(300);
        assert!(world.clock.before(soon, parked.as_mut()).await.is_none());
        send(&caller, "T", [2, 3]).await;
        let soon = world.clock.mono() + Duration::from_millis(300);
        assert!(world.clock.before(soon, parked.as_mut()).await.is_none(), "it wants neither");
        send(&caller, "T", [7]).await;
        let answer = parked.await;
        assert_eq!((answer.code, values(&answer), next(&answer)), (code::SUCCESS, vec![7], 4));
        broker.shutdown().await;
    });
}

#[test]
fn a_group_is_filtered_by_the_newest_version_it_registered() {
    block_on(async {
        let world = World::new();
        let (broker, caller) = start(&world).await;
        send(&caller, "T", 0..6).await;
        let beat = |expression: &str, version| [subscription("T", expression, "SQL92", version)];
        heartbeat(&caller, &beat("a < 2", 5)).await;
        assert_eq!(values(&caller.call(by_group("T", 5, 0)).await), [0, 1]);
        let answer = caller.call(by_group("T", 6, 0)).await;
        assert_eq!(answer.code, code::SUBSCRIPTION_NOT_LATEST);
        heartbeat(&caller, &beat("a > 3", 6)).await;
        assert_eq!(values(&caller.call(by_group("T", 6, 0)).await), [4, 5]);
        heartbeat(&caller, &beat("a < 2", 5)).await;
        assert_eq!(values(&caller.call(by_group("T", 5, 0)).await), [4, 5], "it is older");
        heartbeat(&caller, &beat("a <", 7)).await;
        let answer = caller.call(by_group("T", 7, 0)).await;
        assert_eq!(answer.code, code::FILTER_DATA_NOT_EXIST);
        broker.shutdown().await;
    });
}

#[test]
fn a_parked_pull_goes_by_what_its_group_registers_meanwhile() {
    block_on(async {
        let world = World::new();
        let (broker, caller) = start(&world).await;
        send(&caller, "T", [1]).await;
        let beat = |expression: &str, version| [subscription("T", expression, "SQL92", version)];
        heartbeat(&caller, &beat("a > 100", 5)).await;
        let mut pull = by_group("T", 5, 1);
        pull.ext.retain(|(name, _)| !["sysFlag", "suspendTimeoutMillis"].contains(&name.as_str()));
        let pull = pull.with_ext("sysFlag", 2).with_ext("suspendTimeoutMillis", 8_000);
        let mut parked = std::pin::pin!(caller.call(pull));
        let soon = world.clock.mono() + Duration::from_millis(200);
        assert!(world.clock.before(soon, parked.as_mut()).await.is_none());
        send(&caller, "T", [2]).await;
        heartbeat(&caller, &beat("a < 3", 6)).await;
        send(&caller, "T", [9]).await;
        let answer = parked.await;
        assert_eq!((values(&answer), next(&answer)), (vec![2], 3));
        broker.shutdown().await;
    });
}

#[test]
fn registered_filters_are_saved_in_javas_file_and_loaded_again() {
    block_on(async {
        let world = World::new();
        let (broker, caller) = start(&world).await;
        send(&caller, "T", [1]).await;
        heartbeat(&caller, &[subscription("T", "a > 3", "SQL92", 5)]).await;
        broker.shutdown().await;
        let path = world.dir.path().join("config/consumerFilter.json");
        let text = std::fs::read_to_string(&path).unwrap();
        let saved: serde_json::Value = serde_json::from_str(&text).unwrap();
        let row = &saved["filterDataByTopic"]["T"]["groupFilterData"]["g"];
        assert_eq!(row["expression"], "a > 3");
        assert_eq!((&row["clientVersion"], &row["dead"]), (&5.into(), &true.into()), "{text}");
        assert_eq!(row["bloomFilterData"]["bitNum"], 112);

        let (broker, caller) = start(&world).await;
        // The group is live again by a heartbeat with the filter's own version.
        heartbeat(&caller, &[subscription("T", "a > 3", "SQL92", 5)]).await;
        assert_eq!(caller.call(by_group("T", 5, 0)).await.code, code::PULL_RETRY_IMMEDIATELY);
        broker.shutdown().await;
        let text = std::fs::read_to_string(&path).unwrap();
        let again: serde_json::Value = serde_json::from_str(&text).unwrap();
        let again = &again["filterDataByTopic"]["T"]["groupFilterData"]["g"];
        assert_eq!(again["bornTime"], row["bornTime"], "it is the same filter");
    });
}

#[test]
fn a_retried_message_is_filtered_as_its_topic_was_when_that_is_asked_for() {
    block_on(async {
        for of_retries in [true, false] {
            let world = World::new();
            let mut parts = parts(&world);
            parts.broker.filters.of_retries = of_retries;
            let broker = world.start(parts).await;
            let caller = world.caller(&broker);
            send(&caller, "T", [1]).await;
            heartbeat(
                &caller,
                &[subscription("T", "a > 3", "SQL92", 5), subscription("%RETRY%g", "*", "TAG", 5)],
            )
            .await;
            for value in [1, 5] {
                let properties = format!("RETRY_TOPIC\u{1}T\u{2}a\u{1}{value}");
                let answer = caller.send("%RETRY%g", 0, &properties, "x").await;
                assert_eq!(answer.code, code::SUCCESS, "{:?}", answer.remark);
            }
            let answer = caller.call(by_group("%RETRY%g", 5, 0)).await;
            let expected = if of_retries { vec![5] } else { vec![1, 5] };
            assert_eq!(values(&answer), expected);
            broker.shutdown().await;
        }
    });
}
