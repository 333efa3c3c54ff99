//! Requests whose fields or bodies are missing or odd: they are answered as Java answers them, or
//! with the name of what is wrong. Found by `just differential`.

use crate::broker::{Caller, World, pull_request};
use hotfire::protocol::Command;
use hotfire::protocol::code::{request_code as request, response_code as code};
use hotfire::rt::block_on;

/// Code and remark of the answer.
async fn ask(caller: &Caller, request: Command) -> (i32, String) {
    let answer = caller.call(request).await;
    (answer.code, answer.remark.unwrap_or_default())
}

#[test]
fn a_look_at_a_queue_takes_absent_numbers_for_zero() {
    block_on(async {
        let world = World::new();
        let broker = world.start(world.parts()).await;
        let caller = world.caller(&broker);
        caller.send("T", 0, "", "only").await;
        let look = || Command::request(request::QUERY_CONSUME_QUEUE).with_ext("topic", "T");
        let none = caller.call(look()).await;
        let body = String::from_utf8(none.body.to_vec()).unwrap();
        assert!(body.contains("\"queueData\":[]"), "{body}");
        let (code, remark) = ask(&caller, look().with_ext("index", 1)).await;
        assert_eq!((code, &*remark), (code::SUCCESS, "Index 1 of 0@T is not exist!"));
        let answer = caller.call(look().with_ext("count", 4)).await;
        let body = String::from_utf8(answer.body.to_vec()).unwrap();
        assert!(body.contains("\"maxQueueIndex\":1"), "{body}");
        let nameless = Command::request(request::QUERY_CONSUME_QUEUE).with_ext("count", 4);
        assert_eq!(ask(&caller, nameless).await.1, "the custom field <topic> is null");
        broker.shutdown().await;
    });
}

#[test]
fn a_missing_field_is_named() {
    block_on(async {
        let world = World::new();
        let broker = world.start(world.parts()).await;
        let caller = world.caller(&broker);
        for (request, field) in [
            (request::VIEW_MESSAGE_BY_ID, "offset"),
            (request::GET_TOPIC_STATS_INFO, "topic"),
            (request::GET_CONSUMER_LIST_BY_GROUP, "consumerGroup"),
            (request::GET_CONSUMER_CONNECTION_LIST, "consumerGroup"),
            (request::GET_PRODUCER_CONNECTION_LIST, "producerGroup"),
            (request::GET_CONSUME_STATS, "consumerGroup"),
            (request::QUERY_TOPIC_CONSUME_BY_WHO, "topic"),
        ] {
            let want = (code::SYSTEM_ERROR, format!("the custom field <{field}> is null"));
            assert_eq!(ask(&caller, Command::request(request)).await, want);
        }
        let nobody =
            Command::request(request::GET_CONSUMER_RUNNING_INFO).with_ext("consumerGroup", "g");
        assert_eq!(ask(&caller, nobody).await.1, "The Consumer <g> <null> not online");
        broker.shutdown().await;
    });
}

#[test]
fn a_body_without_what_it_must_name_has_no_effect() {
    block_on(async {
        let world = World::new();
        let broker = world.start(world.parts()).await;
        let caller = world.caller(&broker);
        for (request, body) in [
            (request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, "{\"groupName\":null}"),
            (request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, "{}"),
            (request::LOCK_BATCH_MQ, "{\"clientId\":\"c\",\"mqSet\":[]}"),
            (request::LOCK_BATCH_MQ, "{\"consumerGroup\":\"g\",\"mqSet\":[]}"),
            (request::LOCK_BATCH_MQ, "[\"g\",\"c\",[]]"),
            (request::UNLOCK_BATCH_MQ, "[]"),
            (request::HEART_BEAT, "[]"),
        ] {
            let (code, remark) = ask(&caller, Command::request(request).with_body(body)).await;
            assert_eq!(code, code::SYSTEM_ERROR, "{request} {body}: {remark}");
        }
        let groups = caller.call(Command::request(request::GET_ALL_SUBSCRIPTIONGROUP_CONFIG)).await;
        assert!(!String::from_utf8_lossy(&groups.body).contains("\"groupName\":\"\""));
        broker.shutdown().await;
    });
}

#[test]
fn a_tag_expression_without_a_tag_is_refused() {
    block_on(async {
        let world = World::new();
        let broker = world.start(world.parts()).await;
        let caller = world.caller(&broker);
        caller.send("T", 0, "TAGS\u{1}a", "only").await;
        for (expression, want) in [
            ("||", code::SUBSCRIPTION_PARSE_FAILED),
            ("||||", code::SUBSCRIPTION_PARSE_FAILED),
            ("", code::SUCCESS),
            ("a ||", code::SUCCESS),
            (" || ", code::PULL_RETRY_IMMEDIATELY),
        ] {
            let pull = pull_request("T", 0, 0, 0).with_ext("subscription", expression);
            assert_eq!(ask(&caller, pull).await.0, want, "{expression:?}");
        }
        broker.shutdown().await;
    });
}
